"""Integer LIF neurons behind 8-bit weights, as lava-nc 0.10.0 computes them in its fixed-point models.

Weights (Dense), t the time step, s the spikes, << and >> shifts (an exponent below 0 shifts right, towards -infinity):

    a_t = (W s_{t-1}) << exponent                                            spikes arrive one step later

Neurons (LIF), all state integer, D(x, k) = sign(x) ((|x| (4096 - k)) >> 12):

    u_t = wrap( D(u_{t-1}, du + 1) + sum of (a_t << 6) )                     to 24 bits, by +-2^24, once
    v_t = clip( D(v_{t-1}, dv) + u_t + (bias_mantissa << bias_exponent) )    to +-(2^23 - 1)
    s_t = v_t > threshold << 6,    v_t = 0 where s_t

Source: lava.proc.lif.models (PyLifModelBitAcc), lava.proc.dense.models (PyDenseModelBitAcc) of lava-nc 0.10.0; Davies
et al. 2018, IEEE Micro 38(1), 82-99, doi:10.1109/MM.2018.112130359.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisylearn.backends.loihi.given import finite_array
from noisylearn.ground.errors import UserError

Integers = NDArray[np.int32]
Spikes = NDArray[np.bool_]

DECAY_ONE = 4096
SHIFT = 6  # of what synapses send, and of the threshold
LIMIT = 2**23  # of current and voltage
WEIGHT_MAX = 254  # 8 bits with the sign: even numbers, and -256 is left out
EXPONENTS = range(-8, 8)
THRESHOLD_MAX = 2**17 - 1
BIAS_MAX, BIAS_EXPONENTS = 2**12 - 1, range(8)
ACCUMULATOR_LIMIT = 2**15  # the chip's sum of a step has 16 bits; Lava's has 32


@dataclass(frozen=True, eq=False)
class Dense:
    """Weights of a connection: integers times 2^exponent.

    Args:
        weight: even integers from -254 to 254, (targets, sources).
        exponent: -8 to 7.

    Raises:
        UserError: weights or exponent out of range.
    """

    weight: Integers
    exponent: int

    def __post_init__(self) -> None:
        worst = int(np.abs(self.weight).max(initial=0))
        if worst > WEIGHT_MAX or (self.weight % 2).any() or self.exponent not in EXPONENTS:
            raise UserError(
                f"weights up to {worst}, exponent {self.exponent}: give even integers from -{WEIGHT_MAX} to "
                f"{WEIGHT_MAX}, and an exponent from -8 to 7"
            )

    def send(self, spikes: Spikes) -> Integers:
        """(W s) << exponent.

        Args:
            spikes: (batch, sources).

        Returns:
            Integers, (batch, targets).
        """
        total = (spikes.astype(np.float64) @ self.weight.T.astype(np.float64)).astype(np.int64)  # exact, and BLAS
        return (total << self.exponent if self.exponent > 0 else total >> -self.exponent).astype(np.int32)


@dataclass(frozen=True, eq=False)
class Lif:
    """A population of LIF neurons and the connections that end at it.

    Args:
        into: weights from the population before it, or from the input.
        du: the current keeps (4095 - du) / 4096 of itself in a step; 0 to 4095.
        dv: the voltage keeps (4096 - dv) / 4096 of itself in a step; 0 to 4095.
        threshold: in units of 64; 0 to 2^17 - 1.
        bias_mantissa: of what is added to the voltage at every step, (n,); up to 4095 in size.
        bias_exponent: 0 to 7.
        u_start: current before the first step, (n,).
        v_start: voltage before the first step, (n,).
        recurrent: weights from the population to itself, or None.

    Raises:
        UserError: a number out of range.
    """

    into: Dense
    du: int
    dv: int
    threshold: int
    bias_mantissa: Integers
    bias_exponent: int
    u_start: Integers
    v_start: Integers
    recurrent: Dense | None = None

    def __post_init__(self) -> None:
        within = {
            "du": (self.du, 0, DECAY_ONE - 1),
            "dv": (self.dv, 0, DECAY_ONE - 1),
            "threshold": (self.threshold, 0, THRESHOLD_MAX),
            "bias_exponent": (self.bias_exponent, BIAS_EXPONENTS[0], BIAS_EXPONENTS[-1]),
            "bias_mantissa": (int(np.abs(self.bias_mantissa).max(initial=0)), 0, BIAS_MAX),
            "u_start": (int(np.abs(self.u_start).max(initial=0)), 0, LIMIT - 1),
            "v_start": (int(np.abs(self.v_start).max(initial=0)), 0, LIMIT - 1),
        }
        for name, (value, low, high) in within.items():
            if not low <= value <= high:
                raise UserError(f"{name} = {value} of integer neurons: give {low} to {high}")

    @property
    def bias(self) -> Integers:
        """Addition to the voltage at every step, (n,)."""
        return (self.bias_mantissa << self.bias_exponent).astype(np.int32)


@dataclass(frozen=True, eq=False)
class LifNetwork:
    """LIF populations in a chain, and a readout outside the chip.

    Args:
        layers: populations in order from the input.
        readout: weights whose sums leave the chip for the readout, or None.
    """

    layers: tuple[Lif, ...]
    readout: Dense | None = None


@dataclass(frozen=True)
class Counts:
    """How often a number did not fit its range, over all neurons, steps and samples.

    Args:
        current_wraps: a current came out with the other sign.
        voltage_saturations: a voltage was clipped to its limit.
        accumulator_overflows: a sum of one step beyond 16 bits, which Lava keeps and the chip does not.
    """

    current_wraps: int = 0
    voltage_saturations: int = 0
    accumulator_overflows: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def any(self) -> bool:
        """Whether anything did not fit."""
        return any(getattr(self, f.name) for f in fields(self))


@dataclass(frozen=True, eq=False)
class LifResult:
    """What a LIF network computed.

    Args:
        spikes: of every layer, bool (time, batch, n).
        readout: sums sent to the readout, integers (time, batch, n_out), or None without a readout.
        counts: what did not fit its range.
    """

    spikes: tuple[Spikes, ...]
    readout: Integers | None
    counts: Counts


def run_lif(network: LifNetwork, inputs: NDArray[Any]) -> LifResult:
    """Run a LIF network over input spikes; every sample starts from the initial state.

    Layer l = 1, 2, ... responds to the input of step t at step t + l, and the readout one step after the last layer.

    Args:
        network: the integers.
        inputs: spikes, 0 or 1, (time, batch, n_in).

    Raises:
        UserError: inputs that are not all 0 or 1, or of another shape.
    """
    given = _checked(network, finite_array("input spikes", inputs))
    batch, counts = given.shape[1], Counts()
    states = [_State(layer, batch) for layer in network.layers]
    sizes = [len(layer.bias_mantissa) for layer in network.layers]
    spikes = [np.zeros((len(given), batch, size), dtype=bool) for size in sizes]
    readout = _Lagging(network.readout, batch) if network.readout is not None else None
    sums = []
    for t, below in enumerate(given):
        for state, kept in zip(states, spikes, strict=True):
            below = kept[t] = state.step(below)
        if readout is not None:
            sums.append(readout.step(below))
    for state in states:
        counts = counts + state.counts
    if readout is not None:
        counts = counts + Counts(accumulator_overflows=readout.overflows)
    return LifResult(tuple(spikes), np.stack(sums) if readout is not None else None, counts)


def _checked(network: LifNetwork, inputs: NDArray[Any]) -> Spikes:
    """The inputs as bools, if they are spikes of the right shape."""
    n_in = network.layers[0].into.weight.shape[1]
    if inputs.ndim != 3 or inputs.shape[2] != n_in or not len(inputs):
        raise UserError(f"input spikes of shape {inputs.shape}: give (time, batch, {n_in})")
    spikes = inputs.astype(bool)
    if not np.array_equal(spikes, inputs):
        raise UserError(
            "input spikes are not all 0 or 1: integer neurons take spikes; encode the input, for example in time"
        )
    return spikes


class _Lagging:
    """Weights whose sums arrive one step later."""

    def __init__(self, dense: Dense, batch: int) -> None:
        self._dense, self.overflows = dense, 0
        self.arriving = np.zeros((batch, len(dense.weight)), dtype=np.int32)

    def step(self, spikes: Spikes) -> Integers:
        """Sums that arrive now; those of these spikes arrive at the next step."""
        arriving, self.arriving = self.arriving, self._dense.send(spikes)
        self.overflows += int((np.abs(self.arriving.astype(np.int64)) >= ACCUMULATOR_LIMIT).sum())
        return arriving


class _State:
    """Current and voltage of one population, for every sample of a batch."""

    def __init__(self, layer: Lif, batch: int) -> None:
        self._layer, self._into = layer, _Lagging(layer.into, batch)
        self._back = None if layer.recurrent is None else _Lagging(layer.recurrent, batch)
        self._u, self._v = (np.tile(start.astype(np.int32), (batch, 1)) for start in (layer.u_start, layer.v_start))
        self._wraps = self._saturations = 0

    @property
    def counts(self) -> Counts:
        """What did not fit its range so far."""
        overflows = self._into.overflows + (0 if self._back is None else self._back.overflows)
        return Counts(self._wraps, self._saturations, overflows)

    def step(self, below: Spikes) -> Spikes:
        """One step: spikes of the population from the spikes of the layer below."""
        layer, arriving = self._layer, self._into.step(below)
        sums = arriving if self._back is None else arriving + self._back.arriving
        current = _decayed(self._u, layer.du + 1) + (sums << SHIFT)
        self._u = np.where(current > LIMIT, current - 2 * LIMIT, current)
        self._u = np.where(self._u <= -LIMIT, current + 2 * LIMIT, self._u)
        self._wraps += int((self._u != current).sum())
        voltage = _decayed(self._v, layer.dv) + self._u + layer.bias
        self._v = np.clip(voltage, -LIMIT + 1, LIMIT - 1)
        self._saturations += int((self._v != voltage).sum())
        spikes = self._v > layer.threshold << SHIFT
        self._v[spikes] = 0
        if self._back is not None:
            self._back.step(spikes)
        return spikes


def _decayed(x: Integers, lost: int) -> Integers:
    """D(x, lost): (4096 - lost) / 4096 of x, rounded towards zero."""
    kept = x.astype(np.int64) * (DECAY_ONE - lost)
    return (np.sign(kept) * (np.abs(kept) >> 12)).astype(np.int32)
