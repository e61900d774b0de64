"""What a run file says of its run: as one flat record, as curves, and as tables for people."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisylearn.experiments.config import PLACE, TrainConfig
from noisylearn.ground.errors import UserError, shortened
from noisylearn.ground.lock import is_held
from noisylearn.ground.table import Shown, Table
from noisylearn.ground.tree_file import Tree

HELD_OUT = "held_out_"
AT_ONCE, AFTER_A_DAY, COMPENSATED = "_at_once", "_after_1_day", "_after_1_day_compensated"
MOMENTS = {AT_ONCE: "at once", AFTER_A_DAY: "after 1 day", COMPENSATED: "after 1 day, compensated"}
"""How the final scores in a run file end that are read immediately after programming and after a day, in words."""
LONGEST = 200  # characters of a setting inside a table, such as the source of one's own loss
Curves = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False, repr=False)
class RunFacts(Shown):
    """A run as its file tells of it, finished or not.

    Args:
        path: of the file.
        tree: its content; weights and checkpoint may be missing.
    """

    path: Path
    tree: Tree

    def __repr__(self) -> str:
        return f"<run {self.tree['id']}: {self.place}, {self.status}>"

    @cached_property
    def status(self) -> str:
        """Status as the file has it; "unfinished" where it says "running", but no process is at work on it."""
        status = str(self.tree["status"])
        return "unfinished" if status == "running" and not is_held(self.path) else status

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All settings of the run as plain values, also those that this version does not know."""
        settings: dict[str, Any] = json.loads(self.tree["config"])
        return settings

    @property
    def flat(self) -> dict[str, Any]:
        """All settings in one table: lists as on the command line, tables by path, such as `own.loss`."""
        return _flat(self.settings)

    @property
    def is_of_fit(self) -> bool:
        """Whether `noisylearn.fit` made the run, whose network and data are in no configuration."""
        return isinstance(self.settings.get("own"), dict)

    @cached_property
    def config(self) -> TrainConfig | None:
        """The configuration; None where this version does not know it."""
        try:
            return TrainConfig.of_run(self.tree, self.path)
        except UserError:
            return None

    @property
    def rule(self) -> str:
        """Name of the rule on the command line."""
        return self.config.label if self.config is not None else str(self.settings.get("rule", ""))

    @property
    def place(self) -> str:
        """Rule, profile, task and seed in words."""
        named = {key: self.settings.get(key, "?") for key in ("profile", "task", "seed")}
        return f"{self.rule} on {named['profile']}, task {named['task']}, seed {named['seed']}"

    @property
    def epochs(self) -> Curves:
        """Measurement -> its value after every epoch; one that began later has NaN before."""
        curves: Curves = self.tree["metrics"]["epoch"]
        length = max(map(len, curves.values()), default=0)
        return {name: np.concatenate([np.full(length - len(one), np.nan), one]) for name, one in curves.items()}

    @property
    def steps(self) -> Curves:
        """The loss of every step."""
        return {"loss": self.tree["metrics"]["step"]["loss"]}

    @property
    def _scored(self) -> Curves:
        """The curves of the held-out scores, once there is one."""
        return {key: one for key, one in self.tree["metrics"]["epoch"].items() if key.startswith(HELD_OUT) and len(one)}

    @property
    def scores(self) -> dict[str, float]:
        """Metric -> its value on the chip after the last epoch; the task's own metric first where the run is done."""
        last = {key.removeprefix(HELD_OUT): float(curve[-1]) for key, curve in self._scored.items()}
        final = {key.removesuffix(AT_ONCE): value for key, value in self._final.items() if key.endswith(AT_ONCE)}
        return final or last

    @property
    def record(self) -> dict[str, Any]:
        """The run as one flat record: what it is, all settings, final figures, baselines, versions, times."""
        metric, score = next(iter(self.scores.items()), (None, None))
        own = {
            **self.identity,
            "status": self.status,
            "started": self.tree.get("started"),
            "ended": self.tree.get("ended"),
            "stopped_early": self.tree.get("stopped_early"),
            "epochs_done": max(map(len, self.epochs.values()), default=0),
            "steps_done": self.tree["step"],
            "metric": metric,
            "score": score,
            "wall_s": self.tree["wall_s"],
        }
        baselines = {f"baseline_{name.replace(' ', '_')}": value for name, value in self._baselines.items()}
        versions = {f"version_{name}": version for name, version in self.versions.items()}
        more = self._final | baselines | versions | {"machine": self.tree["machine"]}
        return own | {key: value for key, value in (self.flat | more).items() if key not in own}

    @property
    def identity(self) -> dict[str, Any]:
        """What tells the run from others."""
        place = {"task": self.settings.get("task"), "rule": self.rule, "profile": self.settings.get("profile")}
        return {"id": self.tree["id"], "file": str(self.path), **place, "seed": self.settings.get("seed")}

    @property
    def versions(self) -> dict[str, str]:
        """Versions of this package, of torch and of Python that ran it."""
        return {name: str(version) for name, version in json.loads(self.tree["versions"]).items()}

    @property
    def citations(self) -> dict[str, str]:
        """What to cite: key -> publication; empty where the file does not say it as JSON."""
        try:
            found = json.loads(self.tree["citations"])
        except (ValueError, RecursionError):
            return {}
        return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}

    def tables(self) -> list[Table]:
        """What the run is and how far it is, its scores with the trivial baselines, settings, versions, citations."""
        return [
            Table(f"run {self.tree['id']}: {self.place}", ["", ""], self._course()),
            Table("measured", ["measured", "value"], self._figures(), numbers=1),
            Table("settings", ["setting", "value"], [[key, _cell(value)] for key, value in self._stated().items()]),
            Table("cite", ["for", "publication"], [[key, text] for key, text in self.citations.items()]),
        ]

    def _course(self) -> list[list[str]]:
        """Rows of how the run went."""
        record, tree = self.record, self.tree
        why = [[_words(key), tree[key]] for key in ("reason", "stopped_early") if key in tree]
        return [
            ["file", str(self.path)],
            ["status", self.status],
            *why,
            ["started (UTC)", _moment(record["started"])],
            ["ended (UTC)", _moment(record["ended"])],
            ["epochs done", f"{record['epochs_done']} of {record.get('epochs', '?')}"],
            ["wall time (s)", f"{tree['wall_s']:.1f}"],
            ["versions", ", ".join(f"{name} {version}" for name, version in self.versions.items())],
            ["machine", tree["machine"]],
        ]

    def _figures(self) -> list[list[str]]:
        """Rows of the final figures, or of the last scores, and of the trivial baselines."""
        figures = self._final or {f"{name} after the last epoch": score for name, score in self.scores.items()}
        rows = [[_words(key), f"{value:.4g}"] for key, value in figures.items()]
        return rows + [[f"trivial baseline: {name}", f"{value:.4g}"] for name, value in self._baselines.items()]

    def _stated(self) -> dict[str, Any]:
        return {key: value for key, value in self.flat.items() if key not in PLACE}

    @property
    def _final(self) -> dict[str, float]:
        final: dict[str, float] = self.tree.get("final", {})
        return final

    @property
    def _baselines(self) -> dict[str, float]:
        baselines: dict[str, float] = self.tree.get("baselines", {})
        return baselines


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of one cell each: lists as on the command line, "300,100"; what is in tables by its path, shortened."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            found |= {f"{key}.{below}": shortened(str(one), LONGEST) for below, one in _flat(value).items()}
        else:
            found[key] = ",".join(map(str, value)) if isinstance(value, list) else value
    return found


def _moment(date: str | None) -> str:
    """Date and time without the zone, which is UTC."""
    return "-" if date is None else date.replace("T", " ").removesuffix("+00:00")


def _words(key: str) -> str:
    return key.replace("_", " ")


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
