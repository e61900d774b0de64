"""Losses of single samples in numpy, for machines without torch; the same as `noisylearn.tasks` states in torch."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

Array = NDArray[Any]


def squared_error(output: Array, target: Array) -> Array:
    """Mean over outputs of (output - target)^2: outputs and targets (..., n) -> (...)."""
    return np.square(output - target).mean(-1)


def cross_entropy(output: Array, target: Array) -> Array:
    """-log softmax(output)[target], in nats: outputs (..., n), labels (...) -> (...)."""
    labels = np.broadcast_to(target, output.shape[:-1]).astype(np.int64)
    chosen = np.take_along_axis(output, labels[..., None], -1)[..., 0]
    found: Array = logsumexp(output, axis=-1) - chosen
    return found


def half_squared_norm(output: Array, target: Array) -> Array:
    """1/2 |output - target|^2: outputs and targets (..., n) -> (...)."""
    return 0.5 * np.square(output - target).sum(-1)


LOSSES: dict[str, Callable[[Array, Array], Array]] = {
    "squared-error": squared_error,
    "cross-entropy": cross_entropy,
    "half-squared-norm": half_squared_norm,
}
