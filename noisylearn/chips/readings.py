"""Which passes to run, and the record of what was observed in them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from jaxtyping import Float
from torch import Tensor

from noisylearn.chips.segments import START, Trajectory
from noisylearn.networks.layers import WeightLayer


@dataclass(frozen=True)
class Plan:
    """Which passes to run.

    Noise that cannot be switched off is in every pass, whatever the plan says.

    Args:
        perturbed: `perturbed[p][l]` says whether pass p has injected noise in layer l; pass 0 is the baseline.
        numbers: of every pass, its index in the plan of all draws, where these are some of them: it names the streams
            of the noise. None where the plan is the whole one.
    """

    perturbed: tuple[tuple[bool, ...], ...]
    numbers: tuple[int, ...] | None = None

    @property
    def n_passes(self) -> int:
        """Number of passes, the baseline included."""
        return len(self.perturbed)

    def of_draws(self, draws: Sequence[int]) -> "Plan":
        """The same passes, as those of some draws among more: their noise is that of these draws.

        Args:
            draws: index of every draw of this plan among all draws.

        Returns:
            The plan with the numbers of its passes; those of a draw follow one another, after the baseline.
        """
        return replace(self, numbers=_numbers(draws, (self.n_passes - 1) // len(draws)))

    def only_draws(self, draws: Sequence[int], n_draws: int) -> "Plan":
        """The baseline and the passes of some draws of this plan.

        Args:
            draws: index of each of them.
            n_draws: draws of this plan.

        Returns:
            A plan of these passes alone, with the numbers that they have here.
        """
        numbers = _numbers(draws, (self.n_passes - 1) // n_draws)
        return Plan(tuple(self.perturbed[p] for p in numbers), numbers)

    def passes_of(self, layer: int) -> list[int]:
        """The passes that perturb a layer, without the baseline.

        Args:
            layer: index of the layer.

        Returns:
            Indices of the passes.
        """
        return [p for p in range(1, self.n_passes) if self.perturbed[p][layer]]


def _numbers(draws: Sequence[int], each: int) -> tuple[int, ...]:
    """Indices of the baseline and of the passes of some draws, in a plan where every draw has `each` of them."""
    return (0, *(1 + draw * each + i for draw in draws for i in range(each)))


@dataclass
class LayerReading:
    """What was observed of one layer.

    Args:
        layer: the module itself.
        input: (1 or passes, batch, ...), 1 where every pass sees the same.
        activity: pre-activations, (passes, batch, ...).
        noise: injected into them, same shape; None where it cannot be read out.
        weight_noise: of every pass, parameter name -> noise, empty where the pass had none; only of segments of one
            step.
        node_variance: of the injected noise of one unit.
        weight_variance: of the injected noise of one weight.
    """

    layer: WeightLayer
    input: Float[Tensor, "_ batch ..."]
    activity: Float[Tensor, "passes batch ..."]
    noise: Float[Tensor, "passes batch ..."] | None = None
    weight_noise: list[dict[str, Float[Tensor, "..."]]] = field(default_factory=list)
    node_variance: float = 0.0
    weight_variance: float = 0.0


class LateNoise(LayerReading):
    """A reading whose noise, given as a function, is put together when it is first looked at.

    Most rules do not look, and zeros for the passes without noise take time.
    """

    _noise: Tensor | Callable[[], Tensor | None] | None

    @property
    def noise(self) -> Float[Tensor, "passes batch ..."] | None:
        """Noise injected into the pre-activations; None where it cannot be read out."""
        if callable(self._noise):
            self._noise = self._noise()
        return self._noise

    @noise.setter
    def noise(self, given: Tensor | Callable[[], Tensor | None] | None) -> None:
        self._noise = given


@dataclass
class Readings:
    """What was observed of all passes over a segment; its steps are merged along the batch.

    Args:
        output: of the network, (passes, steps x batch, ...).
        layers: name -> what was observed of that layer, in order of definition.
        last: name of the layer that ran last.
        end: where the passes stand after the last step.
    """

    output: Float[Tensor, "passes _ ..."]
    layers: dict[str, LayerReading]
    last: str
    end: Trajectory = START
