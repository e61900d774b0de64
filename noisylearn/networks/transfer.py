"""Transfer functions of neurons: which element-wise function x = f(a) follows each weight layer of a model."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from noisylearn.networks.layers import WeightLayer

Transfer = Callable[[Tensor], Tensor]


def identity(activity: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """x = a, for layers that no element-wise function follows.

    Args:
        activity: pre-activations a.
    """
    return activity


@torch.no_grad()
def transfer_functions(layers: Mapping[str, WeightLayer], run: Callable[[], Any]) -> dict[str, Transfer]:
    """The function x = f(a) after every layer, found by watching what a forward pass does with the pre-activations.

    f is the chain of element-wise functions that alone use the pre-activations. It ends before the first operation that
    mixes units or combines them with something else, so that everything later depends on a through f(a) alone.

    Args:
        layers: name -> layer of every layer that owns weights.
        run: runs the model once, on at least two samples.

    Returns:
        Name of a layer -> f; the identity where nothing element-wise follows.
    """
    watch = _Watch()
    hooks = [layer.register_forward_hook(watch.begin(name)) for name, layer in layers.items()]
    try:
        with watch:
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return {name: watch.chain(name) for name in layers}


def slope(transfer: Transfer, activity: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """f'(a) of an element-wise function.

    Args:
        transfer: f.
        activity: a.

    Returns:
        In the shape of `activity`.
    """
    if transfer is identity:
        return torch.ones_like(activity)
    with torch.enable_grad():
        a = activity.detach().requires_grad_()
        return torch.autograd.grad(transfer(a).sum(), a)[0]


class _Watch(TorchFunctionMode):
    """Records which functions use the tensors that descend from pre-activations by element-wise functions."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: list[Tensor] = []  # so that no address is used again
        self._first: dict[str, int] = {}
        self._uses: dict[int, list[tuple[Transfer | None, int]]] = {}

    def begin(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        """A forward hook of the layer with this name."""

        def after(module: nn.Module, args: Any, output: Tensor) -> None:
            if name not in self._first:
                self._first[name] = self._track(output)

        return after

    def chain(self, name: str) -> Transfer:
        """The element-wise functions after a layer, in a row."""
        functions, at = [], self._first.get(name)
        while at is not None and len(uses := self._uses.get(at, [])) == 1 and uses[0][0] is not None:
            functions.append(uses[0][0])
            at = uses[0][1]
        return _composed(functions) if functions else identity

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        before = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and id(leaf) in self._uses]
        copies = {id(leaf): leaf.clone() for leaf in before}  # functions in place overwrite their argument
        result = func(*args, **kwargs)
        if not any(isinstance(leaf, Tensor) for leaf in tree_leaves(result)):
            return result  # a shape or a property
        for leaf in before:
            found = _element_wise(func, args, kwargs, leaf, copies[id(leaf)], result)
            self._uses[id(leaf)].append((found, self._track(result) if found else 0))
        return result

    def _track(self, tensor: Tensor) -> int:
        self._kept.append(tensor)
        self._uses.setdefault(id(tensor), [])
        return id(tensor)


def _element_wise(func: Any, args: Any, kwargs: Any, leaf: Tensor, value: Tensor, result: Any) -> Transfer | None:
    """The function of one argument, if it is element-wise in it."""
    if not isinstance(result, Tensor) or result is leaf or result.shape != value.shape:
        return None

    def transfer(activity: Tensor) -> Tensor:
        given, named = tree_map(lambda one: activity if one is leaf else one, (args, kwargs))
        found: Tensor = func(*given, **named)
        return found

    with torch._C.DisableTorchFunction():
        try:
            turned = transfer(value.flatten().flip(0))
        except (RuntimeError, IndexError, TypeError, ValueError):  # whatever a function says of another shape
            return None
    same = turned.shape == (value.numel(),) and torch.equal(turned.flip(0), result.flatten())
    return transfer if same else None


def _composed(functions: list[Transfer]) -> Transfer:
    def transfer(activity: Tensor) -> Tensor:
        for function in functions:
            activity = function(activity)
        return activity

    return functions[0] if len(functions) == 1 else transfer
