"""Noise on the pre-activations and on the weights of a layer, drawn for all passes of a plan."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from noisylearn.chips.interface import PlacedLayer
from noisylearn.effects import Setting, State
from noisylearn.effects.circuits import begin
from noisylearn.ground.draws import Draws, StreamOf


def weight_noise(
    placed: PlacedLayer, name: str, perturbed: Sequence[int], draws: Draws, purpose: str
) -> dict[int, dict[str, Float[Tensor, "..."]]]:
    """Noise on the weight and the bias of a layer.

    Args:
        placed: the layer, with its noise on the weights.
        name: of the layer.
        perturbed: indices of the passes that have noise.
        draws: random streams.
        purpose: names the random streams.

    Returns:
        Index of a pass -> parameter name -> noise in the shape of the parameter.
    """
    if not perturbed:
        return {}
    parameters = {key: p.detach() for key, p in placed.layer.named_parameters()}
    noise = {key: p.new_zeros(()).expand(len(perturbed), *p.shape) for key, p in parameters.items()}
    for effect in placed.pass_effects:
        for key, so_far in noise.items():
            draw = StreamOf(draws, name, effect.kind, key, purpose, passes=perturbed)
            noise[key] = effect.apply(so_far, Setting(), draw, {})
    return {p: {key: of_passes[i] for key, of_passes in noise.items()} for i, p in enumerate(perturbed)}


def node_noise(
    placed: PlacedLayer,
    name: str,
    zeros: Float[Tensor, " passes steps batch *units"],
    perturbed: Sequence[int],
    draws: Draws,
    purpose: str,
    trail: Sequence[State],
) -> Float[Tensor, " passes steps batch *units"]:
    """Noise on the pre-activations of the perturbed passes.

    Args:
        placed: the layer, with its noise on the pre-activations.
        name: of the layer.
        zeros: zeros in the shape of all pre-activations, (passes, steps, batch, ...).
        perturbed: indices of the passes that have noise.
        draws: random streams.
        purpose: names the random streams.
        trail: of every node effect, what the steps before left; empty where a sequence starts, updated in place.

    Returns:
        Noise in the shape of `zeros`; zero in the other passes.
    """
    noise = zeros[: len(perturbed)]
    for effect, state, left in zip(placed.node_effects, placed.node_memory, trail, strict=True):
        begin(effect, noise[0, 0, 0], placed.setting, StreamOf(draws, name, effect.kind), state)
        draw = StreamOf(draws, name, effect.kind, purpose, passes=perturbed)
        noise = effect.evolve(noise, placed.setting, draw, state, left)
    if len(perturbed) == zeros.shape[0]:
        return noise
    noise_or_zero, of_pass = zeros.new_empty(zeros.shape), dict(zip(perturbed, noise, strict=True))
    for p, there in enumerate(noise_or_zero):
        there.copy_(of_pass[p]) if p in of_pass else there.zero_()
    return noise_or_zero
