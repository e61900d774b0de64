"""Studies whose pieces are trainings: one rule on one profile, over seeds, perhaps after a search for its rate."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from noisylearn.experiments.compare import Row, Tuning, compare
from noisylearn.experiments.config import idle_options, resolve
from noisylearn.experiments.run_file import Tree
from noisylearn.experiments.train import OnStep
from noisylearn.papers.harness.study import Bench, Criterion, Figure, Found, Piece, Report
from noisylearn.profiles import HardwareProfile, load_profile, parse_profile


def injected(sigma: float, into: Literal["node", "weight"] = "node") -> HardwareProfile:
    """Gaussian noise of a standard deviation injected at every node or weight, known and switched off at will."""
    text = load_profile(f"gaussian-{into}").full_text
    assert text.count("sigma = 1e-3") == 1, "the profile states its noise in another way"
    return parse_profile(text.replace("sigma = 1e-3", f"sigma = {sigma:g}"))


UNDECIDED = 2.0  # standard errors of a difference of means, below which the seeds leave an order open


@dataclass(frozen=True)
class Search:
    """Learning rates of which every rule tries all, with the first seed, on the validation part."""

    rates: tuple[float, ...]
    epochs: int | None = None


def training(
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

    What it finds: `curves` (metric -> (seeds, epochs)), `final` (figure -> (seeds,)), `baselines`, `lr`, `trials`
    (rates and scores), `stopped` (how many runs ran away) and `refused` (why there is none).
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
    tuning = None if search is None else Tuning(search.rates, search.epochs)

    def work(bench: Bench, report: Report) -> Tree:
        of_trial = configs[0].epochs if search is None or search.epochs is None else search.epochs
        counter = _Counter(report, total, configs[0].epochs, of_trial)
        stated = {**options, "device": bench.device}
        started = time.monotonic()
        rows = compare(
            task, [rule], [profile], seeds, stated, bench.runs, bench.data_dir, on_run=counter.run, tuning=tuning
        )
        found = _summary(rows[0])
        return found | {"wall_s": max(found["wall_s"], time.monotonic() - started)}

    return Piece(name, settings, work, cost * total)


class _Counter:
    """Turns the steps of one run after another into the share of all epochs that is done."""

    def __init__(self, report: Report, epochs: float, of_a_run: int, of_a_trial: int) -> None:
        self._report, self._epochs, self._of_a_run, self._of_a_trial = report, epochs, of_a_run, of_a_trial
        self._done = 0.0

    def run(self, label: str) -> OnStep:
        before, epochs = self._done, self._of_a_trial if ", trial lr" in label else self._of_a_run

        def on_step(step: int, total: int, loss: float) -> None:
            self._done = before + epochs * step / total
            self._report(min(self._done / self._epochs, 1.0))

        return on_step


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


def curve(tree: Tree, metric: str) -> np.ndarray:
    """(seeds, epochs) of a metric; without any row where every run ran away."""
    return tree["curves"].get(metric, np.empty((0, 0)))


def peaks(tree: Tree, metric: str) -> np.ndarray:
    """Highest value of a curve, of every seed."""
    values = curve(tree, metric)
    return values.max(1) if values.size else np.array([])


def finals(tree: Tree, metric: str, epochs: int = 1) -> np.ndarray:
    """Mean of the last epochs of a curve, of every seed."""
    values = curve(tree, metric)
    return values[:, -epochs:].mean(1) if values.size else np.array([])


def ordered(
    better: str,
    worse: str,
    values: Mapping[str, np.ndarray],
    higher: bool = True,
    called: Callable[[str], str] = str,
) -> Criterion:
    """That the mean of one rule lies beyond that of another. Where all runs ran away, it loses.

    What was measured says so where several seeds of both leave the order open: means less than two standard errors of
    their difference apart.
    called: what a rule is called in the statement.
    """
    a, b = (mean(values[name]) for name in (better, worse))
    holds = not math.isnan(a) and (math.isnan(b) or (a > b if higher else a < b))
    shown = ["every run ran away" if math.isnan(value) else f"{value:.3g}" for value in (a, b)]
    measured = " against ".join(shown)
    variances = [values[name].var(ddof=1) / len(values[name]) for name in (better, worse) if len(values[name]) > 1]
    if len(variances) == 2 and abs(a - b) < UNDECIDED * math.sqrt(sum(variances)):
        measured += ", within the noise of the seeds"
    return Criterion(f"{called(better)} {'above' if higher else 'below'} {called(worse)}", measured, holds)


def spread(values: np.ndarray) -> float | None:
    """Standard deviation over the seeds, where there are several."""
    return float(values.std(ddof=1)) if len(values) > 1 else None


def mean(values: np.ndarray) -> float:
    """Mean over the seeds; nan where every run ran away."""
    return float(values.mean()) if len(values) else math.nan


def trivial_accuracies(found: Found) -> list[Figure]:
    """Accuracies of trivial predictors, in per cent."""
    return [Figure(f"{name} (trivial baseline): accuracy (%)", 100 * value) for name, value in baselines(found).items()]


def baselines(found: Found) -> Mapping[str, float]:
    """Scores of trivial predictors, from the first rule of which a seed finished."""
    return next((tree["baselines"] for tree in found.values() if tree["baselines"]), {})


def by_rule(found: Found, measure: Any) -> dict[str, np.ndarray]:
    """A measure of every piece, by its name."""
    return {name: measure(tree) for name, tree in found.items()}
