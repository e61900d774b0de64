"""Comparisons: runs of every rule on every profile for every seed, as rows of one table."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisylearn import tasks
from noisylearn.engines import Engine, Here, Job, Outcome, Watch
from noisylearn.engines.jobs import Report
from noisylearn.experiments.config import TrainConfig, idle_options, resolve
from noisylearn.experiments.row import Row
from noisylearn.experiments.run_file import RunFile, prepare_folder
from noisylearn.experiments.train import train
from noisylearn.experiments.tuning import Proposals, Settings, Tuning, best_of
from noisylearn.ground.errors import UserError
from noisylearn.profiles import HardwareProfile
from noisylearn.progress import note_of
from noisylearn.version import __version__

ONWARDS = "the same command or call"


def compare(
    task: str,
    rules: Sequence[str],
    profiles: Sequence[HardwareProfile],
    seeds: Sequence[int],
    options: Mapping[str, Any],
    out: Path,
    data_dir: str | None = None,
    watch: Watch | None = None,
    tuning: Tuning | None = None,
    engine: Engine | None = None,
) -> list[Row]:
    """Run every rule on every profile for every seed, with the recipes of `train` or the options stated.

    Finished runs are read from their files, unfinished ones are continued. A rule that cannot learn on a profile and a
    run that fails are rows with a reason.

    Args:
        task: name of the task.
        rules: names on the command line.
        profiles: profiles to run on.
        seeds: a run for each of them.
        options: setting -> value that the user stated; None for a setting that was not.
        out: folder for the run files.
        data_dir: folder with the data files; None for the default.
        watch: told of the progress of every run.
        tuning: trials to choose settings by, for every rule on every profile; None to tune nothing.
        engine: carries out the runs; None for one after the other in this process.

    Returns:
        A row for every rule on every profile.

    Raises:
        UserError: the request itself is wrong, or no run could be carried out.
    """
    tasks.describe(task)
    bench = _Bench(out, data_dir, engine or Here(), watch or Watch())
    asked = [_Asked.of(task, label, profile, seeds, options) for profile in profiles for label in map(str.lower, rules)]
    ignored = _ignored([one.row for one in asked], options)
    able = [one for one in asked if not one.row.refused]
    prepare_folder(out)
    if ignored:
        warnings.warn(f"options without effect: {ignored}", stacklevel=2)
    if tuning is not None:
        _tune(able, tuning, bench)
    _run(able, bench)
    return [one.row for one in asked]


@dataclass
class _Asked:
    """One rule on one profile, as it was asked for: its row, and the settings that the user or the trials state."""

    task: str
    label: str
    profile: HardwareProfile
    seeds: Sequence[int]
    stated: Settings
    row: Row

    @classmethod
    def of(
        cls, task: str, label: str, profile: HardwareProfile, seeds: Sequence[int], options: Mapping[str, Any]
    ) -> "_Asked":
        asked = cls(task, label, profile, seeds, dict(options), Row(label, profile.name))
        config, asked.row.recipes = asked.resolved(seeds[0])
        asked.row.settings = _without_seed(config)
        if lacking := config.build_rule().missing(profile):
            asked.row.refused = f"refused: needs {' and '.join(lacking)}"
        return asked

    def resolved(self, seed: int, **more: Any) -> tuple[TrainConfig, list[str]]:
        """The configuration for a seed, and the recipes used."""
        return resolve(self.task, self.label, self.profile, {**self.stated, **more, "seed": seed}, lenient=True)

    def trial(self, settings: Settings, tuning: Tuning) -> TrainConfig:
        """The configuration of a trial, with the first seed."""
        epochs = {} if tuning.epochs is None else {"epochs": tuning.epochs}
        return self.resolved(self.seeds[0], **settings, **epochs, held_out="validation")[0]


@dataclass(frozen=True)
class _Bench:
    """Where runs are carried out, and their files lie."""

    out: Path
    data_dir: str | None
    engine: Engine
    watch: Watch

    def carry_out(self, runs: Sequence[tuple[str, TrainConfig, HardwareProfile]]) -> list[Outcome]:
        """Carry out runs, each of which has a name; those that are the same are run once."""
        out, data_dir = self.out.resolve(), None if self.data_dir is None else str(Path(self.data_dir).resolve())
        identities = [config.identity(profile, __version__) for _, config, profile in runs]
        jobs = {
            identity: Job(name, run_job, (config, profile, out, data_dir))
            for identity, (name, config, profile) in zip(identities, runs, strict=True)
        }
        if not jobs:
            return []
        found = dict(zip(jobs, self.engine.run(list(jobs.values()), self.watch), strict=True))
        return [found[identity] for identity in identities]


def run_job(config: TrainConfig, profile: HardwareProfile, out: Path, data_dir: str | None, report: Report) -> Path:
    """One run, as an engine carries it out, or its continuation.

    Args:
        config: the configuration.
        profile: of the machine.
        out: folder for the run file.
        data_dir: folder with the data files; None for the default.
        report: told of its steps.

    Returns:
        The run file.

    Raises:
        UserError: as `train`.
    """

    def on_step(step: int, total: int, loss: float) -> None:
        report(step, total, note_of(step, total, loss, config.epochs))

    return train(config, profile, out, data_dir, resume=True, on_step=on_step, onwards=ONWARDS).path


def _without_seed(config: TrainConfig) -> Settings:
    settings = config.uniform()
    del settings["seed"]
    return settings


def _ignored(rows: Sequence[Row], options: Mapping[str, Any]) -> str:
    """Which stated options have no effect in some rows, in words. Raises UserError for one without effect in any."""
    idle = [(row.rule, _idle(row, options)) for row in rows]
    partly = []
    for key in (key for key, value in options.items() if value is not None):
        name, found = f"--{key.replace('_', '-')}", [(rule, why[key]) for rule, why in idle if key in why]
        rules = ", ".join(dict.fromkeys(rule for rule, _ in found))
        if len(found) == len(rows):
            reasons = {why for _, why in found}
            raise UserError(f"{name} {reasons.pop() if len(reasons) == 1 else f'has no effect on {rules}'}")
        partly += [f"{name} on {rules}"] if found else []
    return "; ".join(partly)


def _idle(row: Row, options: Mapping[str, Any]) -> dict[str, str]:
    """Options without effect on the runs of a row -> why, in words."""
    whole = row.settings["batch_parts"] != options.get("batch_parts")  # as the rule takes no parts
    return idle_options(row.rule, row.settings) | (
        {"batch_parts": f"has no effect on rule {row.rule}"} if whole else {}
    )


def _tune(asked: Sequence[_Asked], tuning: Tuning, bench: _Bench) -> None:
    """Try settings for every row, on the validation part; state the best for its runs. Fills `row.trials`."""
    proposals = [tuning.proposals() for _ in asked]
    proposed = [next(of_row) for of_row in proposals]
    while any(proposed):
        trials = [(one, settings) for one, of_row in zip(asked, proposed, strict=True) for settings in of_row]
        scores = iter(_scores(trials, tuning, bench))
        for i, one in enumerate(asked):
            own = [next(scores) for _ in proposed[i]]
            one.row.trials += [{**tried, "score": score} for tried, score in zip(proposed[i], own, strict=True)]
            proposed[i] = _next(proposals[i], own)
    for one in asked:
        one.stated |= best_of(one.row.trials)
        one.row.settings = _without_seed(one.resolved(one.seeds[0])[0])


def _next(proposals: Proposals, scores: list[float]) -> list[Settings]:
    """What is to be tried next; nothing at the end."""
    try:
        return proposals.send(scores)
    except StopIteration:
        return []


def _scores(trials: Sequence[tuple[_Asked, Settings]], tuning: Tuning, bench: _Bench) -> list[float]:
    """The task's selection criterion after every trial, lower is better; not a number where it did not end well."""
    runs = []
    for one, settings in trials:
        tried = ", ".join(f"{name} {_shown(value)}" for name, value in settings.items())
        runs.append((f"{one.label} on {one.profile.name}, trial {tried}", one.trial(settings, tuning), one.profile))
    outcomes = bench.carry_out(runs)
    _check_any(outcomes)
    for (name, _, _), outcome in zip(runs, outcomes, strict=True):
        if outcome.end not in ("done", "stopped"):
            warnings.warn(f"{name}: {outcome.end}: {outcome.reason}", stacklevel=4)
    return [RunFile(end.value).read()["selection"] if end.end == "done" else math.nan for end in outcomes]


def _run(asked: Sequence[_Asked], bench: _Bench) -> None:
    """Run every row for every seed."""
    of_rows = [(one.row, one.resolved(seed)[0], one.profile) for one in asked for seed in one.seeds]
    runs = [(f"{row.rule} on {row.profile}, seed {config.seed}", config, profile) for row, config, profile in of_rows]
    outcomes = bench.carry_out(runs)
    _check_any(outcomes)
    for (row, config, _), outcome in zip(of_rows, outcomes, strict=True):
        if outcome.end == "done":
            row.runs.append(RunFile(outcome.value).read())
            row.files.append(str(bench.out / outcome.value.name))
        else:
            row.refused = f"{row.refused}; " * bool(row.refused) + f"seed {config.seed} {outcome.end}: {outcome.reason}"


def _check_any(outcomes: Sequence[Outcome]) -> None:
    """Raises UserError where nothing could be carried out: then it is no matter of single runs."""
    if outcomes and all(outcome.end in ("refused", "failed", "lost") for outcome in outcomes):
        raise UserError(outcomes[0].reason)


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


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
