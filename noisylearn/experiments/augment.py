"""Augmentation of training data."""

import torch
from jaxtyping import Shaped
from torch import Tensor


def mirrored(
    images: Shaped[Tensor, "batch channels height width"], stream: torch.Generator
) -> Shaped[Tensor, "batch channels height width"]:
    """Mirror half of the images left to right, at random.

    Args:
        images: of a batch.
        stream: random numbers, drawn on the CPU.

    Returns:
        The same images, those that were drawn mirrored.
    """
    drawn = torch.rand(len(images), generator=stream).to(images.device) < 0.5
    return torch.where(drawn[:, None, None, None], images.flip(3), images)
