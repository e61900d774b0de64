"""The guard of every training against a loss that diverges."""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from noisylearn.ground.errors import RunawayError
from noisylearn.networks.layers import WeightLayer


def weight_norms(layers: Mapping[str, WeightLayer]) -> dict[str, float]:
    """Norm of the weights of every layer.

    Args:
        layers: name -> layer.

    Returns:
        Name -> Euclidean norm, in units of the weights.
    """
    return {name: float(layer.weight.detach().norm()) for name, layer in layers.items()}


def check_losses(
    losses: Float[Tensor, "..."],
    layers: Mapping[str, WeightLayer],
    norms_before: Mapping[str, float],
    at: str = "",
    where: str = "",
) -> None:
    """Check that losses are finite.

    Args:
        losses: of any shape; along a sequence (steps,).
        layers: layers of the network, by name.
        norms_before: norm of every layer's weights at the start of the training; empty where it is not known.
        at: the step of the sequence, in words, for the message.
        where: the step of the training, in words, for the message; the caller then adds remedies of its own.

    Raises:
        RunawayError: a loss is not finite. The message names the layer that has grown most, or that with the largest
            weights.
    """
    if math.isfinite(float(losses.sum())) or bool(torch.isfinite(losses).all()):
        return
    norms = weight_norms(layers)
    growth = {name: norm / (norms_before.get(name) or 1.0) for name, norm in norms.items()}
    name = max(growth, key=lambda n: growth[n] if math.isfinite(growth[n]) else math.inf)
    most = f"layer '{name}' has the largest weights, of norm {norms[name]:.3g}"
    if norms_before:
        most = f"layer '{name}' has grown most, its weight norm {growth[name]:.3g} times that of the start"
    remedy = ": lower the learning rate, if no input, target or output of the machine is nan"
    raise RunawayError(f"the loss is not finite{at} ({most}){where or remedy}")
