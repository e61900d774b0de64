"""Base classes of everything read from a profile: frozen records whose numbers carry their status and source."""

import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from noisylearn.ground.errors import LONGEST_NAME, shortened, unknown_name

Status = Literal["measured", "fitted", "assumed"]


class Provenance(NamedTuple):
    """Where a number comes from.

    Args:
        status: how it was obtained: "measured", "fitted" or "assumed".
        source: key of its source in the profile.
    """

    status: Status
    source: str


class Record(BaseModel):
    """A frozen table of a profile; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    @model_validator(mode="before")
    @classmethod
    def _known_keys_and_no_truth_for_a_number(cls, table: Any) -> Any:
        """Refuse unknown keys, and true or false where a number is expected."""
        for key, value in table.items() if isinstance(table, dict) else ():
            if key not in cls.model_fields:
                raise ValueError(str(unknown_name("key", str(key), cls.model_fields.keys() - {"exceptions"})))
            annotation = cls.model_fields[key].annotation
            if isinstance(value, bool) and {int, float} & {annotation, *get_args(annotation)}:
                raise ValueError(f"{key}: true and false are no value for it")
        return table


class CitedRecord(Record):
    """A table whose numbers are cited.

    A number with another status or source than the table's is written as
    `key = { value = 1.0, status = "assumed", source = "..." }`.

    Args:
        status: of the table's numbers: "measured", "fitted" or "assumed".
        source: of the table's numbers: key of a source in the profile.
        exceptions: key -> provenance of the numbers that differ.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    status: Status
    source: str
    exceptions: dict[str, Provenance] = Field(default_factory=dict, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _lift_cited_values(cls, table: Any) -> Any:
        """Move the provenance of single numbers to `exceptions`."""
        if not isinstance(table, dict):
            return table
        plain, exceptions = {}, {}
        for key, value in table.items():
            if isinstance(value, dict) and "value" in value:
                missing = {"value", "status", "source"} ^ set(value)
                if missing:
                    raise ValueError(f"{key}: a cited value has value, status and source; check {sorted(missing)}")
                exceptions[key] = Provenance(value["status"], value["source"])
                value = value["value"]
            plain[key] = value
        return {**plain, "exceptions": exceptions} if exceptions else plain

    def provenance(self, key: str) -> Provenance:
        """Status and source of one number of this table.

        Args:
            key: of the number.
        """
        return self.exceptions.get(key, Provenance(self.status, self.source))

    def sources(self) -> set[str]:
        """Keys of all sources that this table cites."""
        return {self.source} | {p.source for p in self.exceptions.values()}

    def numbers(self) -> Iterator[tuple[str, Any, Provenance]]:
        """Key, value and provenance of everything that the table states, without kind, status and source."""
        for key in type(self).model_fields:
            if key not in ("kind", "status", "source", "exceptions"):
                yield key, getattr(self, key), self.provenance(key)


SHOWN_ERRORS, LONGEST = 3, 500  # errors, and characters of one
_PLAIN = ((r"^(Input|String|List|Tuple) should ", "must "), (r"^Field required$", "is required"), ("a valid ", "a "))


def one_line(error: ValidationError) -> str:
    """Say in one line what a pydantic error found: key, what is wrong, value.

    Args:
        error: as pydantic raised it.
    """
    parts = []
    for item in error.errors()[:SHOWN_ERRORS]:
        message = _plain(item["msg"].removeprefix("Value error, "))
        if item["type"].startswith("union_tag"):
            known = item["ctx"].get("expected_tags", "").replace("'", "").split(", ")
            message = str(unknown_name("kind", item["ctx"]["tag"], known)) if any(known) else "no kind is stated"
        key = shortened(".".join(str(step) for step in item["loc"]), LONGEST_NAME) or "(whole file)"
        found = "" if isinstance(item["input"], BaseModel | dict) else f" (found {shortened(repr(item['input']))})"
        parts.append(f"{key}: {shortened(message, LONGEST)}{found}")
    left = error.error_count() - SHOWN_ERRORS
    return " ".join(("; ".join(parts) + (f"; and {left} more" if left > 0 else "")).split())


def _plain(message: str) -> str:
    """A message of pydantic as our own messages are worded."""
    for pattern, ours in _PLAIN:
        message = re.sub(pattern, ours, message)
    return message
