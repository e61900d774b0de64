"""Checks, while the tests run, that arrays have the shapes and kinds that the package's annotations state."""

from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray, install_import_hook


def check_shapes(*packages: str) -> None:
    """Check every call into packages that are imported from now on."""
    install_import_hook(packages, f"{__name__}.{only_shapes.__name__}")


def only_shapes(function: Any) -> Any:
    """The function with its arrays checked and nothing else: tests pass other wrong values, to see them refused."""
    function.__annotations__ = {name: hint for name, hint in function.__annotations__.items() if _states_shape(hint)}
    return beartype(function) if function.__annotations__ else function


def _states_shape(hint: Any) -> bool:
    """Whether an annotation is, or holds, one of jaxtyping's."""
    return (isinstance(hint, type) and issubclass(hint, AbstractArray)) or any(map(_states_shape, get_args(hint)))
