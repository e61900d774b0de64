"""The guard that every training has against a loss that runs away."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from noisylearn.ground.errors import RunawayError
from noisylearn.networks.layers import WeightLayer


def weight_norms(layers: Mapping[str, WeightLayer]) -> dict[str, float]:
    """Name of a layer -> norm of its weights."""
    return {name: float(layer.weight.detach().norm()) for name, layer in layers.items()}


def check_losses(
    losses: Tensor, layers: Mapping[str, WeightLayer], norms_before: Mapping[str, float], at: str = "", where: str = ""
) -> None:
    """See that losses are finite.

    Args:
        losses: of any shape; along a sequence (steps,).
        layers: of the network, by name.
        norms_before: norm of every layer's weights when the training began; empty where it is not known.
        at: step of the sequence, for the message.
        where: step of a training that adds its own remedies, for the message.

    Raises:
        RunawayError: a loss is not finite; names the layer that has grown most, or has the largest weights.
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
