"""Base class of what is read from HDF5 files of this package: records whose types, shapes and bounds are checked."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator

MAY_BE_NAN = "covariance_loss"  # of a decorrelation that has seen no sample yet
MOST_CHARACTERS = 2**20


class Stored(BaseModel):
    """One table of a file: nothing is converted, and what is not asked for is left alone."""

    model_config = ConfigDict(strict=True, frozen=True, arbitrary_types_allowed=True)


def numbers(kinds: str = "f", dims: int | None = None, finite: bool = True) -> Callable[[Any], NDArray[Any]]:
    """A check that a value is an array of numbers.

    Args:
        kinds: that numpy has: "f" for floating point, of 32 or 64 bits, "i" and "u" for integers, "b" for true and
            false.
        dims: number of dimensions; None for any.
        finite: whether every number has to be finite.
    """

    def check(value: Any) -> NDArray[Any]:
        if not isinstance(value, np.ndarray) or value.dtype.kind not in kinds or value.dtype == np.float16:
            raise ValueError(f"no array of {' or '.join(_NAMES[kind] for kind in kinds)}")
        if dims is not None and value.ndim != dims:
            raise ValueError(f"{value.ndim} dimensions in the place of {dims}")
        if finite and not np.isfinite(value).all():
            raise ValueError("a number is not finite")
        return value

    return check


_NAMES = {"f": "floating-point numbers of 32 or 64 bits", "i": "integers", "u": "counts", "b": "truth values"}


def _arrays(tree: Any) -> dict[str, Any]:
    """Refuse a tree of anything but finite arrays."""
    if not isinstance(tree, Mapping):
        raise ValueError("no group of arrays")
    for key, value in tree.items():
        try:
            _arrays(value) if isinstance(value, Mapping) else numbers("fiub", None, not key.endswith(MAY_BE_NAN))(value)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
    return dict(tree)


Array = Annotated[NDArray[Any], PlainValidator(numbers())]
Series = Annotated[NDArray[Any], PlainValidator(numbers(dims=1, finite=False))]
Arrays = Annotated[dict[str, Any], PlainValidator(_arrays)]
Text = Annotated[str, Field(max_length=MOST_CHARACTERS)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def must(holds: Callable[[Any], bool], otherwise: str) -> AfterValidator:
    """A check of a value of the right type.

    Args:
        holds: whether it is right.
        otherwise: what to say if it is not.
    """

    def check(value: Any) -> Any:
        if not holds(value):
            raise ValueError(otherwise)
        return value

    return AfterValidator(check)
