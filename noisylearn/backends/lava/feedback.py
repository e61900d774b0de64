"""Learned feedback of single populations: what the critic broadcasts, and what neurons make of it.

    critic:   e = dL/dy of the reference,  dy of every compared pass        to all neurons, one step later
    neurons:  B_k <- regression of dy on their own dx of k steps before,   g_k = f'(a_k) * (B_k^T e)
    weights:  W <- W - lr sum_k g_k pre_k^T     with the connection's own inputs of k steps before

k = 0 alone for single samples, k = 0 ... horizon - 1 along sequences. Everything is local but for e and dy: the direct
route. The regression is that which runs in torch; slopes are not taken by autograd, which does not survive the fork of
a process.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from noisylearn.backends.lava.specs import Array
from noisylearn.chips.interface import Memory
from noisylearn.rules import LearnedFeedback
from noisylearn.rules.estimate import reference
from noisylearn.rules.feedback.direct import differences


def why_not(rule: LearnedFeedback) -> str | None:
    """The reason why learned feedback with these options has no form as processes; None where it has one.

    Args:
        rule: the rule.
    """
    if rule.route != "direct":
        return (
            "rule lf: layerwise feedback leads the error back from layer to layer, but no process sends one to the "
            "layer before its own; use --route direct"
        )
    return None


@dataclass(eq=False)
class PopulationFeedback:
    """What a population learns of the way from its activities to the output.

    Args:
        rule: learned feedback by the direct route.
        activation: f of its neurons.
        slope: f'.
        is_last: whether it is the readout, which learns during the warm-up as well.
        is_output: whether its activities are the output, so that g is the error itself.
        horizon: steps whose g is sent.
        starts_sequence: step -> whether a sequence starts there.
    """

    rule: LearnedFeedback
    activation: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    is_last: bool
    is_output: bool
    horizon: int
    starts_sequence: Callable[[int], bool]
    _learned: Memory = field(default_factory=dict, init=False)
    _window: list[tuple[Array, Array]] = field(default_factory=list, init=False)  # pre-activations, dy; last step first
    _step: int = field(default=0, init=False)

    def keep(self, activity: Array, noise: Array | None) -> Array:
        """Pre-activations of all passes, for the step after.

        Args:
            activity: (passes, batch, size).
            noise: unused.
        """
        return activity

    def signal(self, received: Array, kept: Array) -> Array:
        """Learn from the differences, then send the error back.

        Args:
            received: e and dy as `broadcast` gives them.
            kept: pre-activations, (passes, batch, size).

        Returns:
            g of the last steps, that of the last one first, (horizon x batch, size).
        """
        before = [] if self.starts_sequence(self._step) else self._window
        self._window = [(kept, received[1:]), *before][: self.horizon]
        warms_up = self._step < self.rule.warm_up
        self._step += 1
        if not self.is_output and len(self._window) == self.horizon:
            self._learn()
        found = np.zeros((self.horizon, *kept.shape[1:]))
        if self.is_last or not warms_up:
            for g, one in zip(found, self._signals(received[0]), strict=False):
                g[:] = one
        return found.reshape(-1, kept.shape[-1])

    def _learn(self) -> None:
        """From the first step of the window: dx there, and dy there and in the steps after it."""
        activities = torch.from_numpy(self.activation(self._window[-1][0]))
        later = [torch.from_numpy(dy) for _, dy in reversed(self._window)]
        dx, dy = differences(activities, self.rule.baseline), torch.cat(later, 2).flatten(0, 1)
        self._learned = self.rule.of_differences.updated(self._learned, dx, dy)

    def _signals(self, error: Array) -> list[Array]:
        """g of every step of the window, that of the last one first; none before there is any feedback."""
        if self.is_output:
            return [error]
        if not self._learned:
            return []
        matrices = self._learned["coefficients"].split(error.shape[-1])
        slopes = [self.slope(reference(kept, self.rule.baseline)) for kept, _ in self._window]
        return [f * (error @ matrix.numpy()) for f, matrix in zip(slopes, matrices, strict=False)]


def broadcast(
    rule: LearnedFeedback, gradient: Callable[[Array, Array], Array], outputs: Array, target: Array, counts: Array
) -> Array:
    """What the critic sends to all populations.

    Args:
        rule: learned feedback.
        gradient: of the loss, (output, target) -> (batch, n_outputs).
        outputs: of all passes, (passes, batch, n_outputs).
        target: of the batch.
        counts: (batch,), 0 where a loss does not count.

    Returns:
        (1 + differences, batch, n_outputs): e, then dy.
    """
    error = gradient(reference(outputs, rule.baseline), target) * counts[:, None]
    dy = differences(torch.from_numpy(outputs), rule.baseline).unflatten(0, (-1, outputs.shape[1]))
    return np.concatenate([error[None], dy.numpy()])


def n_differences(rule: LearnedFeedback, n_passes: int) -> int:
    """Compared passes.

    Args:
        rule: gives the baseline.
        n_passes: passes of a step.
    """
    return len(differences(torch.zeros(n_passes, 1), rule.baseline))
