"""Iterative node perturbation."""

from dataclasses import dataclass

from noisylearn.ground.errors import UserError
from noisylearn.rules.estimate import NodePasses, NodeValues, Values
from noisylearn.rules.perturbation import NodePerturbation, guarded


@dataclass(frozen=True, kw_only=True)
class INP(NodePerturbation):
    """g_l = dL N_l v_l / ||v_l||^2, from one pass per layer with noise v_l in that layer alone.

    This is a directional derivative per layer. Of NP, INP and ANP it is the best aligned with the gradient; for L
    layers it takes L + 1 passes instead of two.
    """

    name = "inp"
    title = "iterative node perturbation"
    equation = "g_l = dL N_l v_l / ||v_l||^2, noise in layer l alone"
    source = "[ANP] eq. 5"
    observes = frozenset({"loss", "input", "injected_noise", "clean_pass"})
    unbiased = "deep"
    scale_free = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.baseline == "mean":
            raise UserError(
                "rule inp: its passes perturb different layers and have no common mean; baseline clean or noisy"
            )
        if self.credit != "local":
            raise UserError(
                f"rule inp: credit '{self.credit}' puts losses of other steps over the noise of one: in a layer of one "
                "unit its variance is infinite; use credit 'local', or rule np"
            )

    def draw_passes(self, n_layers: int) -> list[tuple[bool, ...]]:
        """One noisy pass per layer."""
        return [tuple(i == layer for i in range(n_layers)) for layer in range(n_layers)]

    def post(self, activity: NodePasses, reference: NodeValues, noise: NodePasses | None) -> NodePasses:
        assert noise is not None
        return noise

    def scales(self, norms: list[Values], sizes: list[int], variances: list[float]) -> list[Values]:
        return [n / guarded(norm) for n, norm in zip(sizes, norms, strict=True)]
