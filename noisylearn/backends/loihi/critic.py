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
from noisylearn.ground.errors import UserError, unknown_name

Loss = Callable[[Array, Array], Array]


@final
class Critic:
    """Losses of both passes, and from them the third factor of every population.

    It computes in float64; what it sends to a population is an integer mantissa and a right shift.

    Args:
        microcode: the rule on its network.
        loss: name in `noisylearn.backends.losses.LOSSES`, or a function of outputs (passes, n) and one target.

    Raises:
        UserError: no loss has this name.
    """

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
        """Loss of each pass.

        Args:
            outputs: the readout's pre-activations, integers (passes, n_outputs), in order of time.
            target: of this sample.

        Returns:
            Losses, (passes,).

        Raises:
            UserError: the target does not fit a loss of the package, or a loss is not finite.
        """
        try:
            found = self._loss(outputs * self._neurons[-1].unit, target)
        except (IndexError, TypeError, ValueError) as error:
            if self._loss not in LOSSES.values():
                raise
            reason = " ".join(str(error).split())
            raise UserError(
                f"a target of shape {[*np.shape(target)]} does not fit the loss of {outputs.shape[1]} outputs: {reason}"
            ) from None
        if not np.isfinite(found).all():
            raise UserError(f"the loss of a sample is not finite ({found}); check the loss function")
        return found

    def third_factors(self, losses: Array, norms: list[int], rate: float = 1.0) -> list[ThirdFactor]:
        """Third factor of every population: modulator x scale, in steps of its trace per unit of its integer `post`.

        Args:
            losses: (2,), the perturbed pass first.
            norms: ||post||^2 of every population, in the square of its pre-activation unit.
            rate: learning rate of this sample, relative to the rule's.

        Returns:
            (mantissa, shift) for every population, standing for mantissa 2^-shift.
        """
        modulator = float(losses[PERTURBED] - losses[REFERENCE])
        squares = [norm * square for norm, square in zip(norms, self._squared_units, strict=True)]
        scales = self._rule.scales(squares, self._sizes, self._variances)
        return [
            self._rounded(p.name, rate * modulator * float(scale) * gain)
            for p, scale, gain in zip(self._neurons, scales, self._gains, strict=True)
        ]

    def _rounded(self, name: str, value: float) -> ThirdFactor:
        """`value` as mantissa 2^-shift, with the largest available shift at which the mantissa fits."""
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
