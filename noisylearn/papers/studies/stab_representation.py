"""[STAB] figures S3D and S4E: the linear dimensionality of the hidden layer under node perturbation and SGD."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from noisylearn.experiments.trainer import Trainer
from noisylearn.ground.tree_file import Tree
from noisylearn.papers.harness.criteria import below, within
from noisylearn.papers.harness.measures import mean, over_seeds
from noisylearn.papers.harness.pictures import COLOURS, bars, panels
from noisylearn.papers.harness.study import Bench, Found, Judgement, Piece, Report, Study, part_of
from noisylearn.papers.studies.shared.relu_student import FIXED, ReluStudent, begin, learn

EQUAL = 0.03  # difference of the accuracies, more than what training adds between two readings of the score


@dataclass(frozen=True)
class Size:
    """Whose hidden layer is measured.

    Args:
        student: by NP, to its target; SGD learns at the same rate, to the same target.
    """

    student: ReluStudent

    def students(self) -> list[ReluStudent]:
        return [self.student, replace(self.student, rule="sgd")]


def pieces(size: Size, seeds: Sequence[int]) -> list[Piece]:
    return [
        Piece(one.rule, {"learner": asdict(one), "seeds": list(seeds), **FIXED}, partial(_spectra, one, seeds))
        for one in size.students()
    ]


def _spectra(student: ReluStudent, seeds: Sequence[int], bench: Bench, report: Report) -> Tree:
    """Spectra (seeds, units), participation ratios (seeds,) at the start and the end, and accuracies (seeds,)."""
    found: dict[str, list[np.ndarray | float]] = {}
    for i, seed in enumerate(seeds):
        trained, record = learn(student, seed, bench, part_of(report, i / len(seeds), 1 / len(seeds)))
        for when, training in (("start", begin(student, seed, bench)), ("end", trained)):
            spectrum = _spectrum(training)
            found.setdefault(f"spectrum {when}", []).append(spectrum)
            found.setdefault(f"ratio {when}", []).append(participation_ratio(spectrum))
        found.setdefault("accuracy", []).append(record["score"][-1])
    return {key: np.array(values) for key, values in found.items()}


@torch.no_grad()
def _spectrum(trainer: Trainer) -> np.ndarray:
    """Variances of the last hidden layer's activity over the held-out part along its principal components."""
    inputs = trainer.task.test_inputs.to(trainer.setup.device)
    activity = trainer.chip.digital_pass(inputs).layers["readout"].input[0]
    return torch.linalg.eigvalsh(activity.T.cov()).flip(0).clamp(min=0).cpu().numpy()


def participation_ratio(spectrum: np.ndarray) -> float:
    """How many principal components share the variance.

    (sum of lambda)^2 / sum of lambda^2, of a spectrum lambda (units,)
    """
    return float(spectrum.sum() ** 2 / np.square(spectrum).sum())


def judge(size: Size, found: Found) -> Judgement:
    ratios, accuracies = ({rule: found[rule][key] for rule in ("np", "sgd")} for key in ("ratio end", "accuracy"))
    figures = [over_seeds(f"{rule.upper()}: participation ratio", values) for rule, values in ratios.items()]
    figures.append(over_seeds("first weights: participation ratio", found["np"]["ratio start"]))
    figures += [over_seeds(f"{rule.upper()}: accuracy (%)", 100 * values) for rule, values in accuracies.items()]
    lower = "every seed: the participation ratio is lower under NP than under SGD"
    equal = f"the accuracies they were looked at are equal, within {EQUAL:g}"
    return Judgement(
        figures,
        [
            below(lower, ratios["np"], ratios["sgd"], "{:.2f} against {:.2f}"),
            within(equal, mean(accuracies["np"]), mean(accuracies["sgd"]), EQUAL, "{:.3f}, {:.3f}"),
        ],
    )


def plot(size: Size, found: Found, file: Path) -> None:
    student = size.student
    titles = f"Hidden layer at {100 * (student.target or 0):g} % accuracy, {student.task}", "Participation ratio"
    with panels(file, titles) as (left, right):
        for rule in ("np", "sgd"):
            spectrum = found[rule]["spectrum end"].mean(0)
            left.plot(
                np.arange(1, len(spectrum) + 1), spectrum / spectrum.sum(), color=COLOURS[rule], label=rule.upper()
            )
        first = found["np"]["spectrum start"].mean(0)
        left.plot(np.arange(1, len(first) + 1), first / first.sum(), "k:", label="first weights")
        left.set(
            xlabel="principal component", ylabel="share of the variance", xscale="log", yscale="log", ylim=(1e-4, 1)
        )
        ratios = {rule.upper(): found[rule]["ratio end"] for rule in ("np", "sgd")}
        bars(right, {**ratios, "first weights": found["np"]["ratio start"]}, color="tab:grey")
        right.set_ylabel("participation ratio")


STUDIES = (
    Study(
        name="stab-participation",
        paper="stab",
        source="section 5, figures S3D and S4E",
        title="Dimensionality of the hidden layer under NP and SGD",
        published="At equal error, the participation ratio of the hidden layer is lower under NP, even at a low rate.",
        setting={
            "smoke": "The packaged sample of MNIST, 32 ReLU units, to 60 % test accuracy: seconds, as a test.",
            "small": "MNIST, 100 ReLU units, the same rate for both, to 85 % test accuracy.",
            "paper": "MNIST, 300 ReLU units, the same rate for both, to 97 % test accuracy, five seeds.",
        },
        sizes={
            "smoke": Size(ReluStudent("mnist-sample", "np", (32,), 0.02, 600, every=10, target=0.6)),
            "small": Size(ReluStudent("mnist", "np", (100,), 0.01, 1500, every=20, target=0.85)),
            "paper": Size(ReluStudent("mnist", "np", (300,), 0.003, 600_000, batch=1000, every=60, target=0.97)),
        },
        seeds={"smoke": 2, "small": 3, "paper": 5},
        pieces=pieces,
        judge=judge,
        plot=plot,
    ),
)  # fmt: skip
