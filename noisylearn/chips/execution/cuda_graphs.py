"""Functions of tensors whose kernels are captured once and then launched as one: CUDA graphs."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from noisylearn.ground.errors import UserError

Tree = Any  # tensors and None in tuples, lists and dicts
Call = Callable[[], Tree]
# Runs a call and captures it: what it gave, and what runs its kernels again, at the same addresses.
Capture = Callable[[Call], tuple[Tree, Callable[[], None]]]


class Captured:
    """A function from tree to tree of tensors, captured for arguments shaped like an example.

    A capture consists of kernels and the addresses they read and write. Arguments and results have addresses of their
    own, to and from which they are copied; whatever else the function reads must stay where it is.

    Args:
        function: what is captured.
        example: arguments of the same shapes as those to come.
        capture: how it is captured.
    """

    def __init__(self, function: Callable[[Tree], Tree], example: Tree, capture: Capture) -> None:
        leaves, layout = tree_flatten(example)
        self._held = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        found, self._play = capture(lambda: function(tree_unflatten(self._held, layout)))
        self._found, self._layout = tree_flatten(found)

    def __call__(self, arguments: Tree) -> Tree:
        """Result of the captured function for other arguments of the same shapes."""
        for held, leaf in zip(self._held, tree_flatten(arguments)[0], strict=True):
            if isinstance(held, Tensor):
                held.copy_(leaf)
        self._play()
        return tree_unflatten([x.clone() if isinstance(x, Tensor) else x for x in self._found], self._layout)


def cuda_graph(device: torch.device) -> Capture:
    """Capture calls as CUDA graphs.

    Every graph has a stream of its own: what the libraries keep by stream belongs to the graph that uses it.

    Args:
        device: the GPU.

    Returns:
        A function that runs a call and captures it; it raises UserError for calls that wait for the GPU or read values
        off it.
    """

    def capture(call: Call) -> tuple[Tree, Callable[[], None]]:
        with torch.cuda.device(device):
            before, aside, graph = torch.cuda.current_stream(), torch.cuda.Stream(), torch.cuda.CUDAGraph()
            aside.wait_stream(before)
            with torch.cuda.stream(aside):
                call()  # so that libraries allocate what they need before the capture
            before.wait_stream(aside)
            try:
                with torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"):
                    found = call()
            except RuntimeError as error:
                torch.cuda.set_stream(before)  # which a capture that broke does not go back to
                reason = str(error.__context__ or error).splitlines()[0]
                what = "the network's steps cannot be captured"
                raise UserError(f"cuda_graphs: {what} ({reason}); leave the option out") from error
        return found, graph.replay

    return capture


def shape_of(tree: Tree) -> tuple[Any, ...] | None:
    """What two trees must share for one capture to serve both.

    Args:
        tree: tensors and None in tuples, lists and dicts.

    Returns:
        Layout, shapes, types and devices; None for a tree that holds anything else.
    """
    leaves, layout = tree_flatten(tree)
    if not all(leaf is None or isinstance(leaf, Tensor) for leaf in leaves):
        return None
    return str(layout), *(None if leaf is None else (leaf.shape, leaf.dtype, leaf.device) for leaf in leaves)
