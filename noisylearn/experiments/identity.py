"""What identifies a run of one's own network and data: hashes and descriptions of all that affects its result."""

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer


def identified(facts: Any) -> str:
    """Hash of everything that affects the result of a run, 12 hexadecimal digits.

    Args:
        facts: plain values.
    """
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


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
    """Hash of a network's structure: its modules, the source of their classes, what is frozen and in evaluation mode.

    Args:
        model: the network.
    """
    kinds = dict.fromkeys(type(module) for module in model.modules())
    own = [source_of(kind) for kind in kinds if not kind.__module__.startswith("torch.")]
    learns = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    trains = [name for name, module in model.named_modules() if module.training]
    return hashlib.sha256(json.dumps([repr(model), own, learns, trains]).encode()).hexdigest()


def source_of(kind: Any) -> str:
    """The source of a class or function; its name, where there is none to be had.

    Args:
        kind: a class or function.
    """
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        return f"{getattr(kind, '__module__', '')}.{getattr(kind, '__qualname__', type(kind).__qualname__)}"


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
        return f"{function!r} {digest_of(function.state_dict())} {source_of(type(function))}"
    return source_of(function)


def settings_of(optimizer: Optimizer) -> str:
    """An optimizer with all its settings.

    Args:
        optimizer: the optimizer.
    """
    groups = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    return f"{type(optimizer).__name__} {groups}"
