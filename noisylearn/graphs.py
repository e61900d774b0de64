"""Functions of tensors whose kernels are recorded once and then launched as one: CUDA graphs."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from noisylearn.errors import UserError

Tree = Any  # tensors and None in tuples, lists and dicts
Call = Callable[[], Tree]
# Runs a call and records it: what it gave, and what runs its kernels again, at the same addresses.
Recorder = Callable[[Call], tuple[Tree, Callable[[], None]]]


class Recording:
    """A function of a tree of tensors that gives another one, recorded for arguments shaped like `example`.

    Recorded are kernels and the addresses they read and write. Arguments and results have addresses of their own, to
    and from which they are copied; whatever else the function reads must stay where it is.
    """

    def __init__(self, function: Callable[[Tree], Tree], example: Tree, record: Recorder) -> None:
        leaves, layout = tree_flatten(example)
        self._held = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        found, self._play = record(lambda: function(tree_unflatten(self._held, layout)))
        self._found, self._layout = tree_flatten(found)

    def __call__(self, arguments: Tree) -> Tree:
        for held, leaf in zip(self._held, tree_flatten(arguments)[0], strict=True):
            if isinstance(held, Tensor):
                held.copy_(leaf)
        self._play()
        return tree_unflatten([x.clone() if isinstance(x, Tensor) else x for x in self._found], self._layout)


def cuda_graph(call: Call) -> tuple[Tree, Callable[[], None]]:
    """Record by a CUDA graph. Raises UserError for what waits for the GPU or takes values off it."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        call()  # so that libraries allocate what they need before the recording
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            found = call()
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"cuda_graphs: the network's steps cannot be recorded ({reason}); leave the option out"
        ) from error
    return found, graph.replay


def shape_of(tree: Tree) -> tuple[Any, ...] | None:
    """What two trees must share for one recording to serve both; None for what is more than tensors."""
    leaves, layout = tree_flatten(tree)
    if not all(leaf is None or isinstance(leaf, Tensor) for leaf in leaves):
        return None
    return str(layout), *(None if leaf is None else (leaf.shape, leaf.dtype, leaf.device) for leaf in leaves)
