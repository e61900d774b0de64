"""Iterative node perturbation."""

from dataclasses import dataclass

from torch import Tensor

from noisylearn.ground.errors import UserError
from noisylearn.rules.base import NodePerturbation, guarded


@dataclass(frozen=True, kw_only=True)
class INP(NodePerturbation):
    """g_l = dL N_l v_l / ||v_l||^2, one pass per layer with noise v_l in that layer alone.

    A directional derivative per layer: the best aligned of the three, for L + 1 passes instead of two.
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
        return [tuple(i == layer for i in range(n_layers)) for layer in range(n_layers)]

    def post(self, activity: Tensor, reference: Tensor, noise: Tensor | None) -> Tensor:
        assert noise is not None
        return noise

    def scales(self, norms: list[Tensor], sizes: list[int], variances: list[float]) -> list[Tensor | float]:
        return [n / guarded(norm) for n, norm in zip(sizes, norms, strict=True)]
