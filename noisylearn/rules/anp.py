"""Activity-based node perturbation."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from torch import Tensor

from noisylearn.ground.errors import UserError
from noisylearn.rules.base import NodePerturbation, guarded
from noisylearn.rules.estimate import Baseline

Scale = Literal["network", "layer", "rnn-paper"]


@dataclass(frozen=True, kw_only=True)
class ANP(NodePerturbation):
    """g_l = dL N da_l / ||da||^2 with da = a(pass) - a(reference): needs no knowledge of the noise.

    scale: "network", N and the norm over all layers ([ANP] eq. 6); "layer", N_l / ||da_l||^2; "rnn-paper", N over all
    layers but the norm per layer ([RNN] eq. 3). With a one-unit layer the last two are dL/da there: heavy-tailed.
    """

    name = "anp"
    title = "activity-based node perturbation"
    equation = "g_l = dL N da_l / ||da||^2,  da = a(pass) - a(reference)"
    source = "[ANP] eq. 6; [RNN] eq. 3"
    observes = frozenset({"loss", "input", "activity"})
    unbiased = "one layer"
    scale_free = True

    scale: Scale = field(default="network", metadata={"help": "ANP's norm: network, layer or rnn-paper."})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale not in get_args(Scale):
            raise UserError(f"rule anp: scale '{self.scale}'; choose {', '.join(get_args(Scale))}")

    @classmethod
    def noisy_baseline(cls, options: Mapping[str, Any]) -> Baseline:
        return "mean" if options.get("draws", cls.draws) > 1 else "noisy"

    def post(self, activity: Tensor, reference: Tensor, noise: Tensor | None) -> Tensor:
        return activity - reference

    def scales(self, norms: list[Tensor], sizes: list[int], variances: list[float]) -> list[Tensor | float]:
        if self.scale == "network":
            return [sum(sizes) / guarded(sum(norms[1:], norms[0]))] * len(norms)
        n_units = [sum(sizes)] * len(sizes) if self.scale == "rnn-paper" else sizes
        return [n / guarded(norm) for n, norm in zip(n_units, norms, strict=True)]
