"""Noise on the pre-activations and on the weights of a layer, drawn for all passes of a plan."""

from collections.abc import Sequence

import torch
from torch import Tensor

from noisylearn.chips.interface import PlacedLayer
from noisylearn.effects import Setting, State
from noisylearn.ground.draws import Draws, StreamOf


def weight_noise(placed: PlacedLayer, name: str, draws: Draws, purpose: str) -> dict[str, Tensor]:
    """Noise of one pass on the weight and the bias of a layer."""
    noise = {key: torch.zeros_like(p.detach()) for key, p in placed.layer.named_parameters()}
    for effect in placed.pass_effects:
        for key, so_far in noise.items():
            draw = StreamOf(draws, name, effect.kind, key, purpose)
            noise[key] = effect.apply(so_far, Setting(), draw, {})
    return noise


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
        noise = effect.apply(noise, placed.setting, StreamOf(draws, name, effect.kind, purpose), state)
    if len(perturbed) == len(zeros):
        return noise.unflatten(1, shape)
    noise_or_zero = zeros.new_zeros(zeros.shape)
    noise_or_zero[list(perturbed)] = noise
    return noise_or_zero.unflatten(1, shape)
