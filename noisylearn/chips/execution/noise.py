"""Noise on the pre-activations and on the weights of a layer, drawn for all passes of a plan."""

from collections.abc import Sequence

from torch import Tensor

from noisylearn.chips.interface import PlacedLayer
from noisylearn.effects import Setting, State
from noisylearn.ground.draws import Draws, StreamOf


def weight_noise(
    placed: PlacedLayer, name: str, perturbed: Sequence[int], draws: Draws, purpose: str
) -> dict[int, dict[str, Tensor]]:
    """Noise on the weight and the bias of a layer, by perturbed pass."""
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
    zeros: Tensor,
    perturbed: Sequence[int],
    draws: Draws,
    purpose: str,
    trail: Sequence[State],
) -> Tensor:
    """Noise on the pre-activations of the perturbed passes, in the shape of `zeros` (passes, steps, batch, ...)."""
    shape = zeros.shape[1:3]
    zeros = zeros.flatten(1, 2)
    noise = zeros[: len(perturbed)]
    for effect, state in zip(placed.node_effects, placed.node_memory, strict=True):
        if not state:
            effect.fabricate(noise[0, 0], placed.setting, StreamOf(draws, name, effect.kind), state)
        draw = StreamOf(draws, name, effect.kind, purpose, passes=perturbed)
        noise = effect.apply(noise, placed.setting, draw, state)
    if len(perturbed) == len(zeros):
        return noise.unflatten(1, shape)
    noise_or_zero = zeros.new_zeros(zeros.shape)
    noise_or_zero[list(perturbed)] = noise
    return noise_or_zero.unflatten(1, shape)
