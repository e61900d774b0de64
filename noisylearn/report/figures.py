"""The figures of a comparison for a spreadsheet."""

import csv
import io
import statistics
from collections.abc import Sequence

from noisylearn.experiments.row import Row
from noisylearn.experiments.run_facts import AT_ONCE
from noisylearn.report.tables import trivial_baselines


def comparison_csv(rows: Sequence[Row]) -> str:
    """A line for every row, then one for every trivial baseline, as CSV.

    Of every final figure and of the wall time in seconds there are three columns: the median over the seeds, the
    smallest and the largest.

    Args:
        rows: of a comparison, of one task.
    """
    figures = dict.fromkeys(key for row in rows for key in row.summary())
    columns = ["rule", "profile", "label", "refused", "seeds", "lr", "trials"]
    columns += [f"{key}_{what}" for key in figures for what in ("median", "low", "high")]
    content = io.StringIO()
    writer = csv.DictWriter(content, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_line(row, figures) for row in rows)
    score = next((f"{row.metric}{AT_ONCE}_median" for row in rows if row.runs), "")
    for name, value in trivial_baselines(rows).items():
        writer.writerow({"rule": name, "label": "trivial baseline", score: value})
    return content.getvalue()


def _line(row: Row, figures: Sequence[str] | dict[str, None]) -> dict[str, object]:
    line: dict[str, object] = {
        "rule": row.rule, "profile": row.profile, "label": row.label, "refused": row.refused, "seeds": len(row.runs),
        "lr": row.settings["lr"], "trials": len(row.trials),
    }  # fmt: skip
    for key in figures:
        values = [run["wall_s"] for run in row.runs] if key == "wall_s" else row.finals(key)
        if values:
            parts = (statistics.median(values), min(values), max(values))
            line |= {f"{key}_{what}": value for what, value in zip(("median", "low", "high"), parts, strict=True)}
    return line
