"""The guards of every training against a loss that grows or diverges."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from noisylearn.ground.errors import RunawayError
from noisylearn.networks.layers import WeightLayer

GROWN = 3.0  # times the loss of the start


def warn_if_grown(first: float, last: float, remedy: str, limit: float | None = None) -> bool:
    """Warn where the loss grew during learning.

    Args:
        first: mean loss at the start.
        last: mean loss now.
        remedy: what to do, in words.
        limit: loss above which it has grown; None for three times that of the start.

    Returns:
        Whether there was a warning.
    """
    grown = not last <= (GROWN * first if limit is None else limit)
    if grown:
        warnings.warn(f"the loss grew from {first:.3g} to {last:.3g} while it learned: {remedy}", stacklevel=3)
    return grown


@dataclass
class LossWatch:
    """Warns once where the loss of a training grows: call it with the loss of every step.

    It compares the mean of the last steps with that of the first ones.

    Args:
        first: steps that are averaged at the start.
        last: steps that are averaged later on.
        remedy: what to do, in words.
        losses: of the steps done.
    """

    first: int = 5
    last: int = 20
    remedy: str = "lower the learning rate"
    losses: list[float] = field(default_factory=list)
    warned: bool = field(default=False, init=False)

    def __call__(self, loss: float) -> None:
        """Take the loss of a step.

        Args:
            loss: mean over the batch.
        """
        self.losses.append(float(loss))
        if self.warned or len(self.losses) < self.first + self.last or len(self.losses) % self.last:
            return
        first, last = sum(self.losses[: self.first]) / self.first, sum(self.losses[-self.last :]) / self.last
        self.warned = warn_if_grown(first, last, self.remedy)


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
