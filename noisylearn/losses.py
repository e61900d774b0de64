"""Losses in numpy, for machines whose loss is computed beside them: the same numbers as the tasks' own."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def squared_error(output: Array, target: Array) -> Array:
    """Mean over the outputs of (output - target)^2: (..., n) and (..., n) -> (...,)."""
    return np.asarray(((output - target) ** 2).mean(-1))


def cross_entropy(output: Array, target: Array) -> Array:
    """-log softmax(output)[target] in nats: outputs (..., n) and labels (...) that broadcast to them -> (...,)."""
    shifted = output - output.max(-1, keepdims=True)
    labels = np.broadcast_to(np.asarray(target, dtype=np.int64), shifted.shape[:-1])
    chosen = np.take_along_axis(shifted, labels[..., None], -1)[..., 0]
    return np.asarray(np.log(np.exp(shifted).sum(-1)) - chosen)


LOSSES = {"squared-error": squared_error, "cross-entropy": cross_entropy}
