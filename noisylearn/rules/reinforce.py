"""REINFORCE at the output layer, backpropagated through the digital model."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace

import torch

from noisylearn.chips.interface import Memory
from noisylearn.ground.errors import UserError
from noisylearn.rules.backprop import autograd_estimate
from noisylearn.rules.estimate import Estimate, NodePasses, NodeValues, Values, node_signals, reference
from noisylearn.rules.in_time import InTime
from noisylearn.rules.observation import Observation
from noisylearn.rules.perturbation import Perturbation


@dataclass(frozen=True, kw_only=True)
class REINFORCE(Perturbation):
    """g_K = dL xi / sigma^2 with noise xi at the output layer, then backpropagated from there.

    Forward passes estimate the error at the output. Backpropagation needs the weights and slopes of the digital model,
    so this is a reference to compare with, not a rule for a chip without a backward pass.

    Args:
        hidden_noise: whether noisy passes have noise in every layer. The rule still uses that of the output layer
            alone, which shows what noise elsewhere costs.
    """

    name = "reinforce"
    title = "REINFORCE at the output layer, then backpropagation"
    equation = "g_K = dL xi / sigma^2,  g_l by the chain rule"
    source = "[STAB] eq. 15"
    observes = frozenset({"loss", "input", "injected_noise", "clean_pass"})
    unbiased = "deep"

    hidden_noise: bool = field(
        default=False,
        metadata={"help": "Of REINFORCE: noise in every layer, not in the output layer alone."},
    )

    def draw_passes(self, n_layers: int) -> list[tuple[bool, ...]]:
        """One pass with noise in the output layer, and with `hidden_noise` in the others."""
        return [(self.hidden_noise,) * (n_layers - 1) + (True,)]

    def post(self, activity: NodePasses, reference: NodeValues, noise: NodePasses | None) -> NodePasses:
        assert noise is not None
        return noise

    def scales(self, norms: list[Values], sizes: list[int], variances: list[float]) -> list[Values]:
        return [1 / variance for variance in variances]

    def step(self, state: Memory, seen: Observation, layers: Collection[str]) -> tuple[Estimate, Memory]:
        plan = self.plan(len(seen.chip.layers))
        readings, losses = seen.of(plan)
        output_layer = next(reversed(readings.layers))
        if readings.last != output_layer:
            raise UserError(
                f"rule reinforce perturbs the layer defined last, '{output_layer}', but '{readings.last}' runs last; "
                "define the output layer last"
            )
        signal = node_signals(self, plan, readings, losses)[output_layer]
        with torch.enable_grad():
            digital, _ = seen.digital()
            activity = digital.layers[output_layer].activity[0]
            found = autograd_estimate(seen.chip, digital, (activity * signal).flatten(1).sum(1), layers)
        return replace(found, loss=reference(losses, self.baseline).mean()), state

    def in_time(self) -> InTime:
        if self.update == "online" and self.credit == "trace":
            raise UserError(
                "rule reinforce goes back through one pass and keeps no trace of the steps before: use credit 'local', "
                "or update 'sequence'"
            )
        return super().in_time()

    def forward_passes(self, n_layers: int) -> int:
        """Those on the chip, and one of the digital model for backpropagation."""
        return super().forward_passes(n_layers) + 1

    def backward_passes(self) -> int:
        return 1
