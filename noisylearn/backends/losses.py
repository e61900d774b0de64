"""Losses of single samples, and their gradients, in numpy, for the integer emulator and Lava.

`noisylearn.tasks` has the same losses in torch.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax

Array = NDArray[Any]


def squared_error(output: Array, target: Array) -> Array:
    """Mean over the outputs of (output - target)^2.

    Args:
        output: (..., n).
        target: (..., n), or a shape that broadcasts to it.

    Returns:
        The loss of each sample, (...).
    """
    return np.square(output - target).mean(-1)


def cross_entropy(output: Array, target: Array) -> Array:
    """-log softmax(output)[target], in nats.

    Args:
        output: (..., n).
        target: class labels 0..n-1, (...), or a shape that broadcasts to it.

    Returns:
        The loss of each sample, (...).

    Raises:
        ValueError: a label is no whole number, or not one of the outputs.
    """
    labels = np.broadcast_to(target, output.shape[:-1])
    if not ((labels >= 0) & (labels < output.shape[-1]) & (labels % 1 == 0)).all():
        raise ValueError(f"labels are whole numbers from 0 to {output.shape[-1] - 1}")
    labels = labels.astype(np.int64)
    chosen = np.take_along_axis(output, labels[..., None], -1)[..., 0]
    found: Array = logsumexp(output, axis=-1) - chosen
    return found


def half_squared_norm(output: Array, target: Array) -> Array:
    """1/2 |output - target|^2.

    Args:
        output: (..., n).
        target: (..., n), or a shape that broadcasts to it.

    Returns:
        The loss of each sample, (...).
    """
    return 0.5 * np.square(output - target).sum(-1)


def squared_error_gradient(output: Array, target: Array) -> Array:
    """2 (output - target) / n, in the shape of the output; arguments as those of `squared_error`."""
    found: Array = 2.0 * (output - target) / output.shape[-1]
    return found


def cross_entropy_gradient(output: Array, target: Array) -> Array:
    """softmax(output), less 1 at the target, in the shape of the output; arguments as those of `cross_entropy`."""
    labels = np.broadcast_to(target, output.shape[:-1]).astype(np.int64)
    found: Array = softmax(output, axis=-1) - (np.arange(output.shape[-1]) == labels[..., None])
    return found


def half_squared_norm_gradient(output: Array, target: Array) -> Array:
    """output - target, in the shape of the output; arguments as those of `half_squared_norm`."""
    found: Array = output - target
    return found


LOSSES: dict[str, Callable[[Array, Array], Array]] = {
    "squared-error": squared_error,
    "cross-entropy": cross_entropy,
    "half-squared-norm": half_squared_norm,
}
GRADIENTS: dict[str, Callable[[Array, Array], Array]] = {
    "squared-error": squared_error_gradient,
    "cross-entropy": cross_entropy_gradient,
    "half-squared-norm": half_squared_norm_gradient,
}
