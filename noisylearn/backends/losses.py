"""Losses of single samples in numpy, for the integer emulator and Lava; `noisylearn.tasks` has the same in torch."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

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
    """
    labels = np.broadcast_to(target, output.shape[:-1]).astype(np.int64)
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


LOSSES: dict[str, Callable[[Array, Array], Array]] = {
    "squared-error": squared_error,
    "cross-entropy": cross_entropy,
    "half-squared-norm": half_squared_norm,
}
