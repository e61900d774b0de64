"""A network in integers: populations that send graded spikes, and connections of 8-bit weights.

Every unit is a power of two, so that shifts convert between them. In units of the float network: a pre-activation is
`unit` x integer, an activity `payload_unit` x payload, a weight the `unit` of its connection x integer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import log2
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisylearn.backends.loihi.arithmetic import Integers, shifted
from noisylearn.backends.loihi.given import finite_array
from noisylearn.backends.loihi.saturation import Saturation
from noisylearn.backends.netlist.rate import Netlist
from noisylearn.ground.errors import UserError
from noisylearn.profiles.cores import Cores

Array = NDArray[np.float64]
LARGEST = 2.0**52  # up to which all floats are still integers


@dataclass(frozen=True)
class Register:
    """Noise of a neuron: floor((r - 128 + 64 mantissa) 2^shift) units of its pre-activation, r uniform over 0..255.

    Args:
        mantissa: shifts the mean, in steps of 64.
        shift: power of two.
    """

    mantissa: int
    shift: int

    def values(self) -> Integers:
        """All 256 values, equally likely, (256,)."""
        return shifted(np.arange(256) - 128 + 64 * self.mantissa, self.shift)


@dataclass(frozen=True)
class FixedPopulation:
    """Neurons that run the same program.

    Args:
        name: of the population.
        size: number of neurons.
        activation: name; "identity" of the input and the readout, else "relu".
        stage: number of connections between the input (0) and here.
        unit: of a pre-activation, in units of the float network; of the input: unused.
        payload_unit: of an activity, in units of the float network.
        noise: of every neuron.
        constant: payload of one more source that never changes, whose weights are the biases of the connections that
            start here; 0 where there are none.
        split: whether it sends the positive and the negative part of its values, one after the other, because payloads
            have no sign.
    """

    name: str
    size: int
    activation: str
    stage: int
    unit: float
    payload_unit: float
    noise: Register
    constant: int = 0
    split: bool = False

    @property
    def width(self) -> int:
        """Number of payloads that it sends along its direct connections."""
        return self.size * (2 if self.split else 1) + (self.constant > 0)

    @property
    def payload_shift(self) -> int:
        """Power of two from pre-activations to payloads."""
        return round(log2(self.unit / self.payload_unit))

    @property
    def noise_variance(self) -> float:
        """Variance of the integers that are added, in squared units of the float network's pre-activation."""
        return float(self.noise.values().var()) * self.unit**2


@dataclass(frozen=True, eq=False)
class FixedConnection:
    """Integer weights of one connection.

    Args:
        name: of the connection.
        source: population where it starts.
        target: population where it ends.
        weights: integers (targets, payloads); the last column is the bias where `has_bias` is set.
        unit: of a weight, in units of the float network.
        exponent: the sum over the connection is shifted up by it, to units of the target's pre-activation.
        delayed: whether it carries the payloads of the previous sample.
        has_bias: whether the last column is a bias.
        largest_error: largest rounding error of a weight, in units of the float network.
    """

    name: str
    source: str
    target: str
    weights: Integers
    unit: float
    exponent: int
    delayed: bool
    has_bias: bool
    largest_error: float


