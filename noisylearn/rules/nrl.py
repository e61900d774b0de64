"""Noise-based reward-modulated learning: one reward for an action, noise in the network to find out what led to it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from noisylearn.chips.interface import AnyChip, Memory
from noisylearn.rules.checks import check_positive, check_share
from noisylearn.rules.directions import STEPS, StepDraws, start
from noisylearn.rules.estimate import Estimate, NodePasses, NodeValues, Values, estimate_nodes, reference
from noisylearn.rules.observation import Observation
from noisylearn.rules.perturbation import NoisyPasses, network_scale

MEAN, COUNT = "mean_loss", "counted"  # keys of the state


@dataclass(frozen=True, kw_only=True)
class NRL(NoisyPasses):
    """g_l = (L(u) - r) dlog p(u) N da_l / ||da||^2: a reward prediction error times an eligibility.

    The network acts: u = y + s n with its output y in the reference and n ~ N(0, 1). The task judges the action alone,
    once: L(u) in place of the losses of the passes, R = -L(u) as reward. The eligibility is ANP's estimate for the
    log-probability of that action, p(u) = N(u; y, s^2), which changes by dlog p(u) from the reference to the noisy
    pass: two passes at least, as published (there with N_l in place of N, a rate for each layer). The predicted loss r
    is a running mean, r <- r + reward_rate (L(u) - r).

    The mean estimate is that of ANP for the loss of the action, whose gradient is that of L(y) where L is quadratic,
    and up to order s^2 elsewhere. Its variance is larger: this rule is for tasks that answer actions. The published
    experiments draw one of several actions from a softmax; a loss per output vector asks for a Gaussian policy. Along
    sequences the action of a step answers for the loss of that step.

    Args:
        exploration: s, standard deviation of an action around the output, in units of the output. The variance is least
            where s is about as large as the errors that are left.
        reward_rate: rho, how fast r follows; r is the mean of the losses since the start while those are few.

    Raises:
        UserError: an option has a value that is not allowed.
    """

    name = "nrl"
    title = "noise-based reward-modulated learning"
    equation = "g_l = (L(u) - r) dlog p(u) N da_l / ||da||^2,  u = y + s n"
    source = (
        "Garcia Fernandez, Ahmad, van Gerven: Noise-based reward-modulated learning, arXiv:2503.23972, 2025, with the "
        "authors' code"
    )
    observes = frozenset({"loss", "input", "activity", "output"})
    unbiased = "one layer"
    scale_free = True
    tried: ClassVar[Mapping[str, tuple[Any, ...]]] = {"draws": (3,)}

    exploration: float = field(
        default=1.0, metadata={"help": "Standard deviation of an action around the output (NRL)."}
    )
    reward_rate: float = field(
        default=0.1, metadata={"help": "How fast the predicted reward follows the reward, per estimate."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self.name, exploration=self.exploration)
        check_share(self.name, reward_rate=self.reward_rate)

    def post(self, activity: NodePasses, reference: NodeValues, noise: NodePasses | None) -> NodePasses:
        """da, as ANP."""
        return activity - reference

    def scales(self, norms: list[Values], sizes: list[int], variances: list[float]) -> list[Values]:
        """N / ||da||^2 with the norm over the network, as ANP."""
        return network_scale(norms, sizes)

    def init(self, chip: AnyChip) -> Memory:
        """The mean loss of the actions, and how many estimates were made."""
        return {**start(), COUNT: torch.tensor(0), MEAN: torch.zeros((), dtype=torch.float64)}

    def step(self, state: Memory, seen: Observation, layers: Collection[str]) -> tuple[Estimate, Memory]:
        plan = self.plan(len(seen.chip.layers))
        readings, losses = seen.of(plan)
        y = reference(readings.output, self.baseline)
        noise = StepDraws.of(self.name, state, seen).normal("action", y)
        action = y + self.exploration * noise
        judged = seen.loss_fn(action)
        eligible = self._log_probability(action, readings.output) * self._surprise(state, judged, seen.weights)
        found = estimate_nodes(self, plan, readings, eligible, layers)
        later = {STEPS: state[STEPS] + 1, **self._remembered(state, judged, seen.weights)}
        return replace(found, loss=reference(losses, self.baseline).mean()), later

    def _log_probability(
        self, action: Float[Tensor, "rows ..."], outputs: Float[Tensor, "passes rows ..."]
    ) -> Float[Tensor, "passes rows"]:
        """log p(u) of every pass, up to a constant."""
        return -(action - outputs).flatten(2).square().sum(2) / (2 * self.exploration**2)

    def _surprise(self, state: Memory, judged: Tensor, weights: Tensor | None) -> Tensor:
        """L(u) - r of every row, with the weights of the losses."""
        surprise = judged - state[MEAN].to(judged)
        return surprise if weights is None else surprise * weights.flatten()

    def _remembered(self, state: Memory, judged: Tensor, weights: Tensor | None) -> Memory:
        """The mean loss with that of the actions that counted."""
        counts = torch.ones_like(judged) if weights is None else (weights.flatten() != 0).to(judged)
        if not counts.any():
            return {COUNT: state[COUNT], MEAN: state[MEAN]}
        now = ((judged * counts).sum() / counts.sum()).double()
        return {
            COUNT: state[COUNT] + 1,
            MEAN: state[MEAN] + self._rate(int(state[COUNT])) * (now - state[MEAN]),
        }

    def _rate(self, n: int) -> float:
        """Of the mean after n losses: that of their plain mean, as long as it is the faster."""
        return max(self.reward_rate, 1 / (n + 1))
