"""Noise on the pre-activations and on the weights of a layer, drawn for all passes of a plan."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from noisylearn.chips.interface import PlacedLayer
from noisylearn.effects import Setting, State
from noisylearn.effects.circuits import PLACE, begin
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
    """Noise on the pre-activations of all passes.

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
    noise = perturbed_noise(placed, name, zeros[: len(perturbed)], perturbed, draws, purpose, trail)
    return among_all(noise, perturbed, zeros.shape[0])


def perturbed_noise(
    placed: PlacedLayer,
    name: str,
    zeros: Float[Tensor, " noisy steps batch *units"],
    perturbed: Sequence[int],
    draws: Draws,
    purpose: str,
    trail: Sequence[State],
) -> Float[Tensor, " noisy steps batch *units"]:
    """Noise on the pre-activations of the perturbed passes alone; arguments as for `node_noise`."""
    noise = zeros
    for effect, state, left in zip(placed.node_effects, placed.node_memory, trail, strict=True):
        if PLACE not in state:
            begin(effect, noise[0, 0, 0], placed.setting, StreamOf(draws, name, effect.kind), state)
        draw = StreamOf(draws, name, effect.kind, purpose, passes=perturbed)
        noise = effect.evolve(noise, placed.setting, draw, state, left)
    return noise


def among_all(
    noise: Float[Tensor, "noisy ..."], perturbed: Sequence[int], n_passes: int
) -> Float[Tensor, "passes ..."]:
    """Noise of all passes, zero in those that have none.

    Args:
        noise: of the perturbed passes.
        perturbed: their indices.
        n_passes: number of all passes.
    """
    if len(perturbed) == n_passes:
        return noise
    noise_or_zero = noise.new_zeros(n_passes, *noise.shape[1:])
    for p, of_pass in zip(perturbed, noise.unbind(), strict=True):
        noise_or_zero[p] = of_pass
    return noise_or_zero