@dataclass(frozen=True, eq=False)
class FixedNetwork:
    """A network in integers.

    Args:
        populations: from the input (first) to the readout (last).
        connections: in order of the float network.
        cores: widths of all numbers, in bits.
        origin: the float network.
    """

    populations: tuple[FixedPopulation, ...]
    connections: tuple[FixedConnection, ...]
    cores: Cores
    origin: Netlist

    @property
    def neurons(self) -> tuple[FixedPopulation, ...]:
        """Every population except the input."""
        return self.populations[1:]

    @property
    def depth(self) -> int:
        """Number of connections between the input and the readout."""
        return self.populations[-1].stage

    @property
    def is_recurrent(self) -> bool:
        """Whether a connection is delayed."""
        return any(connection.delayed for connection in self.connections)

    def population(self, name: str) -> FixedPopulation:
        """The population of this name."""
        return next(p for p in self.populations if p.name == name)

    def into(self, population: str) -> list[FixedConnection]:
        """The connections that end at a population."""
        return [connection for connection in self.connections if connection.target == population]

    def encoded(self, inputs: Array, saturation: Saturation | None = None) -> Integers:
        """Payloads of inputs; what does not fit is clipped, and counted.

        Args:
            inputs: (samples, features), in units of the float network.
            saturation: counts what is clipped; None counts nothing.

        Returns:
            Payloads, integers (samples, width).

        Raises:
            UserError: inputs that are not finite or of another shape, or negative ones where the network was quantised
                with inputs from 0 up.
        """
        inputs = finite_array("inputs", inputs).astype(np.float64)
        population = self.populations[0]
        if inputs.ndim != 2 or inputs.shape[1] != population.size:
            raise UserError(f"inputs of shape {inputs.shape}: the network takes (samples, {population.size})")
        if not population.split and (inputs < 0).any():
            raise UserError("inputs below zero, but payloads have no sign: quantise with inputs that include some")
        values = np.concatenate([np.maximum(inputs, 0), np.maximum(-inputs, 0)], 1) if population.split else inputs
        payloads = np.rint(np.minimum(values / population.payload_unit, LARGEST)).astype(np.int64)
        counts = saturation or Saturation()
        payloads = counts.clip("input payloads", payloads, 0, 2**self.cores.payload_bits - 1)
        return with_constant(payloads, population)

    def to_netlist(self, weights: Mapping[str, Integers]) -> Netlist:
        """The float network with the values of integer weights.

        Args:
            weights: connection -> integers (targets, payloads).

        Raises:
            UserError: signed inputs were split, so that two integer weights stand for each weight.
        """
        if self.populations[0].split:
            raise UserError(
                "signed inputs were split: two integer weights stand for each weight; shift the inputs above 0"
            )
        connections = []
        for fixed, original in zip(self.connections, self.origin.connections, strict=True):
            values = weights[fixed.name] * fixed.unit
            columns, bias = values, None
            if fixed.has_bias:
                source = self.population(fixed.source)
                columns, bias = values[:, :-1], values[:, -1] * source.constant * source.payload_unit
            connections.append(replace(original, weight=columns, bias=bias))
        return replace(self.origin, connections=tuple(connections))

    def report(self) -> str:
        """Text: units and rounding errors, one line for each population and connection."""
        lines = []
        for p in self.populations:
            what = (
                ""
                if p.stage == 0
                else f"pre-activation LSB 2^{log2(p.unit):.0f}, noise sd {p.noise_variance**0.5:.3g}, "
            )
            sent = "read in full" if p.stage == self.depth else f"payload LSB 2^{log2(p.payload_unit):.0f}"
            lines.append(f"{p.name}: {p.size} units, {what}{sent}{', split by sign' if p.split else ''}")
        for c in self.connections:
            largest = 2**self.cores.weight_bits * c.unit
            lines.append(
                f"{c.name}: weight LSB 2^{log2(c.unit):.0f}, exponent {c.exponent}, range +-{largest:g}, "
                f"largest rounding error {c.largest_error:.2g}"
            )
        return "\n".join(lines)


def with_constant(payloads: Integers, population: FixedPopulation) -> Integers:
    """Payloads with the constant payload appended, if the population has one.

    Args:
        payloads: (..., units).
        population: which sends them.

    Returns:
        (..., units), or (..., units + 1).
    """
    if not population.constant:
        return payloads
    constant = np.full((*payloads.shape[:-1], 1), population.constant, dtype=payloads.dtype)
    return np.concatenate([payloads, constant], -1)


def encoded_samples(
    network: FixedNetwork, inputs: Array, targets: Array, rates: Array | None, saturation: Saturation
) -> tuple[Integers, NDArray[Any], Array]:
    """Payloads, targets and learning rates of samples, checked to be finite and equally many.

    Args:
        network: the network in integers.
        inputs: (samples, features), in units of the float network.
        targets: (samples, ...).
        rates: relative learning rates, (samples,); None for 1.
        saturation: counts what is clipped.

    Returns:
        Payloads, integers (samples, width), targets (samples, ...) and rates (samples,).

    Raises:
        UserError: numbers that are not finite, inputs of another shape, or not as many inputs, targets and rates.
    """
    payloads, targets = network.encoded(inputs, saturation), np.atleast_1d(finite_array("targets", targets))
    rates = np.ones(len(payloads)) if rates is None else np.atleast_1d(finite_array("rates", rates)).astype(np.float64)
    if not len(payloads) == len(targets) == len(rates):
        raise UserError(
            f"{len(payloads)} inputs, {len(targets)} targets, {len(rates)} rates; give one of each for every sample"
        )
    return payloads, targets, rates
