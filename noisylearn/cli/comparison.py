"""What the commands that compare rules print: a table with trivial baselines, a plot, or one JSON document."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from noisylearn.cli.output import print_json, print_table, print_text
from noisylearn.experiments.row import Row
from noisylearn.report.tables import comparison_table, trivial_baselines


def show_comparison(task: str, rows: Sequence[Row], plot: Path, json: bool) -> None:
    """Draw and print a comparison.

    Args:
        task: its name.
        rows: of the comparison.
        plot: file of the picture, which is written where any row has runs.
        json: whether to print one JSON document; otherwise a table.
    """
    drawn = _drawn(rows, plot)
    if json:
        documents = [_document(row) for row in rows]
        print_json({"task": task, "rows": documents, "baselines": trivial_baselines(rows), "plot": drawn})
        return
    print_table(comparison_table(f"task {task}: median (± sd over the seeds)", rows))
    if drawn:
        print_text(f"plot: {drawn}")


def _drawn(rows: Sequence[Row], file: Path) -> str | None:
    """Draw the curves of all rows that have runs; the file's path, None where no row has any."""
    from noisylearn.report.plots import accuracy_curves

    drawn = [row for row in rows if row.runs]
    if not drawn:
        return None
    accuracy_curves(drawn, drawn[0].metric, trivial_baselines(rows), file)
    return str(file)


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
