"""Learned feedback of single populations: what the critic broadcasts, and what neurons make of it.

    critic:   e = dL/dy of the reference,  dy of every compared pass        to all neurons, one step later
    neurons:  B <- regression of dy on their own dx,   g = f'(a) * (B^T e)

Everything is local but for e and dy: the direct route. The regression is that which runs in torch; slopes are not taken
by autograd, which does not survive the fork of a process.
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
            "rule lf: layerwise feedback goes back through the weights of other layers, which no process knows but "
            "their own; use --route direct"
        )
    if rule.horizon > 1 or rule.warm_up:
        return (
            "rule lf: processes learn from the error of the same step, from the first on; use --horizon 1 --warm-up 0"
        )
    return None


@dataclass(eq=False)
class PopulationFeedback:
    """What a population learns of the way from its activities to the output.

    Args:
        rule: learned feedback by the direct route.
        activation: f of its neurons.
        slope: f'.
        is_output: whether its activities are the output, so that g is the error itself.
    """

    rule: LearnedFeedback
    activation: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    is_output: bool
    _learned: Memory = field(default_factory=dict)

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
            g of the batch, (batch, size).
        """
        if self.is_output:
            return received[0]
        sent, activities = torch.from_numpy(received), torch.from_numpy(self.activation(kept))
        dx = differences(activities, self.rule.baseline)
        self._learned = self.rule.of_differences.updated(self._learned, dx, sent[1:].flatten(0, 1))
        back: Array = (sent[0] @ self._learned["coefficients"]).numpy()
        return self.slope(reference(kept, self.rule.baseline)) * back


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
