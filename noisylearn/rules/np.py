"""Traditional node perturbation."""

from dataclasses import dataclass

from noisylearn.rules.estimate import NodePasses, NodeValues, Values
from noisylearn.rules.perturbation import NodePerturbation


@dataclass(frozen=True, kw_only=True)
class NP(NodePerturbation):
    """g_l = dL e_l / sigma^2 with the injected noise e_l: unbiased in deep networks, with a high variance.

    With a noisy baseline the rule uses the noise of the pass alone: it stays unbiased, its variance is larger, and
    training can become unstable late ([ANP] fig. 5).
    """

    name = "np"
    title = "node perturbation"
    equation = "g_l = dL e_l / sigma^2"
    source = "[ANP] eq. 3; [STAB] eq. 3"
    observes = frozenset({"loss", "input", "injected_noise"})
    unbiased = "deep"

    def post(self, activity: NodePasses, reference: NodeValues, noise: NodePasses | None) -> NodePasses:
        assert noise is not None
        return noise

    def scales(self, norms: list[Values], sizes: list[int], variances: list[float]) -> list[Values]:
        return [1 / variance for variance in variances]
