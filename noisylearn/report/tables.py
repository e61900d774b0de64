"""Table of a comparison."""

from collections.abc import Sequence
from typing import Any

from noisylearn.experiments.config import NETWORKS_IN_TIME, rule_from
from noisylearn.experiments.row import Row
from noisylearn.experiments.run_facts import AFTER_A_DAY, AT_ONCE, COMPENSATED, MOMENTS
from noisylearn.ground.table import Table

SCORE = f"on chip, {MOMENTS[AT_ONCE]}"
COLUMNS = (
    "rule",
    "profile",
    "settings",
    SCORE,
    MOMENTS[AFTER_A_DAY],
    "passes over the data",
    "updates",
    "wall (s)",
)


def comparison_table(title: str, rows: Sequence[Row]) -> Table:
    """Table with a row for every rule and profile, then one for every trivial baseline.

    Args:
        title: of the table.
        rows: rows of a comparison, of one task.
    """
    metric = next((row.metric.replace("_", " ") for row in rows if row.runs), "")
    columns = [f"{metric} {name}".strip() if name == SCORE else name for name in COLUMNS]
    baselines = [
        [name, "(trivial baseline)", "", number(value), "", "", "", ""]
        for name, value in trivial_baselines(rows).items()
    ]
    return Table(title, columns, [*map(_cells, rows), *baselines], numbers=5)


def trivial_baselines(rows: Sequence[Row]) -> dict[str, float]:
    """Metric of the task's trivial predictors by name, from the first run; empty without any run."""
    return next((row.runs[0]["baselines"] for row in rows if row.runs), {})


def _cells(row: Row) -> list[str]:
    """Cells of a row of the table: medians over the seeds, with standard deviations where there are several."""
    if not row.runs:
        return [row.label, row.profile, row.refused, "", "", "", "", ""]
    found, metric = row.summary(), row.metric
    drifted = [_figure(found[key]) for key in (f"{metric}{AFTER_A_DAY}", f"{metric}{COMPENSATED}") if key in found]
    passes = f"{found['forward_passes_over_data']['median']:.0f}"
    if back := found["backward_passes_over_data"]["median"]:
        passes += f" + {back:.0f} backward"
    at_once, wall = _figure(found[f"{metric}{AT_ONCE}"]), f"{found['wall_s']['median']:.0f}"
    others = [key for key in found if key.endswith(AT_ONCE) and key != f"{metric}{AT_ONCE}"]
    at_once += "".join(f"; {key.removesuffix(AT_ONCE)} {_figure(found[key])}" for key in others)
    updates = f"{found['weight_updates']['median']:.0f}"
    settings = _settings(row) + (f"; {row.refused}" if row.refused else "")
    return [row.label, row.profile, settings, at_once, "; compensated ".join(drifted) or "-", passes, updates, wall]


def _settings(row: Row) -> str:
    """Options of the rule and settings of the training, in one line."""
    s = row.settings
    tried = f" (best of {len(row.trials)}{edge(row)})" if row.trials else ""
    settings = [*terms(row), f"lr {s['lr']:.3g}{tried}", f"{s['epochs']} epochs", f"batch {s['batch']}"]
    chosen = [name for name in (row.trials[0] if row.trials else ()) if name not in ("lr", "epochs", "batch", "score")]
    return ", ".join(settings + [f"{name.replace('_', '-')} {_value(s[name])}" for name in chosen])


def terms(row: Row) -> list[str]:
    """What a table says of the rule of a row, beside its label: baseline, credit and the like."""
    return rule_from(row.settings).terms(in_time=row.settings["network"] in NETWORKS_IN_TIME)


def edge(row: Row) -> str:
    """Which end of several learning rates that were tried the best is, if any: beyond it others may be better.

    Returns:
        ", the largest tried", ", the smallest tried" or nothing.
    """
    rates = {trial["lr"] for trial in row.trials if "lr" in trial}
    if len(rates) < 2 or min(rates) < row.settings["lr"] < max(rates):
        return ""
    return ", the largest tried" if row.settings["lr"] == max(rates) else ", the smallest tried"


def _value(setting: Any) -> str:
    """A setting that was tried, as on the command line."""
    if isinstance(setting, list | tuple):
        return "-".join(map(str, setting)) or "none"
    return f"{setting:.3g}" if isinstance(setting, float) else str(setting)


def _figure(spread: dict[str, float]) -> str:
    """Median, with the standard deviation where there is more than one seed."""
    sd = f" ± {number(spread['sd'])}" if spread["n"] > 1 else ""
    return number(spread["median"]) + sd


def number(value: float) -> str:
    """Four decimals, or three significant digits for numbers below 0.1."""
    return f"{value:.4f}" if value == 0 or abs(value) >= 0.1 else f"{value:.3g}"
