"""Reference of what a profile may state, taken from the records themselves: tables, keys, values, defaults."""

import inspect
from collections.abc import Iterator
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel

from noisylearn.effects import REGISTRY, Curve, Effect
from noisylearn.ground.records import CitedRecord
from noisylearn.profiles.profile import Specification
from noisylearn.profiles.write import MODES, PulsedDevice

OF_EVERY_TABLE = ("status", "source", "exceptions")
A_CURVE = "a curve"
OF_RECORDS = {"Curve": A_CURVE, "PulsedDevice": "the table [write.device]"}


class Table(NamedTuple):
    """A table of a profile.

    Args:
        name: its name in this reference.
        heading: its heading in a profile's file.
        record: the class that holds it.
    """

    name: str
    heading: str
    record: type[BaseModel]

    @property
    def meaning(self) -> str:
        """Docstrings of the record and of its base classes: equations, keys and units."""
        shared = [record for record in self.record.__mro__[1:] if issubclass(record, CitedRecord)]
        own = [self.record, *(record for record in shared if record not in (CitedRecord, Effect))]
        if any(A_CURVE in key.takes for key in keys(self)):
            own.append(Curve)
        return "\n\n".join(filter(None, map(inspect.getdoc, own)))


class Key(NamedTuple):
    """A key of a table.

    Args:
        name: the key.
        takes: its values, in words.
        default: its default as written in TOML, or "required".
        meaning: what it states, where the table's text does not say so.
    """

    name: str
    takes: str
    default: str
    meaning: str


def tables() -> dict[str, Table]:
    """Every table that a profile may have, by name, in the order of a profile's file."""
    return {table.name: table for table in _tables()}


def _tables() -> Iterator[Table]:
    """Tables of the specification, of writing, and of every effect."""
    for name, field in Specification.model_fields.items():
        records = [kind for kind in get_args(field.annotation) if kind is not type(None)]
        for record in records:
            yield Table(name, f"[specification.{name}]", record)
    for mode, record in MODES.items():
        yield Table(mode, f'[write] mode = "{mode}"', record)
    yield Table("device", "[write.device]", PulsedDevice)
    for kind, record in REGISTRY.items():
        yield Table(kind, f'[[calibration.effects]] kind = "{kind}"', record)


def keys(table: Table) -> list[Key]:
    """Keys of a table, without those that every table has, such as status and source.

    Args:
        table: one of `tables()`.
    """
    schema = table.record.model_json_schema()
    required = schema.get("required", ())
    return [
        Key(
            name,
            _takes(value),
            "required" if name in required else _toml(value.get("default")),
            value.get("description", ""),
        )
        for name, value in schema["properties"].items()
        if name not in OF_EVERY_TABLE and not (name == "kind" and "default" in value)
    ]


def _takes(schema: dict[str, Any]) -> str:
    """A JSON schema in words."""
    if "$ref" in schema:
        return OF_RECORDS[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        return " or ".join(_takes(choice) for choice in schema["anyOf"] if choice.get("type") != "null")
    if "const" in schema:
        return _toml(schema["const"])
    if "enum" in schema:
        return " or ".join(map(_toml, schema["enum"]))
    if schema["type"] == "array":
        pair = schema.get("prefixItems")
        return f"[{', '.join(map(_takes, pair))}]" if pair else f"a list, each {_takes(schema['items'])}"
    what = {"number": "a number", "integer": "a whole number", "boolean": "true or false", "string": "a text"}
    bounds = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
    limits = [f"{sign} {schema[bound]:g}" for bound, sign in bounds.items() if bound in schema]
    return " ".join([what[schema["type"]], " and ".join(limits)]).strip()


def _toml(value: Any) -> str:
    """A value as TOML writes it."""
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')
