"""Rules x profiles x seeds -> runs, one table, plots."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from noisylearn import tasks
from noisylearn.experiments.config import TrainConfig, idle_options, resolve, rule_from
from noisylearn.experiments.run_file import RunFile
from noisylearn.experiments.train import OnStep, train
from noisylearn.ground.errors import RunawayError, UserError
from noisylearn.ground.tree_file import Tree
from noisylearn.profiles import HardwareProfile


@dataclass(frozen=True)
class Tuning:
    """Trials of every rule before a comparison, on the validation part: learning rates, and epochs of a trial."""

    lrs: Sequence[float]
    epochs: int | None = None

    def __post_init__(self) -> None:
        if not all(0 < lr < math.inf for lr in self.lrs) or len(set(self.lrs)) < len(self.lrs):
            raise UserError(f"--tune-lr {', '.join(f'{lr:g}' for lr in self.lrs)}: give positive numbers, each once")
        if self.epochs is not None and self.epochs < 1:
            raise UserError(f"--tune-epochs {self.epochs}: give at least 1")


@dataclass
class Row:
    """One rule on one profile: what its runs over the seeds gave, or why there are none."""

    rule: str
    profile: str
    settings: dict[str, Any] = field(default_factory=dict)
    recipes: list[str] = field(default_factory=list)
    runs: list[Tree] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    refused: str = ""
    trials: list[dict[str, float]] = field(default_factory=list)

    @property
    def label(self) -> str:
        """The rule with what tells its rows apart: number of draws, or where backprop trains."""
        readout = "delta readout" if self.settings["readout"] == "delta" else ""
        return ", ".join(part for part in (self.rule, rule_from(self.settings).distinction, readout) if part)

    @property
    def metric(self) -> str:
        """Name of the task's metric; needs a run."""
        return next(key for key in self.runs[0]["final"] if key.endswith("_at_once")).removesuffix("_at_once")

    def finals(self, key: str) -> list[float]:
        """One final figure of every seed that has it."""
        return [run["final"][key] for run in self.runs if key in run["final"]]

    def summary(self) -> dict[str, dict[str, float]]:
        """Median, mean and standard deviation over the seeds of every final figure and of the wall time."""
        keys = dict.fromkeys(key for run in self.runs for key in run["final"])
        values = {key: self.finals(key) for key in keys} | {"wall_s": [run["wall_s"] for run in self.runs]}
        return {key: _spread(found) for key, found in values.items() if found}


def compare(
    task: str,
    rules: Sequence[str],
    profiles: Sequence[HardwareProfile],
    seeds: Sequence[int],
    options: Mapping[str, Any],
    out: Path,
    data_dir: str | None = None,
    on_run: Callable[[str], OnStep] = lambda label: lambda step, total, loss: None,
    tuning: Tuning | None = None,
) -> list[Row]:
    """Run every rule on every profile for every seed, all with the recipes of `train` or the options stated.

    tuning: choose the learning rate first, of every rule on every profile by as many trials.
    Runs that finished earlier are read, unfinished ones continued. A rule that a profile refuses, or a run that
    runs away, is a row with its reason. Raises UserError for what is wrong with the request itself.
    """
    tasks.describe(task)
    rows, runs = [], []
    for profile in profiles:
        for label in rules:
            configs = [resolve(task, label, profile, {**options, "seed": seed}, lenient=True) for seed in seeds]
            row = Row(label, profile.name, configs[0][0].uniform(), configs[0][1])
            del row.settings["seed"]
            rows.append(row)
            lacking = configs[0][0].build_rule().missing(profile)
            if lacking:
                row.refused = f"refused: needs {' and '.join(lacking)}"
            else:
                runs += [(row, config, profile) for config, _ in configs]
    _check_options(rows, options)
    chosen: dict[int, float] = {}
    for row, config, profile in runs:  # nothing has run before every request was found to be in order
        if tuning is not None:
            if id(row) not in chosen:
                chosen[id(row)] = _tune(row, tuning, config, profile, out, data_dir, on_run)
            config = config.model_copy(update={"lr": chosen[id(row)]})
        on_step = on_run(f"{row.rule} on {profile.name}, seed {config.seed}")
        _run_into(row, config, profile, out, data_dir, on_step)
    return rows


def _check_options(rows: Sequence[Row], options: Mapping[str, Any]) -> None:
    """Raises UserError for a stated option that none of the rows has a use for."""
    idle = set.intersection(*(set(idle_options(row.rule, row.settings)) for row in rows))
    for key in (k for k, value in options.items() if k in idle and value is not None):
        raise UserError(f"--{key.replace('_', '-')} has no effect on {', '.join(dict.fromkeys(r.rule for r in rows))}")


def _tune(
    row: Row,
    tuning: Tuning,
    config: TrainConfig,
    profile: HardwareProfile,
    out: Path,
    data_dir: str | None,
    on_run: Callable[[str], OnStep],
) -> float:
    """Try every learning rate with the first seed, on the validation part; the best one. Fills row.trials.

    The score of a trial is what the task selects by, and lower is better.
    """
    for lr in tuning.lrs:
        changed: dict[str, Any] = {"lr": lr, "held_out": "validation", "epochs": tuning.epochs or config.epochs}
        trial = config.model_copy(update=changed)
        on_step = on_run(f"{row.rule} on {profile.name}, trial lr {lr:g}")
        try:
            found = train(trial, profile, out, data_dir, resume=True, on_step=on_step).read()
        except RunawayError:
            row.trials.append({"lr": lr, "score": math.nan})
            continue
        row.trials.append({"lr": lr, "score": found["selection"]})
    done = [trial for trial in row.trials if math.isfinite(trial["score"])]
    best = min(done, key=lambda trial: trial["score"])["lr"] if done else min(tuning.lrs)
    row.settings["lr"] = best
    return best


def _run_into(
    row: Row,
    config: TrainConfig,
    profile: HardwareProfile,
    out: Path,
    data_dir: str | None,
    on_step: OnStep,
) -> None:
    try:
        file: RunFile = train(config, profile, out, data_dir, resume=True, on_step=on_step)
    except RunawayError as stop:
        row.refused = f"{row.refused}; " * bool(row.refused) + f"seed {config.seed} stopped: {stop}"
        return
    row.runs.append(file.read())
    row.files.append(str(file.path))


def _spread(values: list[float]) -> dict[str, float]:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {
        "median": statistics.median(values),
        "mean": statistics.fmean(values),
        "sd": deviation,
        "n": len(values),
    }


def check_request(rules: Sequence[str], profiles: Sequence[str], seeds: Sequence[int]) -> None:
    """Raises UserError for an empty or repeating list."""
    for what, given in (("--rules", rules), ("--profiles", profiles), ("--seeds", seeds)):
        if not given:
            raise UserError(f"{what} is empty; give at least one, separated by commas")
        if len(set(given)) != len(given):
            raise UserError(f"{what} names something twice: {', '.join(map(str, given))}")
