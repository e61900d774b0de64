"""One row of a comparison: one rule on one profile, with its runs and their figures over the seeds."""

import statistics
from dataclasses import dataclass, field
from typing import Any

from noisylearn.experiments.config import rule_from
from noisylearn.experiments.run_facts import AT_ONCE
from noisylearn.experiments.tuning import Settings
from noisylearn.ground.tree_file import Tree


@dataclass
class Row:
    """One rule on one profile: its runs, or why there are none.

    Args:
        rule: name on the command line.
        profile: name of the profile.
        settings: setting -> value, those of the first seed.
        recipes: names of the recipes used.
        runs: contents of the run files, one for each seed.
        files: paths of the run files.
        refused: why runs are missing; empty if none are.
        trials: the settings tried and the criterion ("score", lower is better) of every trial.
    """

    rule: str
    profile: str
    settings: dict[str, Any] = field(default_factory=dict)
    recipes: list[str] = field(default_factory=list)
    runs: list[Tree] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    refused: str = ""
    trials: list[Settings] = field(default_factory=list)

    @property
    def label(self) -> str:
        """The rule with what distinguishes its rows: number of draws, or where backpropagation trains."""
        readout = "delta readout" if self.settings["readout"] == "delta" else ""
        return ", ".join(part for part in (self.rule, rule_from(self.settings).distinction, readout) if part)

    @property
    def metric(self) -> str:
        """Name of the task's metric, taken from the first run."""
        return next(key for key in self.runs[0]["final"] if key.endswith(AT_ONCE)).removesuffix(AT_ONCE)

    def finals(self, key: str) -> list[float]:
        """One final figure of every seed that has it.

        Args:
            key: as in the group `final` of a run file, for example "accuracy_at_once".
        """
        return [run["final"][key] for run in self.runs if key in run["final"]]

    def summary(self) -> dict[str, dict[str, float]]:
        """Statistics over the seeds of every final figure and of the wall time, `wall_s`, in seconds.

        Returns:
            Key -> "median", "mean", "sd" (standard deviation) and "n" (number of seeds).
        """
        keys = dict.fromkeys(key for run in self.runs for key in run["final"])
        values = {key: self.finals(key) for key in keys} | {"wall_s": [run["wall_s"] for run in self.runs]}
        return {key: _spread(found) for key, found in values.items() if found}


def _spread(values: list[float]) -> dict[str, float]:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {
        "median": statistics.median(values),
        "mean": statistics.fmean(values),
        "sd": deviation,
        "n": len(values),
    }
