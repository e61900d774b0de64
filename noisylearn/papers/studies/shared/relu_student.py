"""Networks of ReLU units in training, for [STAB] figures 4 and 5: held-out score and weight norm along the steps."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from noisylearn.experiments.build import build_setup, load_data
from noisylearn.experiments.config import TrainConfig, resolve
from noisylearn.experiments.trainer import Trainer
from noisylearn.ground.errors import RunawayError
from noisylearn.ground.tree_file import Tree
from noisylearn.papers.harness.criteria import exponent_below, rising
from noisylearn.papers.harness.measures import mean
from noisylearn.papers.harness.pictures import COLOURS
from noisylearn.papers.harness.rule_pieces import injected
from noisylearn.papers.harness.study import Bench, Criterion, Figure, Found, Piece, Report, part_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIGMA = 1e-3
FIXED = {"sigma": SIGMA, "units": "relu", "optimizer": "sgd", "baseline": "clean", "initialisation": "glorot"}
NOISY = "reinforce, hidden noise"
LABELS = {"np": "np", "reinforce": "reinforce", NOISY: "reinforce", "sgd": "bp"}  # the package's names of the rules
ORDER = ("sgd", "reinforce", NOISY, "np")  # from the fewest steps to the most


@dataclass(frozen=True)
class ReluStudent:
    """How one network learns, by plain gradient steps.

    Args:
        task: by its name.
        rule: key of LABELS.
        hidden: units of the hidden layers.
        rate: learning rate.
        steps: at most.
        batch: samples per step.
        every: steps between readings of the held-out score.
        normalise: whether the norm of every neuron's incoming weights is held.
        target: score to stop at; None for no stop.
    """

    task: str
    rule: str
    hidden: tuple[int, ...]
    rate: float
    steps: int
    batch: int = 100
    every: int = 20
    normalise: bool = False
    target: float | None = None

    @property
    def name(self) -> str:
        normalised = " normalised" if self.normalise else ""
        until = "" if self.target is None else ", to the target"
        return f"{self.rule.upper()} {'-'.join(map(str, self.hidden))}{normalised}, rate {self.rate:.3g}{until}"

    def config(self, seed: int, device: str = "cpu") -> TrainConfig:
        options: dict[str, Any] = {
            "hidden": self.hidden, "activation": "relu", "initialisation": "glorot", "optimizer": "sgd",
            "lr": self.rate, "schedule": "constant", "epochs": 1, "batch": self.batch,
            "weight_normalisation": self.normalise, "baseline": "clean", "hidden_noise": self.rule == NOISY,
            "seed": seed, "device": device,
        }  # fmt: skip
        return resolve(self.task, LABELS[self.rule], injected(SIGMA), options, lenient=True)[0]


def relu_student_piece(student: ReluStudent, seeds: Sequence[int]) -> Piece:
    """A piece that trains a network for every seed.

    It finds `steps` (points,), `score` of the held-out part and `norm` |W1|^2, both (seeds, points), and `ran`
    (seeds,): steps until the target was reached or the run ran away. After that, the last values are held.
    """

    def work(bench: Bench, report: Report) -> Tree:
        runs = [
            learn(student, seed, bench, part_of(report, i / len(seeds), 1 / len(seeds))) for i, seed in enumerate(seeds)
        ]
        records = [record for _, record in runs]
        points = np.arange(0, student.steps + 1, student.every)
        held = {key: np.array([_held(record[key], len(points)) for record in records]) for key in ("score", "norm")}
        return {"steps": points, **held, "ran": np.array([(len(r["score"]) - 1) * student.every for r in records])}

    settings = {"learner": asdict(student), "seeds": list(seeds), **FIXED}
    return Piece(student.name, settings, work, student.steps * len(seeds) * (1 + sum(student.hidden) / 300))


def begin(student: ReluStudent, seed: int, bench: Bench) -> Trainer:
    """The network at its start, on its chip: weights of variance 2 / (inputs + units) as in the paper, biases 0."""
    config = student.config(seed, bench.device)
    return Trainer(build_setup(config, injected(SIGMA), load_data(config, bench.data_dir)))


def held_out_score(trainer: Trainer) -> float:
    """Held-out score, read on the chip."""
    if not trainer.programs_every_step:
        trainer.chip.program()
    return next(iter(trainer.evaluate().values()))


def learn(student: ReluStudent, seed: int, bench: Bench, report: Report) -> tuple[Trainer, Mapping[str, list[float]]]:
    """The trained network; its held-out score and |W1|^2 at the start and after every `every` steps."""
    trainer = begin(student, seed, bench)
    score, norm = [held_out_score(trainer)], [_norm(trainer)]
    while len(score) <= student.steps // student.every:
        try:
            for _ in range(student.every):
                trainer.step()
        except RunawayError:
            break
        score.append(held_out_score(trainer))
        norm.append(_norm(trainer))
        report(trainer.progress.step / student.steps)
        if not math.isfinite(score[-1]) or reached(score[-1], student.target, trainer.task.higher_is_better):
            break
    return trainer, {"score": score, "norm": norm}


def reached(score: float, target: float | None, higher_is_better: bool) -> bool:
    """Whether a score is as good as a target, where there is one."""
    return target is not None and (score >= target if higher_is_better else score <= target)


def _norm(trainer: Trainer) -> float:
    return float(next(iter(trainer.chip.layers.values())).weight.detach().square().sum())


def _held(values: list[float], length: int) -> np.ndarray:
    kept = np.nan_to_num(np.array(values), nan=1e9, posinf=1e9)
    return np.concatenate([kept, np.full(length - len(kept), kept[-1])])


@dataclass(frozen=True)
class Trials:
    """A search for the fewest steps to a target score: every rule tries as many rates.

    Args:
        task: by its name.
        target: score to reach.
        rates: by rule, the learning rates tried.
        steps: by rule, at most.
        every: by rule, steps between readings of the held-out score.
        batch: samples per step.
    """

    task: str
    target: float
    rates: Mapping[str, Sequence[float]]
    steps: Mapping[str, int]
    every: Mapping[str, int]
    batch: int = 100

    def students(self, rule: str, hidden: tuple[int, ...], normalise: bool = False) -> list[ReluStudent]:
        """A student for every rate of a rule."""
        steps, every = self.steps[rule], self.every[rule]
        return [
            ReluStudent(self.task, rule, hidden, rate, steps, self.batch, every, normalise, self.target)
            for rate in self.rates[rule]
        ]

    def least_time(self, rule: str, hidden: tuple[int, ...], found: Found, normalise: bool = False) -> float:
        """Fewest steps to the target over the rates, mean over the seeds; inf where no rate reaches it."""
        return min(_time(student, found[student.name]) for student in self.students(rule, hidden, normalise))


def _time(student: ReluStudent, tree: Tree) -> float:
    """Steps to the target, mean over the seeds; inf where a seed did not reach it."""
    target = student.target or 0.0
    rises = bool(tree["score"][0, 0] < target)
    done = [reached(score, target, rises) for score in tree["score"][:, -1]]
    return float(tree["ran"].mean()) if all(done) else math.inf


def over_widths(
    trials: Trials, widths: Sequence[int], found: Found, limit: float
) -> tuple[list[Figure], list[Criterion]]:
    """Fewest steps to the target with one hidden layer, over its width.

    Args:
        trials: the search.
        widths: units of the hidden layer.
        found: by piece.
        limit: below which the exponent of NP's steps over the widths has to be.

    Returns:
        The figures, and the criteria: the rules in their ORDER at every width, and NP's exponent.
    """
    times = {(rule, width): trials.least_time(rule, (width,), found) for rule in trials.rates for width in widths}
    figures = [
        Figure(f"{rule.upper()}, {width} units: fewest steps to the target", time)
        for (rule, width), time in times.items()
    ]
    order = " < ".join(rule.upper() for rule in ORDER)
    criteria = [
        rising(f"{width} hidden units, fewest steps: {order}", [times[rule, width] for rule in ORDER], "{:.0f}")
        for width in widths
    ]
    if len(widths) > 1:
        statement = f"fewest steps of NP over hidden units: exponent below {limit:g}"
        criteria.append(exponent_below(statement, widths, [times["np", width] for width in widths], limit))
    return figures, criteria


def norms_grow(students: Sequence[ReluStudent], found: Found) -> Criterion:
    """That |W1|^2 at the end grows from one student to the next."""
    norms = [mean(found[one.name]["norm"][:, -1]) for one in students]
    return rising("|W1|^2 ends the larger, the higher the rate", norms)


def plot_times(ax: "Axes", trials: Trials, widths: Sequence[int], found: Found) -> None:
    for rule in trials.rates:
        times = [trials.least_time(rule, (width,), found) for width in widths]
        line = "--" if rule == NOISY else "-"
        ax.plot(widths, times, marker="o", label=rule.upper(), color=COLOURS[rule.split(",")[0]], linestyle=line)
    ax.set(xlabel="hidden units", ylabel=f"fewest steps (batch {trials.batch})", xscale="log", yscale="log")
    ax.set_xticks(widths, [f"{width}" for width in widths])
    ax.minorticks_off()
