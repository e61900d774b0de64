"""Pieces that train one rule on one profile, over seeds, perhaps after a search for its learning rate."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from noisylearn.engines import Watch
from noisylearn.experiments.compare import compare
from noisylearn.experiments.config import idle_options, resolve
from noisylearn.experiments.row import Row
from noisylearn.experiments.tuning import Tuning
from noisylearn.ground.tree_file import Tree
from noisylearn.papers.harness.study import Bench, Piece, Report
from noisylearn.profiles import HardwareProfile, load_profile, parse_profile


def injected(sigma: float, into: Literal["node", "weight"] = "node") -> HardwareProfile:
    """The profile of Gaussian noise injected at every node or weight, known and switched off at will.

    Args:
        sigma: standard deviation, in units of the pre-activations or of the weights.
        into: where it is injected.
    """
    text = load_profile(f"gaussian-{into}").full_text
    assert text.count("sigma = 1e-3") == 1, "the profile states its noise in another way"
    return parse_profile(text.replace("sigma = 1e-3", f"sigma = {sigma:g}"))


@dataclass(frozen=True)
class Search:
    """A search for a learning rate: every rule tries all, with the first seed, on the validation part.

    Args:
        rates: the learning rates tried.
        epochs: of each trial; None for as many as the training has.
    """

    rates: tuple[float, ...]
    epochs: int | None = None


def rule_piece(
    name: str,
    task: str,
    rule: str,
    profile: HardwareProfile,
    seeds: Sequence[int],
    options: Mapping[str, Any],
    search: Search | None = None,
    cost: float = 1.0,
) -> Piece:
    """A piece that trains one rule for every seed.

    It finds `curves` (by metric, (seeds, epochs)), `final` (by metric, (seeds,)), `baselines` (scores of trivial
    predictors), `lr`, `trials` (rates tried and their scores), `stopped` (how many runs ran away), `refused` (why seeds
    are missing) and `wall_s`.

    Args:
        name: of the piece.
        task: by its name.
        rule: by its name.
        profile: of the chip.
        seeds: one training each.
        options: of `noisylearn train`; those that this rule has no use for are left out.
        search: of the learning rate; None for the one in the options, or the recipe's.
        cost: of an epoch, relative to the study's other pieces.
    """
    configs = [resolve(task, rule, profile, {**options, "seed": seed}, lenient=True)[0] for seed in seeds]
    idle = idle_options(rule, configs[0].model_dump())
    options = {key: value for key, value in options.items() if key not in idle}
    settings = {
        # without defaults, so that options that are yet to come leave older results as they are
        "configs": [c.model_dump(mode="json", exclude={"device"}, exclude_defaults=True) for c in configs],
        "profile": profile.full_text,
        "search": None if search is None else [list(search.rates), search.epochs],
    }
    trials = 0 if search is None else len(search.rates) * (search.epochs or configs[0].epochs)
    total = trials + len(seeds) * configs[0].epochs
    tuning = None if search is None else Tuning({"lr": search.rates}, search.epochs)

    def work(bench: Bench, report: Report) -> Tree:
        of_trial = configs[0].epochs if search is None or search.epochs is None else search.epochs
        counter = _Counter(report, total, configs[0].epochs, of_trial)
        stated = {**options, "device": bench.device}
        started = time.monotonic()
        rows = compare(task, [rule], [profile], seeds, stated, bench.runs, bench.data_dir, watch=counter, tuning=tuning)
        found = _summary(rows[0])
        return found | {"wall_s": max(found["wall_s"], time.monotonic() - started)}

    return Piece(name, settings, work, cost * total)


class _Counter(Watch):
    """Turns the steps of one run after another into the share of all epochs that are done."""

    def __init__(self, report: Report, epochs: float, of_a_run: int, of_a_trial: int) -> None:
        self._report, self._epochs, self._of_a_run, self._of_a_trial = report, epochs, of_a_run, of_a_trial
        self._before: dict[str, float] = {}
        self._done = 0.0

    def running(self, label: str, done: int, total: int, note: str) -> None:
        before = self._before.setdefault(label, self._done)
        epochs = self._of_a_trial if ", trial lr" in label else self._of_a_run
        self._done = before + epochs * done / total
        self._report(min(self._done / self._epochs, 1.0))


def _summary(row: Row) -> Tree:
    curves: dict[str, list[Any]] = {}
    for run in row.runs:
        for key, values in run["metrics"]["epoch"].items():
            curves.setdefault(key, []).append(values)
    finals = dict.fromkeys(key for run in row.runs for key in run["final"])
    return {
        "lr": float(row.settings["lr"]),
        "refused": row.refused,
        "stopped": row.refused.count(" stopped: "),
        "trials": {key: [trial[key] for trial in row.trials] for key in ("lr", "score")} if row.trials else {},
        "curves": {key: np.asarray(values) for key, values in curves.items()},
        "final": {key: row.finals(key) for key in finals},
        "baselines": dict(row.runs[0]["baselines"]) if row.runs else {},
        "wall_s": float(sum(run["wall_s"] for run in row.runs)),
    }
