"""What identifies a run of one's own network and data: hashes and descriptions of all that affects its result."""

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

VERSIONED = ("torch", "noisylearn")  # packages whose versions identify a run as well
PLAIN = (bool, int, float, complex, str, tuple)


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """Hash of tensors with their names, shapes and types.

    Args:
        tensors: by name.
    """
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode() + tensor.numpy(force=True).tobytes())
    return digest.hexdigest()


def structure_of(model: nn.Module) -> str:
    """Hash of a network's structure: its modules with their numbers, the source of their classes, what is frozen.

    Args:
        model: the network.
    """
    sources = [source_of(kind) for kind in dict.fromkeys(type(module) for module in model.modules())]
    learns = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    numbers = {name: _numbers_of(module) for name, module in model.named_modules()}
    return hashlib.sha256(json.dumps([repr(model), sources, learns, numbers]).encode()).hexdigest()


def _numbers_of(module: nn.Module) -> dict[str, str]:
    """The plain values that a module holds, which its printout need not show; whether it trains is among them."""
    return {name: repr(value) for name, value in vars(module).items() if isinstance(value, PLAIN)}


def source_of(kind: Any) -> str:
    """The source of a class or function; its name, where there is none to be had or a version says as much.

    Args:
        kind: a class or function.
    """
    module = str(getattr(kind, "__module__", ""))
    name = f"{module}.{getattr(kind, '__qualname__', type(kind).__qualname__)}"
    if module.partition(".")[0] in VERSIONED:
        return name
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        return name


def text_of(function: Callable[..., Any] | str | None) -> str:
    """A loss, a metric or a schedule in words that change with what it computes, as far as its source tells.

    Args:
        function: a name, a module, a class or a function; None for a default.
    """
    if function is None or isinstance(function, str):
        return str(function)
    if isinstance(function, partial):
        return f"{text_of(function.func)} {function.args} {function.keywords}"
    if isinstance(function, nn.Module):
        held = {key: value for key, value in function.state_dict().items() if isinstance(value, Tensor)}
        return f"{source_of(type(function))} {_numbers_of(function)} {digest_of(held) if held else ''}".strip()
    return source_of(function)


def settings_of(optimizer: Optimizer) -> str:
    """An optimizer with all its settings.

    Args:
        optimizer: the optimizer.
    """
    groups = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    return f"{type(optimizer).__name__} {groups}"
