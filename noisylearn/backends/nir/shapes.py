"""Shapes along a NIR graph: every node is asked what it makes of one sample, from the input on, and has to fit."""

import math
import reprlib
from typing import Any

import numpy as np

from noisylearn.backends.nir.numbers import (
    CONVOLUTIONS,
    PARAMETERS,
    POOLS,
    WEIGHTS,
    WHAT_IS_READ,
    Shape,
    array,
    integers,
    kind_of,
    per_neuron,
    shape_in_words,
)
from noisylearn.backends.nir.walk import Walk
from noisylearn.ground.errors import UserError

DIMENSIONS = dict.fromkeys(WEIGHTS, 1) | {"Conv1d": 2, "Conv2d": 3} | dict.fromkeys(POOLS, 3)  # of a sample
MOST_VALUES = 2**23  # of one sample; what a file only claims should not take all memory
PER_VALUE = PARAMETERS | {"Scale": ("scale",), "Delay": ("delay",)}


def shapes_along(graph: Any, walk: Walk) -> dict[str, Shape]:
    """Shape of one sample in front of every node of the chain.

    Args:
        graph: a nir.NIRGraph.
        walk: through it.

    Raises:
        UserError: a node does not fit what it is given; the message names it.
    """
    shape, before = _declared(graph, walk.start, "input_type"), dict[str, Shape]()
    if walk.chain and shape[0] == 1 and len(shape) == DIMENSIONS.get(kind_of(graph, walk.chain[0]), 0) + 1:
        shape = shape[1:]  # some programs state a batch of one sample
    for name in walk.chain:
        before[name] = shape
        shape = shape_behind(graph, name, shape)
        if math.prod(shape) > MOST_VALUES:
            raise UserError(f"node '{name}' gives {shape_in_words(shape)}; noisylearn reads up to {MOST_VALUES} values")
    if (declared := _declared(graph, walk.end, "output_type")) not in (shape, (1, *shape)):
        raise UserError(
            f"node '{walk.end}' states {shape_in_words(declared)}, and is given {shape_in_words(shape)}: the shapes do "
            "not fit"
        )
    for end, feedback in walk.feedback.items():
        if end not in before or feedback.source not in before:
            raise UserError(f"a feedback path leads from node '{feedback.source}' to '{end}'; {WHAT_IS_READ}")
        shape = before[feedback.source]
        for name in (feedback.source, *feedback.path):
            shape = shape_behind(graph, name, shape)
        if shape != before[end]:
            raise UserError(
                f"node '{end}' is given {shape_in_words(before[end])} by the chain and {shape_in_words(shape)} by a "
                "feedback path: the shapes do not fit"
            )
    return before


def shape_behind(graph: Any, name: str, shape: Shape) -> Shape:
    """Shape that a node makes of a sample.

    Args:
        graph: a nir.NIRGraph.
        name: of the node.
        shape: of the sample that it is given.

    Raises:
        UserError: the node does not fit that sample.
    """
    kind = kind_of(graph, name)
    if kind in WEIGHTS:
        return _behind_weights(graph, name, shape)
    if kind in CONVOLUTIONS:
        return _behind_convolution(graph, name, shape)
    if kind in POOLS:
        return _behind_pool(graph, name, shape)
    if kind == "Flatten":
        _check_stated(name, graph.nodes[name].input_type["input"], shape)
        first, last = flattened(graph, name, shape)
        return *shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :]
    if kind not in PER_VALUE:
        raise UserError(f"node '{name}' is {kind}; {WHAT_IS_READ}")
    for key in PER_VALUE[kind]:
        per_neuron(graph, name, key, shape)
    return shape


def flattened(graph: Any, name: str, shape: Shape) -> tuple[int, int]:
    """First and last dimension that a Flatten node makes one, both from 0.

    Args:
        graph: a nir.NIRGraph.
        name: of the node.
        shape: of the sample that it is given.

    Raises:
        UserError: a sample has no such dimensions.
    """
    ends = [integers(graph, name, key, 1, -len(shape))[0] for key in ("start_dim", "end_dim")]
    first, last = (end + len(shape) if end < 0 else end for end in ends)
    if len(shape) == 1 and first == 1:  # the dimensions of a batch, which is what torch counts from
        return 0, 0
    if not 0 <= first <= last < len(shape):
        raise UserError(f"node '{name}' flattens dimensions {ends[0]} to {ends[1]} of {shape_in_words(shape)}")
    return first, last


