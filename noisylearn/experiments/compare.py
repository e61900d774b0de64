"""Comparisons: runs of every rule on every profile for every seed, as rows of one table."""

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
    """Trials of learning rates on the validation part, before a comparison.

    Args:
        lrs: learning rates to try.
        epochs: length of a trial; None for that of a run.

    Raises:
        UserError: a value is not allowed.
    """

    lrs: Sequence[float]
    epochs: int | None = None

    def __post_init__(self) -> None:
        if not all(0 < lr < math.inf for lr in self.lrs) or len(set(self.lrs)) < len(self.lrs):
            raise UserError(f"--tune-lr {', '.join(f'{lr:g}' for lr in self.lrs)}: give positive numbers, each once")
        if self.epochs is not None and self.epochs < 1:
            raise UserError(f"--tune-epochs {self.epochs}: give at least 1")


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
        trials: learning rate ("lr") and criterion ("score", lower is better) of every trial.
    """

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
        """The rule with what distinguishes its rows: number of draws, or where backpropagation trains."""
        readout = "delta readout" if self.settings["readout"] == "delta" else ""
        return ", ".join(part for part in (self.rule, rule_from(self.settings).distinction, readout) if part)

    @property
    def metric(self) -> str:
        """Name of the task's metric, taken from the first run."""
        return next(key for key in self.runs[0]["final"] if key.endswith("_at_once")).removesuffix("_at_once")

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
    """Run every rule on every profile for every seed, with the recipes of `train` or the options stated.

    Finished runs are read from their files, unfinished ones are continued. A rule that cannot learn on a profile and a
    run that diverges are rows with a reason.

    Args:
        task: name of the task.
        rules: names on the command line.
        profiles: profiles to run on.
        seeds: a run for each of them.
        options: setting -> value that the user stated; None for a setting that was not.
        out: folder for the run files.
        data_dir: folder with the data files; None for the default.
        on_run: name of a run -> function to call after each of its steps, as `on_step` of `train`.
        tuning: trials to choose learning rates by, for every rule on every profile; None to tune nothing.

    Returns:
        A row for every rule on every profile.

    Raises:
        UserError: the request itself is wrong.
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
    for row, config, profile in runs:  # only after all requests were checked
        if tuning is not None:
            if id(row) not in chosen:
                chosen[id(row)] = _tune(row, tuning, config, profile, out, data_dir, on_run)
            config = config.model_copy(update={"lr": chosen[id(row)]})
        on_step = on_run(f"{row.rule} on {profile.name}, seed {config.seed}")
        _run_into(row, config, profile, out, data_dir, on_step)
    return rows


def _check_options(rows: Sequence[Row], options: Mapping[str, Any]) -> None:
    """Raises UserError for a stated option that has no effect in any row."""
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
    """Try every learning rate with the first seed, on the validation part; return the best. Fills `row.trials`.

    The score of a trial is the task's selection criterion; lower is better.
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
    """Check the lists of a comparison.

    Args:
        rules: names of rules.
        profiles: names of profiles.
        seeds: seeds.

    Raises:
        UserError: a list is empty or names something twice.
    """
    for what, given in (("--rules", rules), ("--profiles", profiles), ("--seeds", seeds)):
        if not given:
            raise UserError(f"{what} is empty; give at least one, separated by commas")
        if len(set(given)) != len(given):
            raise UserError(f"{what} names something twice: {', '.join(map(str, given))}")
