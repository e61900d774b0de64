"""Rows of comparisons from run files: runs that differ in the seed alone are one row."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from noisylearn.experiments.config import TrainConfig, rule_from, split_label
from noisylearn.experiments.row import Row
from noisylearn.experiments.run_facts import AT_ONCE, RunFacts
from noisylearn.ground.errors import UserError, shortened
from noisylearn.ground.tree_file import Tree

OF_TRIALS = ("lr", "epochs", "held_out", "patience", "device")  # in which a trial may differ from the runs it chose for
OF_SEED = ("seed", "own.weights")  # settings in which the runs of a row may differ
OF_ORDER = ("own.batches", "own.data")  # hashes of what a DataLoader gave first, which follows from the seed
OF_FIT = {"readout": "same", "held_out": "test"}  # what nl.fit does not ask for
NEEDED = {"task": str, "rule": str, "profile": str, "network": str, "seed": int, "lr": float}

MOST_OF_REASON = 1000  # characters


@dataclass
class Found:
    """What run files hold, as rows.

    Args:
        comparisons: task -> its rows.
        unread: file -> why it is not among them.
        notes: what else was left out, in words.
    """

    comparisons: dict[str, list[Row]] = field(default_factory=dict)
    unread: dict[Path, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Run:
    """One run file.

    Args:
        facts: what it says of the run.
        stated: all settings.
    """

    facts: RunFacts
    stated: Mapping[str, Any]

    @classmethod
    def of(cls, path: Path, tree: Tree) -> "_Run":
        """The run of a file. Raises UserError where this version does not know its configuration."""
        facts = RunFacts(path, tree)
        if not facts.is_of_fit:
            return cls(facts, TrainConfig.of_run(tree, path).uniform())
        stated = OF_FIT | facts.flat
        if wrong := [name for name, kind in NEEDED.items() if not isinstance(stated.get(name), kind)]:
            raise UserError(f"run file {path}: the settings of its run lack {', '.join(wrong)}")
        return cls(facts, stated | {"rule": split_label(stated["rule"])[0]})

    @property
    def tree(self) -> Tree:
        return self.facts.tree

    @property
    def settings(self) -> dict[str, Any]:
        """All settings but the seed and what follows from it."""
        left_out = (*OF_SEED, *OF_ORDER) if "own.batches" in self.stated else OF_SEED
        return {name: value for name, value in self.stated.items() if name not in left_out}

    @property
    def is_trial(self) -> bool:
        return bool(self.stated["held_out"] == "validation")


def rows_of(trees: Mapping[Path, Tree]) -> Found:
    """Gather runs into rows, those of a task into one comparison.

    Runs on the validation part are trials of the rows that differ from them in learning rate, epochs and part alone;
    where all runs are on the validation part, they are rows themselves. A run that was stopped or is not finished is
    the reason why its row has fewer runs.

    Args:
        trees: run file -> its content.

    Returns:
        The rows, by profile, and what was left out.
    """
    found, runs = Found(), dict[str, _Run]()
    for path, tree in trees.items():
        try:
            run = _Run.of(path, tree)
            rule_from(run.stated)
            runs.setdefault(tree["id"], run)
        except UserError as error:
            found.unread[path] = str(error)
    trials = [run for run in runs.values() if run.is_trial]
    rows: dict[str, Row] = {}
    for run in runs.values():
        if not run.is_trial or len(trials) == len(runs):
            _add(run, rows, found)
    if len(trials) < len(runs):
        _add_trials(trials, rows, found)
    for of_task in found.comparisons.values():
        of_task.sort(key=lambda row: row.profile)
    return found


def _add(run: _Run, rows: dict[str, Row], found: Found) -> None:
    """Put a run into the row of its settings, profile and versions."""
    versions = json.loads(run.tree["versions"])
    key = json.dumps([run.settings, run.tree["profile"], versions["noisylearn"], versions["torch"]])
    others = found.comparisons.setdefault(run.stated["task"], [])
    scores = {f"{row.metric}{AT_ONCE}" for row in others if row.runs}
    if not scores <= {*run.tree.get("final", scores)}:
        path, task = run.facts.path, run.stated["task"]
        found.unread[path] = f"run file {path}: its score is not that of the other runs of {task}"
        return
    if key not in rows:
        rows[key] = Row(run.facts.rule, run.stated["profile"], run.settings)
        others.append(rows[key])
    row = rows[key]
    if run.tree["status"] == "finished":
        row.runs.append(run.tree)
        row.files.append(str(run.facts.path))
    else:
        found.unread[run.facts.path] = f"run file {run.facts.path}: {_ended(run)}"
        row.refused = "; ".join(part for part in (row.refused, f"seed {run.stated['seed']}, {_ended(run)}") if part)


def _ended(run: _Run) -> str:
    """Why a run is not finished."""
    if run.tree["status"] == "stopped":
        return f"stopped: {shortened(run.tree['reason'], MOST_OF_REASON)}"
    return f"not finished: it is at step {run.tree['step']}"


def _add_trials(trials: list[_Run], rows: Mapping[str, Row], found: Found) -> None:
    """Give trials to the rows that they may have been made for."""
    left = 0
    for trial in trials:
        score = trial.tree["selection"] if trial.tree["status"] == "finished" else math.nan
        mine = [row for row in rows.values() if _alike(row.settings, trial.settings)]
        left += not mine
        for row in mine:
            row.trials.append({"lr": trial.stated["lr"], "score": score})
    if left:
        found.notes.append(f"{left} runs on the validation part, trials of other settings, are left out.")


def _alike(settings: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(settings[name] == other[name] for name in settings if name not in OF_TRIALS)
