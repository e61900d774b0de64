"""Tables of a page: cells with what they are sorted by."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from noisylearn.experiments.config import idle_options
from noisylearn.experiments.row import Row
from noisylearn.experiments.run_facts import AT_ONCE, MOMENTS
from noisylearn.ground.errors import shortened
from noisylearn.ground.table import Table
from noisylearn.report.page.series import Series, facts_of
from noisylearn.report.tables import edge, number, terms

PLACE = ("task", "rule", "profile")


@dataclass(frozen=True)
class Cell:
    """One cell.

    Args:
        text: of the cell.
        order: number that it is sorted by; None to sort by its text.
        note: smaller, below.
    """

    text: str
    order: float | None = None
    note: str = ""


@dataclass(frozen=True)
class SortTable:
    """A table that is sorted by a click on a column.

    Args:
        title: what it shows, for a screen reader.
        columns: their names.
        rows: of cells, one for every column.
        kinds: of every row: "" or a name of its style, such as "baseline".
        numbers: columns, by number, that are aligned to the right.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    kinds: Sequence[str] = field(default=())
    numbers: frozenset[int] = frozenset()

    def kind(self, i: int) -> str:
        """Style of a row."""
        return self.kinds[i] if self.kinds else ""


def sortable(table: Table) -> SortTable:
    """A table of text; columns of numbers are sorted by the number that a cell begins with."""
    first = len(table.columns) - table.numbers
    rows = [[Cell(text, _leading(text) if i >= first else None) for i, text in enumerate(row)] for row in table.rows]
    return SortTable(table.title, table.columns, rows, numbers=frozenset(range(first, len(table.columns))))


def _leading(text: str) -> float | None:
    try:
        return float(text.split()[0])
    except (IndexError, ValueError):
        return None


def results_table(series: Sequence[Series], metric: str, baselines: Mapping[str, float]) -> SortTable:
    """Every row with its figures or the reason of its failure, and trivial baselines as rows of their own.

    Columns in which nothing stands are left out.
    """
    at_once, *later = MOMENTS.values()
    score = f"{metric.replace('_', ' ')} on the chip, {at_once}"
    columns = [
        "rule", "profile", score, *later, "seeds",
        "passes over the data", "updates", "training (s)", "learning rate",
    ]  # fmt: skip
    rows = [_result(one) for one in series]
    kinds = ["" if one.row.runs else "failed" for one in series]
    for name, value in baselines.items():
        rows.append([Cell(name), Cell("trivial baseline"), Cell(number(value), value), *[Cell("")] * 7])
        kinds.append("baseline")
    kept = [i for i in range(len(columns)) if any(row[i].text for row in rows)]
    numbers = frozenset(place for place, i in enumerate(kept) if 2 <= i <= 9)
    return SortTable("results", [columns[i] for i in kept], [[row[i] for i in kept] for row in rows], kinds, numbers)


def _result(one: Series) -> list[Cell]:
    row = one.row
    apart = one.label.removeprefix(row.label).removeprefix(f" on {row.profile}").removeprefix(", ").strip()
    name = Cell(row.label, note="; ".join(part for part in (apart, ", ".join(terms(row)), row.refused) if part))
    profile, rate = Cell(row.profile), _rate(row)
    if not row.runs:
        return [name, profile, *[Cell("")] * 7, rate]
    passes = statistics.median(row.finals("forward_passes_over_data"))
    back = statistics.median(row.finals("backward_passes_over_data"))
    updates = statistics.median(row.finals("weight_updates"))
    wall_s = statistics.median(run["wall_s"] for run in row.runs)
    scores = [f"{row.metric}{when}" for when in MOMENTS]
    return [
        name, profile, *(_spread(row.finals(score)) for score in scores),
        Cell(str(len(row.runs)), len(row.runs)),
        Cell(f"{passes:g} forward", passes + back, f"{back:g} backward" if back else ""),
        Cell(f"{updates:g}", updates), Cell(f"{wall_s:.3g}", wall_s), rate,
    ]  # fmt: skip


def _spread(values: Sequence[float]) -> Cell:
    """Median, and the range of several values."""
    if not values:
        return Cell("")
    median = statistics.median(values)
    several = f"{number(min(values))} to {number(max(values))}" if len(values) > 1 else ""
    return Cell(number(median), median, several)


def _rate(row: Row) -> Cell:
    """The learning rate, among how many it was chosen, and whether it is at the edge of them."""
    lr = float(row.settings["lr"])
    tried = f"best of {len(row.trials)} trials{edge(row)}" if row.trials else ""
    return Cell(f"{lr:g}", lr, tried)


def settings_tables(series: Sequence[Series]) -> tuple[dict[str, str], SortTable]:
    """The settings that all rows share, and a table of those that differ or that some rows have no use for."""
    facts = [facts_of(one.row) for one in series]
    used = [
        {name: own[name] for name in own if name not in (*PLACE, *idle_options(one.row.rule, one.row.settings))}
        for one, own in zip(series, facts, strict=True)
    ]
    names = dict.fromkeys(name for own in used for name in own)
    shared = {name: used[0][name] for name in names if len({own.get(name) for own in used}) == 1}
    differing = [name for name in names if name not in shared]
    rows = [
        [Cell(one.label), *(Cell(own.get(n, "-")) for n in differing)] for one, own in zip(series, used, strict=True)
    ]
    columns = ["row", *(name.replace("_", " ") for name in differing)]
    return {name.replace("_", " "): text for name, text in shared.items()}, SortTable("settings", columns, rows)


def runs_table(series: Sequence[Series]) -> SortTable:
    """Every run: seed, score, versions, machine, file and when it ended."""
    columns = ["row", "seed", "id", "score", "training (s)", "versions", "machine", "ended", "file"]
    rows = []
    for one in series:
        for run, file in zip(one.row.runs, map(Path, one.row.files), strict=True):
            rows.append([Cell(one.label), *_run(run, one.row.metric, file)])
    return SortTable("runs", columns, rows, numbers=frozenset({1, 3, 4}))


def _run(run: Mapping[str, Any], metric: str, file: Path) -> list[Cell]:
    config, versions = (json.loads(run[key]) for key in ("config", "versions"))
    score, seed = run["final"][f"{metric}{AT_ONCE}"], config["seed"]
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    texts = [shortened(text, 200) for text in (named, run["machine"], _date(run, file), file.name)]
    numbers = [Cell(number(score), score), Cell(f"{run['wall_s']:.3g}", run["wall_s"])]
    return [Cell(str(seed), seed), Cell(run["id"]), *numbers, *map(Cell, texts)]


def _date(run: Mapping[str, Any], file: Path) -> str:
    """When a run has ended, in UTC; of files that do not say it, when they were written; nothing where none knows."""
    try:
        ended = run.get("ended")
        when = datetime.fromisoformat(ended) if ended else datetime.fromtimestamp(file.stat().st_mtime, UTC)
        return f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except (OSError, OverflowError):  # OverflowError: of a date at the end of all years
        return ""
