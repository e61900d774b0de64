"""What the commands that compare rules leave: a table with trivial baselines, a picture and a page, as files too."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from noisylearn.cli.output import json_text, print_json, print_table, print_text
from noisylearn.experiments.row import Row
from noisylearn.ground.identity import identity_of
from noisylearn.ground.replace import replace_file
from noisylearn.report.figures import comparison_csv
from noisylearn.report.page import runs_page, write_page
from noisylearn.report.tables import comparison_table, trivial_baselines

LONGEST = 60  # characters of a file's name before its digits


def comparison_name(begins: str, asked: Any) -> str:
    """Name of a comparison's files, which no other comparison has.

    Args:
        begins: what the name begins with.
        asked: all that was asked for, as plain values.
    """
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', begins)[:LONGEST]}-{identity_of(asked)}"


def show_comparison(task: str, rows: Sequence[Row], place: Path, json: bool) -> None:
    """Write and print a comparison.

    Where any row has runs, files are written: the picture (.png), the page (.html), the table (.csv) and what `--json`
    prints (.json).

    Args:
        task: its name.
        rows: of the comparison.
        place: path of the files, without the suffix.
        json: whether to print one JSON document; otherwise a table.
    """
    suffixes = {"plot": ".png", "page": ".html", "table": ".csv"}
    files = {what: place.with_name(f"{place.name}{suffix}") for what, suffix in suffixes.items()}
    is_drawn = any(row.runs for row in rows)
    document = {
        "task": task,
        "rows": [_document(row) for row in rows],
        "baselines": trivial_baselines(rows),
        **{what: str(file) if is_drawn else None for what, file in files.items()},
    }
    if is_drawn:
        _draw(rows, files["plot"])
        write_page(files["page"], runs_page({task: rows}))
        replace_file(files["table"], comparison_csv(rows).encode(), "table")
        replace_file(place.with_name(f"{place.name}.json"), f"{json_text(document)}\n".encode(), "table")
    if json:
        print_json(document)
        return
    print_table(comparison_table(f"task {task}: median (± sd over the seeds)", rows))
    if is_drawn:
        print_text("\n".join(f"{what}: {file}" for what, file in files.items()))


def _draw(rows: Sequence[Row], file: Path) -> None:
    """Draw the curves of all rows that have runs."""
    from noisylearn.report.plots import accuracy_curves

    drawn = [row for row in rows if row.runs]
    accuracy_curves(drawn, drawn[0].metric, trivial_baselines(rows), file)


def _document(row: Row) -> dict[str, Any]:
    return {
        "rule": row.rule,
        "profile": row.profile,
        "refused": row.refused or None,
        "settings": row.settings,
        "trials": row.trials,
        "recipes": row.recipes,
        "summary": row.summary(),
        "files": row.files,
    }
