"""What distinguishes the rows of a comparison on a page: a label of its own, a colour, a line style."""

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass

from noisylearn.experiments.row import Row

# To be told apart on white and on black alike.
COLORS = (
    "#3b82c4", "#e07b1a", "#2f9e5a", "#d6453d", "#8f63c6", "#a0694b", "#d65fae", "#1aa3b5", "#8a8f1c", "#5b6ee1",
)  # fmt: skip
DASHES = ((1, 0), (6, 3), (2, 2), (8, 3, 2, 3), (10, 4), (4, 2, 1, 2))


@dataclass(frozen=True)
class Series:
    """A row of a comparison, as it is drawn.

    Args:
        row: the row.
        label: its name, which no other row of the comparison has.
        color: of its lines, by rule.
        dash: lengths of strokes and gaps in pixels, by profile.
    """

    row: Row
    label: str
    color: str
    dash: tuple[int, ...]


def series_of(rows: Sequence[Row]) -> list[Series]:
    """The rows with labels that differ, a colour for every rule, and a line style for every profile."""
    labels = _labels(rows)
    once = len({(row.rule, row.profile) for row in rows}) == len(rows)
    kinds = [row.rule if once else _without(label, row.profile) for label, row in zip(labels, rows, strict=True)]
    colors = dict(zip(dict.fromkeys(kinds), itertools.cycle(COLORS), strict=False))
    dashes = dict(zip(dict.fromkeys(row.profile for row in rows), itertools.cycle(DASHES), strict=False))
    return [
        Series(row, label, colors[kind], dashes[row.profile])
        for row, label, kind in zip(rows, labels, kinds, strict=True)
    ]


def facts_of(row: Row) -> dict[str, str]:
    """Settings and versions of a row, as text, by name."""
    facts = {name: shown(value) for name, value in row.settings.items()}
    versions = json.loads(row.runs[0]["versions"]) if row.runs else {}
    return facts | {name: str(versions.get(name, "")) for name in ("noisylearn", "torch", "python")}


def shown(value: object) -> str:
    """A setting, for people."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else "-" if value is None else str(value)


def _labels(rows: Sequence[Row]) -> list[str]:
    """Rule and, where there are several, profile; with what differs where that is not enough, and then by number."""
    several = len({row.profile for row in rows}) > 1
    labels = [f"{row.label} on {row.profile}" if several else row.label for row in rows]
    for label in {label for label in labels if labels.count(label) > 1}:
        alike = [i for i, one in enumerate(labels) if one == label]
        facts = [facts_of(rows[i]) | {"profile": _digest(rows[i])} for i in alike]
        differing = [name for name in facts[0] if len({one.get(name) for one in facts}) > 1]
        for number, (i, own) in enumerate(zip(alike, facts, strict=True), 1):
            more = ", ".join(f"{name.replace('_', '-')} {own.get(name)}" for name in differing)
            labels[i] += f", {more}" if more else f" ({number})"
    return labels


def _digest(row: Row) -> str:
    """Eight digits for the text of a row's profile."""
    text = row.runs[0]["profile"] if row.runs else ""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _without(label: str, profile: str) -> str:
    return label.replace(f" on {profile}", "", 1)