def padding_of(graph: Any, name: str, n_dims: int) -> Shape | str:
    """Padding of a convolution: numbers, 'same' or 'valid'.

    Args:
        graph: a nir.NIRGraph.
        name: of the node.
        n_dims: dimensions of the kernel.
    """
    padding = graph.nodes[name].padding
    return padding if isinstance(padding, str) else integers(graph, name, "padding", n_dims, 0)


def _declared(graph: Any, name: str, key: str) -> Shape:
    """The shape that an end of the graph states."""
    (found,) = getattr(graph.nodes[name], key).values()
    values = np.asarray(found)
    shape = tuple(values.ravel().tolist())
    if not 0 < len(shape) < 5 or values.dtype.kind not in "iu" or min(shape) < 1 or math.prod(shape) > MOST_VALUES:
        raise UserError(
            f"node '{name}': its shape {reprlib.repr(shape)} is none of one to four positive whole numbers, of up to "
            f"{MOST_VALUES} values in all"
        )
    return shape


def _behind_weights(graph: Any, name: str, shape: Shape) -> Shape:
    """Shape behind Affine or Linear."""
    n_out, n_in = array(graph, name, "weight", 2).shape
    if shape != (n_in,):
        remedy = (
            "put a Flatten node with start_dim 0 before it" if math.prod(shape) == n_in else "the shapes do not fit"
        )
        raise UserError(f"node '{name}' takes {n_in} values, and is given {shape_in_words(shape)}: {remedy}")
    return (n_out,)


def _behind_convolution(graph: Any, name: str, shape: Shape) -> Shape:
    """Shape behind Conv1d or Conv2d."""
    n_dims = DIMENSIONS[kind_of(graph, name)] - 1
    n_out, per_group, *kernel = array(graph, name, "weight", n_dims + 2).shape
    (groups,) = integers(graph, name, "groups", 1, 1)
    stride, dilation = (integers(graph, name, key, n_dims, 1) for key in ("stride", "dilation"))
    padding = padding_of(graph, name, n_dims)
    _check_dimensions(graph, name, shape)
    _check_stated(name, graph.nodes[name].input_shape, shape[1:])
    if shape[0] != per_group * groups or n_out % groups:
        raise UserError(
            f"node '{name}' takes {per_group * groups} channels in {groups} groups and gives {n_out}, and is given "
            f"{shape[0]}: the shapes do not fit"
        )
    if padding == "same":
        if set(stride) != {1}:
            raise UserError(f"node '{name}': padding 'same' goes with a stride of 1, not {stride}")
        return n_out, *shape[1:]
    margins = (0,) * n_dims if isinstance(padding, str) else padding
    return n_out, *_windows(name, shape[1:], tuple(kernel), stride, margins, dilation)


def _check_stated(name: str, stated: Any, shape: Shape) -> None:
    """Check the shape that a node itself states for its input, if it does."""
    if stated is not None and not np.array_equal(np.ravel(stated), shape):
        says = reprlib.repr(np.ravel(stated).tolist())
        raise UserError(
            f"node '{name}' states {says} as the shape of its input, and is given {list(shape)}: the shapes do not fit"
        )


def _behind_pool(graph: Any, name: str, shape: Shape) -> Shape:
    """Shape behind AvgPool2d or SumPool2d."""
    kernel, stride = (integers(graph, name, key, 2, 1) for key in ("kernel_size", "stride"))
    padding = integers(graph, name, "padding", 2, 0)
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise UserError(f"node '{name}': padding {padding} is more than half of the kernel {kernel}")
    _check_dimensions(graph, name, shape)
    return shape[0], *_windows(name, shape[1:], kernel, stride, padding, (1, 1))


def _check_dimensions(graph: Any, name: str, shape: Shape) -> None:
    """Check that samples are images or the like."""
    if len(shape) != (n_dims := DIMENSIONS[kind_of(graph, name)]):
        expected = "(channels, height, width)" if n_dims == 3 else "(channels, length)"
        raise UserError(f"node '{name}' takes {expected}, and is given {shape_in_words(shape)}: the shapes do not fit")


def _windows(name: str, sizes: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape) -> Shape:
    """Number of places of a window along every side."""
    rows = zip(sizes, kernel, stride, padding, dilation, strict=True)
    found = tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in rows)
    if min(found) < 1:
        raise UserError(f"node '{name}': its kernel of {kernel} is larger than the {sizes} that it is given")
    return found
