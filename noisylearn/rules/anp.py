"""Activity-based node perturbation."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from noisylearn.rules.checks import check_choice
from noisylearn.rules.estimate import Baseline, NodePasses, NodeValues, Values
from noisylearn.rules.perturbation import NodePerturbation, guarded, network_scale

Scale = Literal["network", "layer", "rnn-paper"]


@dataclass(frozen=True, kw_only=True)
class ANP(NodePerturbation):
    """g_l = dL N da_l / ||da||^2 with da = a(pass) - a(reference): needs no knowledge of the noise.

    In a layer of one unit the scales "layer" and "rnn-paper" give dL/da, which is heavy-tailed.

    Args:
        scale: "network": N units and norm of all layers ([ANP] eq. 6); "layer": N_l / ||da_l||^2; "rnn-paper": N of
            all layers, norm of the layer ([RNN] eq. 3).
    """

    name = "anp"
    title = "activity-based node perturbation"
    equation = "g_l = dL N da_l / ||da||^2,  da = a(pass) - a(reference)"
    source = "[ANP] eq. 6; [RNN] eq. 3"
    observes = frozenset({"loss", "input", "activity"})
    unbiased = "one layer"
    scale_free = True

    scale: Scale = field(default="network", metadata={"help": "Norm that ANP divides by: network, layer or rnn-paper."})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.name, "scale", self.scale, Scale)

    @classmethod
    def noisy_baseline(cls, options: Mapping[str, Any]) -> Baseline:
        """The mean of all noisy passes where there are several draws, else one noisy pass."""
        return "mean" if options.get("draws", cls.draws) > 1 else "noisy"

    def post(self, activity: NodePasses, reference: NodeValues, noise: NodePasses | None) -> NodePasses:
        return activity - reference

    def scales(self, norms: list[Values], sizes: list[int], variances: list[float]) -> list[Values]:
        if self.scale == "network":
            return network_scale(norms, sizes)
        n_units = [sum(sizes)] * len(sizes) if self.scale == "rnn-paper" else sizes
        return [n / guarded(norm) for n, norm in zip(n_units, norms, strict=True)]
