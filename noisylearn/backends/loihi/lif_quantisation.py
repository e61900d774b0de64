"""A float spiking network in the integers of `noisylearn.backends.loihi.lif`, and its outputs from their results.

One scale S converts a layer's numbers:

    v_int = S v,    threshold_int = S threshold / 64,    W_int 2^exponent = S W / 64
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisylearn.backends.loihi.given import finite_array
from noisylearn.backends.loihi.lif import (
    ACCUMULATOR_LIMIT,
    BIAS_EXPONENTS,
    BIAS_MAX,
    DECAY_ONE,
    EXPONENTS,
    LIMIT,
    SHIFT,
    THRESHOLD_MAX,
    WEIGHT_MAX,
    Dense,
    Lif,
    LifNetwork,
    LifResult,
    run_lif,
)
from noisylearn.backends.netlist.spiking import SpikingLayer, SpikingNetlist
from noisylearn.ground.errors import UserError

Array = NDArray[np.float64]
UNIT = 2**SHIFT


@dataclass(frozen=True, eq=False)
class QuantisedLif:
    """A spiking network in integers, and the readout outside the chip,

        y_t = beta y_{t-1} + a_t / readout_scale + readout_bias

    of the sums a_t that leave the chip.

    Args:
        network: the integers.
        scales: S of every layer.
        readout_scale: units of a_t for each unit of the float network.
        readout_bias: (n_out,).
        readout_beta: decay per step, a number or (n_out,).
        clipped: number of biases and initial values that did not fit and were clipped to the limit.
    """

    network: LifNetwork
    scales: tuple[float, ...]
    readout_scale: float
    readout_bias: Array
    readout_beta: Array
    clipped: int

    @property
    def lag(self) -> int:
        """Steps from an input to the readout's response."""
        return len(self.network.layers) + 1

    def padded(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """Inputs with silence appended, so that the response to the last step is computed as well.

        Args:
            inputs: spikes, (time, batch, n_in).

        Returns:
            (time + lag, batch, n_in).
        """
        return np.concatenate([inputs, np.zeros((self.lag, *inputs.shape[1:]), dtype=inputs.dtype)])

    def answer(self, result: LifResult) -> tuple[tuple[NDArray[np.bool_], ...], Array]:
        """Spikes and outputs aligned with the steps of the input.

        Args:
            result: of a run over `padded` inputs.

        Returns:
            Spikes of every layer, bool (time, batch, n), and outputs (time, batch, n_out).
        """
        n_steps = len(result.spikes[0]) - self.lag
        spikes = tuple(of[i : i + n_steps] for i, of in enumerate(result.spikes, start=1))
        assert result.readout is not None
        membrane, outputs = 0.0 * self.readout_bias, []
        for sums in result.readout[self.lag :]:
            membrane = self.readout_beta * membrane + sums / self.readout_scale + self.readout_bias
            outputs.append(membrane)
        return spikes, np.stack(outputs)

    def __call__(self, inputs: NDArray[Any]) -> tuple[Array, LifResult]:
        """Run the network in the emulator.

        Args:
            inputs: spikes, 0 or 1, (time, batch, n_in).

        Returns:
            Outputs (time, batch, n_out), and the result of the run with its counts.

        Raises:
            UserError: inputs that are not all 0 or 1, or of another shape.
        """
        result = run_lif(self.network, self.padded(finite_array("input spikes", inputs)))
        return self.answer(result)[1], result


def quantise_spiking(netlist: SpikingNetlist, approximate_reset: bool = False) -> QuantisedLif:
    """The integers of a spiking network.

    The scale of a layer uses all 8 bits for its largest weight, and as many more bits of voltage as leave room for the
    worst input. Decays are rounded to 1/4096.

    Args:
        netlist: the float network, from `from_spiking`.
        approximate_reset: treat neurons that subtract the threshold at a spike as if they were reset to zero; their
            spikes then differ.

    Raises:
        UserError: integer LIF neurons cannot represent the network: a reset that subtracts the threshold (without
            `approximate_reset`), decays or thresholds that differ within a layer, or numbers out of range or not
            finite.
    """
    _check_finite(netlist)
    layers, scales, clipped = [], [], 0
    for depth, layer in enumerate(netlist.layers, start=1):
        if layer.reset != "zero" and not approximate_reset:
            raise UserError(
                f"layer '{layer.name}' subtracts the threshold at a spike; LIF neurons of Lava and Loihi are reset to "
                "zero: make the network with reset='zero', or accept other spikes with approximate_reset=True"
            )
        found, scale, n_clipped = _layer(layer, depth)
        layers.append(found)
        scales.append(scale)
        clipped += n_clipped
    weight = netlist.readout.folded.astype(np.float64)
    readout_scale = WEIGHT_MAX / _largest(weight)
    bias = np.zeros(len(weight)) if netlist.readout.bias is None else netlist.readout.bias.astype(np.float64)
    network = LifNetwork(tuple(layers), _dense(weight, readout_scale))
    beta = netlist.readout_beta.astype(np.float64)
    return QuantisedLif(network, tuple(scales), readout_scale, bias, beta, clipped)


def _check_finite(netlist: SpikingNetlist) -> None:
    """Refuse numbers that no integer can stand for."""
    for layer in netlist.layers:
        finite_array(
            f"decays and thresholds of layer '{layer.name}'",
            [np.max(np.abs(value)) for value in (layer.alpha, layer.beta, layer.threshold) if value is not None],
        )
    ends = [(layer.name, w) for layer in netlist.layers for w in (layer.into, layer.recurrent) if w is not None]
    for name, weights in (*ends, ("readout", netlist.readout)):
        finite_array(f"weights of layer '{name}'", weights.folded)
        finite_array(f"biases of layer '{name}'", 0.0 if weights.bias is None else weights.bias)


def _layer(layer: SpikingLayer, depth: int) -> tuple[Lif, float, int]:
    """Integers of a layer, its scale, and how many numbers were clipped to their limit."""
    alpha = 0.0 if layer.alpha is None else _one(layer.name, "alpha", layer.alpha)
    beta, threshold = (_one(layer.name, key, getattr(layer, key)) for key in ("beta", "threshold"))
    alpha, beta = min(max(alpha, 0.0), 1.0), min(max(beta, 0.0), 1.0)
    weight, bias = layer.into.folded.astype(np.float64), np.zeros(layer.size)
    for given in (layer.into, layer.recurrent):
        bias = bias if given is None or given.bias is None else bias + given.bias
    back = None if layer.recurrent is None else layer.recurrent.folded.astype(np.float64)
    du, dv = DECAY_ONE - 1 - round(alpha * DECAY_ONE), min(DECAY_ONE - round(beta * DECAY_ONE), DECAY_ONE - 1)
    alpha, beta = (DECAY_ONE - 1 - max(du, 0)) / DECAY_ONE, (DECAY_ONE - dv) / DECAY_ONE
    drive = bias / (1 - alpha)  # a current that is fed for ever ends here; LIF neurons add their bias to the voltage
    scale = _scale(layer.name, weight, back, threshold, drive, alpha, beta)
    exponent = next(
        (e for e in BIAS_EXPONENTS if np.abs(drive * scale).max() < (BIAS_MAX + 0.5) * 2**e), BIAS_EXPONENTS[-1]
    )
    mantissa = np.rint(drive * scale / 2.0**exponent)
    u_start, v_start = _starts(drive * scale, alpha, beta, depth)
    limits = (BIAS_MAX, BIAS_MAX), (LIMIT - 1, LIMIT - 1), (LIMIT - 1, round(threshold * scale))
    bounded = [np.clip(x, -low, high) for x, (low, high) in zip((mantissa, u_start, v_start), limits, strict=True)]
    clipped = sum(int((a != b).sum()) for a, b in zip(bounded, (mantissa, u_start, v_start), strict=True))
    mantissa, u_start, v_start = (np.rint(x).astype(np.int32) for x in bounded)
    found = Lif(
        into=_dense(weight, scale / UNIT),
        du=max(du, 0),
        dv=dv,
        threshold=round(threshold * scale / UNIT),
        bias_mantissa=mantissa,
        bias_exponent=exponent,
        u_start=u_start,
        v_start=v_start,
        recurrent=None if back is None else _dense(back, scale / UNIT),
    )
    return found, scale, clipped


def _starts(drive: Array, alpha: float, beta: float, depth: int) -> tuple[Array, Array]:
    """Current and voltage that the bias alone brings to (-drive, 0) in `depth` steps, before the first input arrives.

    There, u_t = -drive alpha^t cancels the part of the bias that a synaptic current has not reached yet.
    """
    current = np.zeros_like(drive) if alpha == 0 else -drive / alpha**depth
    u, v = current.copy(), np.zeros_like(drive)
    for step in range(1, depth + 1):
        u = alpha * u
        v = v - (u + drive) / beta**step
    return current, v


def _scale(
    name: str, weight: Array, back: Array | None, threshold: float, drive: Array, alpha: float, beta: float
) -> float:
    """The largest scale without an overflow at the worst input; else that of weights without further bits."""
    largest = _largest(weight)
    reach = np.abs(weight).sum(1) + (0.0 if back is None else np.abs(back).sum(1))
    worst = (reach / (1 - alpha) + np.abs(drive)) / max(1 - beta, 1e-9)

    def fits(scale: float) -> bool:
        return round(threshold * scale / UNIT) <= THRESHOLD_MAX and np.abs(drive * scale).max() <= (
            BIAS_MAX << BIAS_EXPONENTS[-1]
        )

    def safe(scale: float) -> bool:
        return bool((worst * scale < LIMIT).all() and (reach * scale / UNIT < ACCUMULATOR_LIMIT).all())

    scales = {e: WEIGHT_MAX * UNIT * 2.0**e / largest for e in EXPONENTS}
    for e in reversed(EXPONENTS):
        if fits(scales[e]) and (e <= 0 or safe(scales[e])):
            return scales[e]
    raise UserError(
        f"layer '{name}': threshold {threshold:g} and biases up to {np.abs(drive).max():g} are too large for "
        f"weights up to {largest:g} for 17 and 13 bits; train with a lower threshold"
    )


def _dense(weight: Array, scale: float) -> Dense:
    """Even integers w and an exponent e, w 2^e nearest to `scale` times the weights, at the smallest e that fits."""
    largest = np.abs(weight).max() * scale
    for e in EXPONENTS:
        if largest <= (WEIGHT_MAX + 1) * 2.0**e:
            even = 2 * np.rint(weight * scale / 2.0 ** (e + 1))
            return Dense(np.clip(even, -WEIGHT_MAX, WEIGHT_MAX).astype(np.int32), e)
    raise UserError(
        f"weights up to {largest:g} do not fit 8 bits and an exponent up to {EXPONENTS[-1]}; scale them down"
    )


def _largest(weight: Array) -> float:
    """Largest size of a weight; 1 where all are zero."""
    return float(np.abs(weight).max(initial=0.0)) or 1.0


def _one(layer: str, key: str, values: Any) -> float:
    """The one value that all neurons of a layer share."""
    found = np.unique(np.asarray(values, dtype=np.float64))
    if len(found) != 1:
        raise UserError(
            f"layer '{layer}': {key} differs from neuron to neuron ({found[0]:g} to {found[-1]:g}); integer LIF "
            "neurons share it; give the layer one value"
        )
    return float(found[0])
