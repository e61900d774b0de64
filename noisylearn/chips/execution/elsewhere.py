"""Injected noise of passes that another process runs, drawn here from the same streams."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from noisylearn.chips.execution.noise import node_noise, weight_noise
from noisylearn.chips.interface import PlacedLayer
from noisylearn.chips.readings import LayerReading, Plan
from noisylearn.chips.segments import Segment
from noisylearn.ground.draws import Draws


@dataclass
class NoiseElsewhere:
    """Noise of one layer in passes that do not run here.

    Args:
        nodes: on the pre-activations, zero in passes that are not perturbed; None where there is none.
        weights: of every pass, parameter name -> noise.
    """

    nodes: Float[Tensor, "passes rows ..."] | None
    weights: list[dict[str, Tensor]]


def noise_elsewhere(
    placed: PlacedLayer,
    name: str,
    reading: LayerReading,
    segment: Segment,
    plan: Plan,
    layer: int,
    streams: tuple[Draws, str],
) -> NoiseElsewhere:
    """Draw the noise of one layer in passes that run elsewhere.

    Args:
        placed: the layer, with its noise.
        name: of the layer.
        reading: of the passes that ran here, for shapes.
        segment: what they ran on.
        plan: the passes that run elsewhere.
        layer: index of the layer.
        streams: random streams, whose passes are those of the plan, and the purpose that names them.
    """
    perturbed = [p for p in range(plan.n_passes) if plan.perturbed[p][layer]]
    nodes = None
    if reading.noise is not None:
        nodes = reading.activity.new_zeros((plan.n_passes, *reading.activity.shape[1:]))
        if placed.node_effects and perturbed:
            by_step = nodes.unflatten(1, (segment.n_steps, segment.batch))
            trail: list[dict[str, Tensor]] = [{} for _ in placed.node_effects]
            nodes = node_noise(placed, name, by_step, perturbed, *streams, trail).flatten(1, 2)
    drawn = weight_noise(placed, name, perturbed, *streams) if placed.pass_effects else {}
    return NoiseElsewhere(nodes, [drawn.get(p, {}) for p in range(plan.n_passes)])


def merged(reading: LayerReading, drawn: NoiseElsewhere, here: Sequence[int], away: Sequence[int]) -> LayerReading:
    """A reading with the noise of all passes of a plan.

    Args:
        reading: of the passes that ran here.
        drawn: noise of those that ran elsewhere.
        here: indices in the plan of the passes of the reading.
        away: indices of the others.
    """
    n_passes = len(here) + len(away)
    activity = reading.activity[:1].expand(n_passes, *reading.activity.shape[1:])
    noise = None
    if reading.noise is not None and drawn.nodes is not None:
        noise = reading.noise.new_empty(activity.shape)
        noise[list(here)], noise[list(away)] = reading.noise, drawn.nodes
    weights = []
    if reading.weight_noise:
        by_pass = dict(zip((*here, *away), (*reading.weight_noise, *drawn.weights), strict=True))
        weights = [by_pass[p] for p in range(n_passes)]
    return replace(reading, input=reading.input[:1], activity=activity, noise=noise, weight_noise=weights)
