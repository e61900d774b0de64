"""The program of a population of neurons: noise, graded spikes, and the neuron's part of the third factor."""

from typing import final

import numpy as np

from noisylearn.backends.loihi.arithmetic import Integers, scaled_at_random, shifted, shifted_to_nearest, signed_range
from noisylearn.backends.loihi.microcode import Microcode, largest_steps
from noisylearn.backends.loihi.network import FixedPopulation, with_constant
from noisylearn.backends.loihi.saturation import Saturation
from noisylearn.backends.loihi.schedule import PERTURBED, REFERENCE
from noisylearn.ground.errors import UserError

ThirdFactor = tuple[int, int]


@final
class Neurons:
    """What one population computes in the phases of an epoch; rows of an array are passes in order of time.

    Noise and the stochastic rounding of traces come from two random streams, both seeded by (seed, index).

    Args:
        population: sizes and units.
        index: its place among all populations; the input is 0.
        microcode: the rule on its network.
        seed: of the noise and the rounding.
    """

    def __init__(self, population: FixedPopulation, index: int, microcode: Microcode, seed: int) -> None:
        self.population, self._microcode = population, microcode
        self.saturation = Saturation()
        self._noise = np.random.default_rng((seed, index, 0))
        self._rounding = np.random.default_rng((seed, index, 1))
        reference, perturbed = microcode.rule.plan(len(microcode.network.neurons)).perturbed
        self._is_noisy = {PERTURBED: perturbed[index - 1], REFERENCE: reference[index - 1]}
        self._register = population.noise.values()
        self._activity = np.zeros((2, population.size), dtype=np.int64)
        self._injected = np.zeros((2, population.size), dtype=np.int64)
        self._post = np.zeros(population.size, dtype=np.int64)
        self._spiked = np.zeros(population.size, dtype=bool)
        self._range = signed_range(microcode.network.cores.accumulator_bits)
        self._largest_payload = 2**microcode.network.cores.payload_bits - 1

    def integrate(self, sums: Integers, first: int) -> Integers:
        """Pre-activations: sums over the connections plus noise, clipped to the accumulator.

        Args:
            sums: integers (passes, size).
            first: number of the first of these passes; the others follow it.

        Returns:
            Integers, (passes, size).
        """
        noisy = [first + i for i in range(len(sums)) if self._is_noisy[first + i]]
        if noisy:
            self._injected[noisy] = self._register[self._registers(len(noisy))]
        rows = slice(first, first + len(sums))
        clipped = self.saturation.clip(self._place("pre-activations"), sums + self._injected[rows], *self._range)
        self._activity[rows] = clipped
        return clipped

    def spikes(self, activity: Integers, first: int) -> Integers:
        """Payloads of the pre-activations: clip(round(a 2^-s), 0, largest payload).

        A unit that spiked in the perturbed pass and is silent in the reference sends 1, which leaves a trace of 0.

        Args:
            activity: pre-activations, integers (passes, size).
            first: number of the first of these passes.

        Returns:
            Payloads, integers (passes, width).
        """
        payloads = np.maximum(shifted_to_nearest(activity, self.population.payload_shift), 0)
        payloads = self.saturation.clip(self._place("payloads"), payloads, 0, self._largest_payload)
        for i in range(len(payloads)):
            if first + i == REFERENCE:
                np.maximum(payloads[i], self._spiked, out=payloads[i])
            else:
                self._spiked = payloads[i] > 0
        return with_constant(payloads, self.population)

    def squared_norm(self) -> int:
        """||post||^2 of the rule, in squared units of the pre-activation, after both passes.

        Raises:
            UserError: the rule's `post` does not compute in integers.
        """
        noise = self._injected[None, PERTURBED : PERTURBED + 1]
        activity = self._activity[None, PERTURBED : PERTURBED + 1]
        post = np.asarray(self._microcode.rule.post(activity, self._activity[None, REFERENCE], noise))
        if post.dtype.kind != "i":
            raise UserError(
                f"rule {self._microcode.rule.describe()}: post gives {post.dtype}, but neurons compute in integers; "
                "use operations that keep them"
            )
        self._post = post[0, 0]
        return int(self._post @ self._post)

    def traces(self, factor: ThirdFactor) -> tuple[Integers, Integers]:
        """Traces y1 and y2: the positive and the negative part of post x mantissa 2^-shift, rounded stochastically.

        Args:
            factor: (mantissa, shift) from the critic.

        Returns:
            y1 and y2, integers (size,).
        """
        mantissa, shift = factor
        steps = scaled_at_random(self._post, mantissa, shift, self._rounding)
        limit = largest_steps(self._microcode)
        y = self.saturation.clip(self._place("traces"), steps, -limit, limit) * self._microcode.trace_step
        return np.maximum(y, 0), np.maximum(-y, 0)

    def _registers(self, passes: int) -> Integers:
        """Random registers (passes, size); every pass takes whole 32-bit numbers, so it may be drawn alone."""
        size = self.population.size
        whole = -(-size // 4) * 4
        return np.frombuffer(self._noise.bytes(passes * whole), np.uint8).reshape(passes, whole)[:, :size]

    def _place(self, what: str) -> str:
        """Name under which clipped numbers are counted."""
        return f"{what} of {self.population.name}"


def summed(payloads: Integers, weights: Integers, exponent: int) -> Integers:
    """Sums over a connection: (payloads W^T) 2^exponent.

    Args:
        payloads: integers (..., sources).
        weights: (targets, sources), integers kept in float64.
        exponent: power of two.

    Returns:
        Integers, (..., targets).
    """
    return shifted((payloads @ weights.T).astype(np.int64), exponent)
