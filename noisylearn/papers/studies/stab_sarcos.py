"""[STAB] figure 4: node perturbation of ReLU networks on SARCOS: alignment, instability, training time."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from noisylearn.chips.segments import as_segment
from noisylearn.experiments.trainer import Trainer
from noisylearn.ground.draws import Draws
from noisylearn.ground.tree_file import Tree
from noisylearn.papers.harness.criteria import above, exponent_within, turn
from noisylearn.papers.harness.pictures import band, panels
from noisylearn.papers.harness.study import Bench, Criterion, Figure, Found, Judgement, Piece, Report, Study, part_of
from noisylearn.papers.studies.shared.relu_student import (
    FIXED,
    NOISY,
    ReluStudent,
    Trials,
    begin,
    learn,
    norms_grow,
    over_widths,
    plot_times,
    relu_student_piece,
)
from noisylearn.rules import BP, NP, Learner
from noisylearn.rules.observation import Observation

EXPONENT = 0.15  # tolerance: the mean cosine of a width is known to some 10 %
RISE = 1.2  # of the last tenth of a run over the lowest tenth; a tenth fluctuates by some per cent
BATCHES = 30  # of the mean cosine


@dataclass(frozen=True)
class Size:
    """Networks and how they are trained.

    Args:
        trials: of the fewest steps.
        widths: units of the hidden layer in these trials.
        cosine_widths: units of the hidden layer where updates of NP and SGD are compared.
        aligned: student (by SGD, of any width) along whose training they are compared.
        followed: students by NP whose error is followed, from a stable rate to an unstable one.
        judged_cosines: moments of the learning whose cosines are judged.
    """

    trials: Trials
    widths: Sequence[int]
    cosine_widths: Sequence[int]
    aligned: ReluStudent
    followed: Sequence[ReluStudent]
    judged_cosines: Sequence[str] = ("start", "end")


def pieces(size: Size, seeds: Sequence[int]) -> list[Piece]:
    cosines = [_cosine_piece(size, width, seeds) for width in size.cosine_widths]
    students = [one for rule in size.trials.rates for w in size.widths for one in size.trials.students(rule, (w,))]
    return [*cosines, *(relu_student_piece(student, seeds) for student in (*size.followed, *students))]


def _cosine_piece(size: Size, width: int, seeds: Sequence[int]) -> Piece:
    student = replace(size.aligned, hidden=(width,))
    settings = {"learner": asdict(student), "seeds": list(seeds), "batches": BATCHES, **FIXED}
    cost = student.steps * len(seeds) * (1 + width / 300)
    return Piece(f"cosine {width}", settings, partial(_cosines, student, seeds), cost)


def _cosines(student: ReluStudent, seeds: Sequence[int], bench: Bench, report: Report) -> Tree:
    """Cosine of the updates of NP and SGD, (seeds,), by moment (start or end of learning) and layer."""
    found: dict[str, list[float]] = {}
    for i, seed in enumerate(seeds):
        trained, _ = learn(student, seed, bench, part_of(report, i / len(seeds), 1 / len(seeds)))
        trained.chip.program()
        for when, training in (("start", begin(student, seed, bench)), ("end", trained)):
            for layer, value in _alignment(training).items():
                found.setdefault(f"{when} {layer}", []).append(value)
    return {key: np.array(values) for key, values in found.items()}


def _alignment(trainer: Trainer) -> dict[str, float]:
    """Cosine of the updates of NP and SGD by layer, mean over batches."""
    layers, task, batch = list(trainer.chip.layers), trainer.task, trainer.setup.batch
    totals = dict.fromkeys(layers, 0.0)
    stream = Draws(trainer.setup.seed).stream("cosine", "batches")
    for _ in range(BATCHES):
        chosen = torch.randint(len(task.train_inputs), (batch,), generator=stream)
        targets = task.train_targets[chosen].to(trainer.setup.device)
        loss_fn = partial(task.loss_fn, target=targets)
        seen = Observation(trainer.chip, as_segment(task.train_inputs[chosen]), loss_fn, purpose="look")
        estimate, exact = (Learner(rule, trainer.chip).look(seen).gradients for rule in (NP(), BP()))
        for name in layers:
            ours, true = (gradients[name]["weight"].flatten() for gradients in (estimate, exact))
            totals[name] += float(F.cosine_similarity(ours, true, dim=0)) / BATCHES
    return totals


def judge(size: Size, found: Found) -> Judgement:
    figures, criteria = [], []
    for when in ("start", "end"):
        for layer, exponent in (("hidden1", -0.5), ("readout", 0.0)):
            values = [float(found[f"cosine {width}"][f"{when} {layer}"].mean()) for width in size.cosine_widths]
            figures += [
                Figure(f"cosine of NP and SGD, {layer}, {w} units, {when} of learning", value)
                for w, value in zip(size.cosine_widths, values, strict=True)
            ]
            if when in size.judged_cosines:
                statement = (
                    f"{when} of learning, {layer}: cosine goes as width to the power {exponent:g}, within {EXPONENT:g}"
                )
                criteria.append(exponent_within(statement, size.cosine_widths, values, exponent, EXPONENT))
    criteria += _stability(size, found) if size.followed else []
    of_times, by_width = over_widths(size.trials, size.widths, found, 0.5)
    figures = [figure for figure in [*figures, *of_times] if math.isfinite(figure.ours)]
    return Judgement(figures, [*criteria, *by_width])


def _stability(size: Size, found: Found) -> list[Criterion]:
    """Criteria on the plain runs from the lowest rate to the highest, and on the normalised one at the highest."""
    plain = [one for one in size.followed if not one.normalise]
    first, last = plain[0], plain[-1]
    criteria = [_rise(first, found, False), _rise(last, found, True)]
    criteria += [_rise(one, found, False) for one in size.followed if one.normalise]
    criteria.append(norms_grow(plain, found))
    lowest = {one.name: float(_tenths(found[one.name]).min()) for one in size.followed}
    best = min(lowest[one.name] for one in plain)
    for one in size.followed:
        if one.normalise:
            criteria.append(
                above(f"{one.name}: lowest error above the best without normalisation", lowest[one.name], best)
            )
    return criteria


def _rise(student: ReluStudent, found: Found, rises: bool) -> Criterion:
    """That the error turns up, or does not; a run that ran away turned up."""
    tree = found[student.name]
    ran_away = bool((tree["ran"] < student.steps).any())
    return turn(student.name, _tenths(tree), RISE, rises, f" (by a factor of {RISE:g})", ran_away)


def _tenths(tree: Tree) -> np.ndarray:
    """Error (10,) of ten parts of a run, mean over the seeds."""
    return np.array([part.mean() for part in np.array_split(tree["score"].mean(0)[1:], 10)])


def plot(size: Size, found: Found, file: Path) -> None:
    titles = "NP against SGD", "Error under NP", "Weight norm under NP", "Fewest steps to the target"
    with panels(file, [f"{title}, {size.trials.task}" for title in titles], width=4.6) as axes:
        for layer, colour in (("hidden1", "C0"), ("readout", "C1")):
            for when, style in (("start", "-"), ("end", ":")):
                values = [found[f"cosine {width}"][f"{when} {layer}"].mean() for width in size.cosine_widths]
                axes[0].plot(size.cosine_widths, values, style, marker="o", color=colour, label=f"{layer}, {when}")
        axes[0].set(xlabel="hidden units", ylabel="cosine of the updates", xscale="log", yscale="log")
        for i, one in enumerate(size.followed):
            tree, style = found[one.name], "--" if one.normalise else "-"
            label = f"rate {one.rate:g}{', normalised' if one.normalise else ''}"
            band(axes[1], tree["score"], label, tree["steps"], color=f"C{i}", linestyle=style)
            axes[2].plot(tree["norm"].mean(0), tree["score"].mean(0), style, color=f"C{i}", label=label)
        for ax, label in ((axes[1], "step"), (axes[2], "|W1|^2")):
            ax.set(xlabel=label, ylabel="held-out mean squared error", yscale="log", ylim=(0.05, 5))
        axes[2].set_xscale("log")
        plot_times(axes[3], size.trials, size.widths, found)


_RATES = {
    "np": (0.006, 0.016, 0.04, 0.1), "reinforce": (0.06, 0.16, 0.4, 1.0), NOISY: (0.025, 0.06, 0.16, 0.4),
    "sgd": (0.1, 0.25, 0.6, 1.5),
}  # fmt: skip
_SARCOS = Trials(
    "sarcos", 0.15, _RATES, {"np": 2000, "reinforce": 800, NOISY: 2000, "sgd": 300},
    {"np": 20, "reinforce": 10, NOISY: 20, "sgd": 5},
)  # fmt: skip
_DIGITS = Trials(
    "digits", 0.7, {"np": (0.04, 0.1), "reinforce": (0.2, 0.5), NOISY: (0.1, 0.2), "sgd": (0.3, 0.8)},
    {"np": 1000, "reinforce": 300, NOISY: 600, "sgd": 150}, {"np": 4, "reinforce": 1, NOISY: 1, "sgd": 1}, batch=50,
)  # fmt: skip


def _followed(width: int, rates: Sequence[float], steps: int) -> list[ReluStudent]:
    plain = [ReluStudent("sarcos", "np", (width,), rate, steps, every=steps // 200) for rate in rates]
    return [*plain, replace(plain[-1], normalise=True)]


STUDIES = (
    Study(
        name="stab-fig4",
        paper="stab",
        source="figure 4 (A to F)",
        title="NP of networks with one hidden layer on SARCOS",
        published=(
            "The cosine of the NP and SGD updates falls as 1/sqrt(Lh) in the hidden layer and stays in the readout; "
            "the error turns up at high rates, the sooner the larger the weight norm; the training time depends weakly "
            "on the width, a hundred times that of SGD, with REINFORCE between; weight normalisation prevents the "
            "instability but not without cost."
        ),
        setting={
            "smoke": "The packaged 8 x 8 digits in the place of SARCOS, without the instability: seconds, as a test.",
            "small": (
                "The published test file of SARCOS alone, split by blocks and standardised: errors are not those of "
                "the paper. Batch 100, mean squared error per output, plain gradient steps; each rule tries four rates "
                "of ratio 2.5 for the fewest steps to a held-out error of 0.15; the error is followed with a hundred "
                "hidden units."
            ),
            "paper": "As small, with the paper's widths, longer and five seeds; the published split is not at hand.",
        },
        sizes={
            "smoke": Size(
                _DIGITS, (32,), (16, 64, 256), ReluStudent("digits", "sgd", (1,), 0.3, 50, 50, 50), (), ("start",)
            ),
            "small": Size(
                _SARCOS, (32, 100, 320), (32, 100, 320, 1000), ReluStudent("sarcos", "sgd", (1,), 0.3, 200, every=200),
                _followed(100, (0.01, 0.03, 0.1), 4000),
            ),
            "paper": Size(
                replace(_SARCOS, steps=dict.fromkeys(_RATES, 100_000)), (100, 200, 400, 800, 1600),
                (100, 200, 400, 800, 1600, 3200), ReluStudent("sarcos", "sgd", (1,), 0.3, 2000, every=2000),
                _followed(1000, (0.003, 0.01, 0.03, 0.1), 350_000),
            ),
        },
        seeds={"smoke": 5, "small": 2, "paper": 5},
        pieces=pieces,
        judge=judge,
        plot=plot,
        remarks="The rate 0.1 does not turn up within 4,000 steps and 0.2 ran away at once in trials: the unstable "
        "band lies between. Not here: the divergence of SGD, and the time of the turn against the rate.",
    ),
)  # fmt: skip
