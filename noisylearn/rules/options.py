"""Options of a rule: fields of its record. Commands, configurations, recipes and run files take them from there.

A field of type bool, int, float, str, `Literal[...]`, or one of these and None, with a sentence for users,

    its_option: int = field(default=3, metadata={"help": "What it is for."})

is `--its-option` on the command line. Its type is checked here, its bounds by the record in `__post_init__`. With
"in_label": True in the metadata there is no such option: the rule's name states it, as the 5 of tbptt5 does.
"""

import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ValidationError, create_model

from noisylearn.ground.errors import UserError
from noisylearn.ground.records import Record, one_line

PLAIN = (bool, int, float, str)


@dataclass(frozen=True)
class Option:
    """One setting that a user may state.

    Args:
        name: name of the field.
        kind: type of the value.
        default: value where nothing is stated.
        help: a sentence for users.
        in_label: whether the rule's name on the command line states it.
    """

    name: str
    kind: Any
    default: Any
    help: str
    in_label: bool = False

    @property
    def choices(self) -> tuple[str, ...]:
        """The allowed values, where the type is a Literal; otherwise empty."""
        literals = [value for value in _values(self.kind) if get_origin(value) is Literal]
        return tuple(str(one) for literal in literals for one in get_args(literal))

    @property
    def plain_kind(self) -> type:
        """Type of a value on the command line: bool, int, float, or str for everything else."""
        given = [kind for kind in _values(self.kind) if kind in PLAIN]
        return given[0] if given else str


@cache
def options_of(kind: type) -> Mapping[str, Option]:
    """The options of a rule.

    Args:
        kind: class of the rule.

    Returns:
        Name -> option, in the order of the record.

    Raises:
        TypeError: an option has no default, or a type that the command line cannot give.
    """
    types_of = get_type_hints(kind)
    found = {f.name: _option(kind, f, types_of[f.name]) for f in fields(kind) if "help" in f.metadata}
    return types.MappingProxyType(found)


def typed(kind: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Check the types of options.

    Args:
        kind: class of the rule.
        given: option -> value.

    Returns:
        The same options, converted where the type allows it (the text "3" to the number).

    Raises:
        UserError: an option is unknown or has a value of another type.
    """
    try:
        return _table(kind)(**given).model_dump(exclude_unset=True)
    except ValidationError as error:
        raise UserError(one_line(error)) from None


def _option(kind: type, f: Field, annotation: Any) -> Option:
    if not all(value in (*PLAIN, types.NoneType) or get_origin(value) is Literal for value in _values(annotation)):
        raise TypeError(f"{kind.__name__}.{f.name}: an option is a bool, int, float, str or Literal, or one or None")
    if f.default is MISSING:
        raise TypeError(f"{kind.__name__}.{f.name}: an option has a default")
    return Option(f.name, annotation, f.default, f.metadata["help"], f.metadata.get("in_label", False))


@cache
def _table(kind: type) -> type[BaseModel]:
    """A record whose keys are the options of a rule."""
    own: dict[str, Any] = {option.name: (option.kind, option.default) for option in options_of(kind).values()}
    return create_model(kind.__name__, __base__=Record, **own)


def _values(annotation: Any) -> tuple[Any, ...]:
    """The types of a union, or the one type."""
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
