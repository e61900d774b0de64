"""Which passes to run, and the record of what was observed in them."""

from dataclasses import dataclass, field

from torch import Tensor

from noisylearn.chips.segments import START, Trajectory
from noisylearn.networks.layers import WeightLayer


@dataclass(frozen=True)
class Plan:
    """Which passes to run: perturbed[p][l] says whether pass p has injected noise in layer l; pass 0 is the baseline.

    Noise that cannot be switched off is in every pass, whatever the plan says.
    """

    perturbed: tuple[tuple[bool, ...], ...]

    @property
    def n_passes(self) -> int:
        return len(self.perturbed)

    def passes_of(self, layer: int) -> list[int]:
        """The passes that perturb a layer, the baseline apart."""
        return [p for p in range(1, self.n_passes) if self.perturbed[p][layer]]


@dataclass
class LayerReading:
    """What was observed of one layer.

    Args:
        layer: the module itself.
        input: (1 or passes, batch, ...), 1 where every pass sees the same.
        activity: pre-activations, (passes, batch, ...).
        noise: injected into them, same shape; None where it cannot be read out.
        weight_noise: one dict of parameter name -> noise per pass, empty where the pass had none; of single steps only.
        node_variance: of the injected noise of one unit.
        weight_variance: of the injected noise of one weight.
    """

    layer: WeightLayer
    input: Tensor
    activity: Tensor
    noise: Tensor | None = None
    weight_noise: list[dict[str, Tensor]] = field(default_factory=list)
    node_variance: float = 0.0
    weight_variance: float = 0.0


@dataclass
class Readings:
    """What all passes over a segment showed; its steps are merged along the batch.

    Args:
        output: (passes, steps x batch, ...).
        layers: name -> what was read of that layer, in order of definition.
        last: name of the layer that ran last.
        end: where the passes stand after the last step.
    """

    output: Tensor
    layers: dict[str, LayerReading]
    last: str
    end: Trajectory = START
