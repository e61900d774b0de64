"""The critic, on a processor beside the cores: losses of both passes, and the third factor of every population."""

from collections.abc import Callable
from math import frexp
from typing import final

import numpy as np

from noisylearn.backends.loihi.arithmetic import Integers
from noisylearn.backends.loihi.microcode import Microcode
from noisylearn.backends.loihi.network import Array
from noisylearn.backends.loihi.neurons import ThirdFactor
from noisylearn.backends.loihi.saturation import Saturation
from noisylearn.backends.loihi.schedule import PERTURBED, REFERENCE
from noisylearn.backends.losses import LOSSES
from noisylearn.ground.errors import unknown_name

Loss = Callable[[Array, Array], Array]


@final
class Critic:
    """Computes in float64; what it sends is an integer mantissa and a right shift for every population."""

    def __init__(self, microcode: Microcode, loss: str | Loss) -> None:
        if isinstance(loss, str) and loss not in LOSSES:
            raise unknown_name("loss", loss, LOSSES)
        self._loss: Loss = LOSSES[loss] if isinstance(loss, str) else loss
        self._rule = microcode.rule
        self._neurons = microcode.network.neurons
        self._sizes = [p.size for p in self._neurons]
        self._variances = [p.noise_variance for p in self._neurons]
        self._squared_units = [p.unit**2 for p in self._neurons]
        self._gains = [p.unit / microcode.trace_units[p.name] for p in self._neurons]
        self._cores = microcode.network.cores
        self.saturation = Saturation()

    def losses(self, outputs: Integers, target: Array) -> Array:
        """Losses (passes,) of the readout's pre-activations (passes, outputs), integers in order of time."""
        return self._loss(outputs * self._neurons[-1].unit, target)

    def third_factors(self, losses: Array, norms: list[int], rate: float = 1.0) -> list[ThirdFactor]:
        """(mantissa, shift) for every population: modulator x scale in units of traces for each unit of post.

        norms: ||post||^2 of every population, in its integers.  rate: learning rate of this sample, relative.
        """
        modulator = float(losses[PERTURBED] - losses[REFERENCE])
        squares = [norm * square for norm, square in zip(norms, self._squared_units, strict=True)]
        scales = self._rule.scales(squares, self._sizes, self._variances)  # type: ignore[arg-type]
        return [
            self._rounded(p.name, rate * modulator * float(scale) * gain)
            for p, scale, gain in zip(self._neurons, scales, self._gains, strict=True)
        ]

    def _rounded(self, name: str, value: float) -> ThirdFactor:
        """value as mantissa 2^-shift: the largest shift with which the mantissa fits, within what shifts there are."""
        largest = 2 ** (self._cores.third_factor_bits - 1) - 1
        fraction, exponent = frexp(value)
        shift = min(self._cores.third_factor_bits - 1 - exponent, self._cores.third_factor_exponent_max)
        mantissa = round(fraction * 2.0 ** (exponent + shift)) if shift >= 0 else round(value)
        if abs(mantissa) > largest and shift > 0:
            mantissa, shift = round(mantissa / 2), shift - 1
        if abs(mantissa) > largest or shift < 0:
            self.saturation.count(f"third factor of {name}", 1)
            return int(np.sign(value)) * largest, 0
        return mantissa, shift
