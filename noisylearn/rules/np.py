"""Traditional node perturbation."""

from dataclasses import dataclass

from torch import Tensor

from noisylearn.rules.base import NodePerturbation


@dataclass(frozen=True, kw_only=True)
class NP(NodePerturbation):
    """g_l = dL e_l / sigma^2 with the injected noise e_l: unbiased in deep nets, of high variance.

    With a noisy baseline only the noise of the pass itself is used: still unbiased, of more variance, and the
    noise of the baseline makes it unstable late in training ([ANP] fig. 5).
    """

    name = "np"
    title = "node perturbation"
    equation = "g_l = dL e_l / sigma^2"
    source = "[ANP] eq. 3; [STAB] eq. 3"
    observes = frozenset({"loss", "input", "injected_noise"})
    unbiased = "deep"

    def post(self, activity: Tensor, reference: Tensor, noise: Tensor | None) -> Tensor:
        assert noise is not None
        return noise

    def scales(self, norms: list[Tensor], sizes: list[int], variances: list[float]) -> list[Tensor | float]:
        return [1 / variance for variance in variances]
