"""What identifies a run of one's own network and data: hashes and descriptions of all that affects its result."""

import ast
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from functools import partial
from types import FunctionType
from typing import Any

import numpy as np
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
        digest.update(f"{name} ".encode() + bytes_of(tensor))
    return digest.hexdigest()


def bytes_of(tensor: Tensor) -> bytes:
    """All that a hash of a tensor goes over: its shape, its type and its numbers.

    Args:
        tensor: on any device.
    """
    return f"{tuple(tensor.shape)} {tensor.dtype}".encode() + tensor.numpy(force=True).tobytes()


def structure_of(model: nn.Module) -> str:
    """Hash of a network's structure: its modules with their numbers, the source of their classes, what is frozen.

    Args:
        model: the network.
    """
    sources = [source_of(kind) for kind in dict.fromkeys(type(module) for module in model.modules())]
    learns = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    numbers = {name: _numbers_of(module) for name, module in model.named_modules()}
    return hashlib.sha256(json.dumps([repr(model), sources, learns, numbers]).encode()).hexdigest()


def _numbers_of(module: Any) -> dict[str, str]:
    """The plain values that a module holds, which its printout need not show; whether it trains is among them."""
    return {name: repr(value) for name, value in getattr(module, "__dict__", {}).items() if isinstance(value, PLAIN)}


def source_of(kind: Any) -> str:
    """The source of a class or function; its name, where there is none to be had or a version says as much.

    Args:
        kind: a class or function.
    """
    name = f"{kind.__module__}.{getattr(kind, '__qualname__', type(kind).__qualname__)}"
    if _is_versioned(kind):
        return name
    try:
        return (_text_of_lambda(kind) if isinstance(kind, FunctionType) else "") or inspect.getsource(kind)
    except (OSError, TypeError):
        return name


def _is_versioned(kind: Any) -> bool:
    return str(kind.__module__).partition(".")[0] in VERSIONED


def _text_of_lambda(function: FunctionType) -> str:
    """The text of a lambda, without what else its lines say, such as resume=True; empty for what is none."""
    code = function.__code__
    if code.co_name != "<lambda>":
        return ""
    text = "".join(inspect.findsource(function)[0])
    try:
        lambdas = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Lambda)]
    except SyntaxError:
        return ""
    starts = {(line, column) for line, _, column, _ in code.co_positions()}
    found = [
        node
        for node in lambdas
        if node.lineno == code.co_firstlineno and (node.body.lineno, node.body.col_offset) in starts
    ]
    return (ast.get_source_segment(text, found[0]) or "") if len(found) == 1 else ""


def text_of(function: Callable[..., Any] | str | None, others: tuple[Any, ...] = ()) -> str:
    """A loss, a metric or a schedule in words that change with what it computes, as far as can be told.

    Args:
        function: a name, a module, a class, a function or an object that can be called; None for a default.
        others: functions that call this one, whose text is known.
    """
    if function is None or isinstance(function, str):
        return str(function)
    if isinstance(function, partial):
        return f"{text_of(function.func, others)} {function.args} {function.keywords}"
    if isinstance(function, nn.Module):
        held = {key: value for key, value in function.state_dict().items() if isinstance(value, Tensor)}
        return f"{source_of(type(function))} {_numbers_of(function)} {digest_of(held) if held else ''}".strip()
    if isinstance(function, FunctionType) and not _is_versioned(function):
        return f"{source_of(function)} {_taken_by(function, (*others, function))}".strip()
    if hasattr(function, "__name__"):  # a class, a method, a function of a library
        return source_of(function)
    return f"{source_of(type(function))} {_numbers_of(function)}"


def _taken_by(function: FunctionType, known: tuple[Any, ...]) -> str:
    """What a function takes from elsewhere: values by name and as defaults, and the functions that it calls."""
    names = inspect.getclosurevars(function)
    taken = {**names.globals, **names.nonlocals, **(function.__kwdefaults__ or {})}
    taken |= {f"default {number}": value for number, value in enumerate(function.__defaults__ or ())}
    texts = {name: _value_text(value, known) for name, value in sorted(taken.items())}
    return "; ".join(f"{name} = {text}" for name, text in texts.items() if text)


def _value_text(value: Any, known: tuple[Any, ...]) -> str:
    """A value in words that stay the same from process to process; empty where there are none."""
    if isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, Tensor):
        return digest_of({"": value})
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
    if isinstance(value, FunctionType | partial) and all(value is not one for one in known):
        return text_of(value, known)
    return ""


def settings_of(optimizer: Optimizer) -> str:
    """An optimizer with all its settings.

    Args:
        optimizer: the optimizer.
    """
    groups = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    return f"{type(optimizer).__name__} {groups}"
