"""[ANP] table 4 and figure 6: several draws of the noise a step, on Tiny ImageNet."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from noisylearn.networks.feedforward import ConvnetName
from noisylearn.papers.harness.criteria import ordered
from noisylearn.papers.harness.measures import by_piece, over_seeds, peaks, trivial_accuracies
from noisylearn.papers.harness.pictures import accuracy_and_loss, style_of
from noisylearn.papers.harness.rule_pieces import injected, rule_piece
from noisylearn.papers.harness.study import Found, Judgement, Piece, Study

# Peak test accuracy in per cent, 200 classes, by rule and number of draws: [ANP] table 4.
PUBLISHED = {
    "bp": 14.5, "danp 1": 2.1, "danp 10": 9.0, "danp 30": 11.3, "danp 100": 12.0, "dinp 1": 2.0, "dinp 10": 8.1,
    "dinp 30": 11.8, "dinp 100": 13.4, "dnp 100": 7.5,
}  # fmt: skip


@dataclass(frozen=True)
class Size:
    """Task, network, rules and how long they are trained.

    Args:
        task: by its name.
        network: name of a ConvNet, or units of the hidden layers.
        runs: rules, each with its number of draws per step, as "danp 10".
        epochs: of every training.
        batch: samples per step.
        lr: learning rate of the perturbation rules.
        is_published: whether this is the paper's setting, whose accuracies ours are compared with.
    """

    task: str
    network: ConvnetName | tuple[int, ...]
    runs: Sequence[str]
    epochs: int
    batch: int
    lr: float = 1e-3
    is_published: bool = False

    @property
    def most(self) -> int:
        """The largest number of draws."""
        return max(int(run.split()[1]) for run in self.runs if " " in run)


def pieces(size: Size, seeds: Sequence[int]) -> list[Piece]:
    return [_training(size, run, seeds) for run in size.runs]


def _training(size: Size, run: str, seeds: Sequence[int]) -> Piece:
    rule, _, draws = run.partition(" ")
    shape = {"network": size.network} if isinstance(size.network, str) else {"hidden": size.network}
    options = shape | {
        "epochs": size.epochs, "batch": size.batch, "draws": int(draws or 1), "schedule": "constant",
        "baseline": "clean", "decorrelation_rate": 1e-3, "initialisation": "glorot",
        "lr": size.lr if rule != "bp" else 1e-4 if size.is_published else 1e-3,
    }  # fmt: skip
    cost = (1.0 + int(draws or 0)) * (5.0 if rule == "dinp" else 1.0)
    return rule_piece(run, size.task, rule, injected(1e-3), seeds, options, cost=cost)


def judge(size: Size, found: Found) -> Judgement:
    accuracies = by_piece(found, lambda tree: 100 * peaks(tree, "held_out_accuracy"))
    figures = [
        over_seeds(f"{run}: peak test accuracy (%)", values, PUBLISHED.get(run) if size.is_published else None)
        for run, values in accuracies.items()
    ]
    figures += trivial_accuracies(found)
    more = [(f"{rule} {b}", f"{rule} {a}") for rule in ("danp", "dinp") for a, b in _pairs(size, rule)]
    most = size.most
    better = [(f"danp {most}", f"dnp {most}"), (f"dinp {most}", f"dnp {most}"), ("bp", f"dinp {most}")]
    orders = [pair for pair in [*more, *better] if set(pair) <= set(size.runs)]
    return Judgement(figures, [ordered(a, b, accuracies) for a, b in orders])


def _pairs(size: Size, rule: str) -> list[tuple[int, int]]:
    """Neighbouring numbers of draws of a rule, the smaller first."""
    counts = sorted(int(run.split()[1]) for run in size.runs if run.startswith(f"{rule} "))
    return list(pairwise(counts))


def plot(size: Size, found: Found, file: Path) -> None:
    lines = dict(zip((1, 10, 30, 100), (":", "-.", "--", "-"), strict=True))
    styles = {}
    for run in found:
        rule, _, draws = run.partition(" ")
        styles[run] = {**style_of(rule), "linestyle": lines.get(int(draws or 100), "-")}
    accuracy_and_loss(file, size.task, found, styles)


STUDIES = (
    Study(
        name="anp-table4",
        paper="anp",
        source="table 4, figure 6",
        title="Draws of the noise a step, Tiny ImageNet",
        published="More draws a step learn better, for DANP and DINP; with 100 draws both are above DNP, and DINP "
        "comes close to BP.",
        setting={
            "smoke": "The packaged digits, three layers of 32 units, 1 and 10 draws: seconds, as a test.",
            "small": "Every tenth class alone (20 of 200), images averaged to 16 x 16 pixels, the ConvNet for "
            "CIFAR-10, batch 250, 8 epochs, rate 1e-3 for all; up to 30 draws: accuracies are not those of the "
            "paper's setting.",
            "paper": "200 classes, the paper's ConvNet for Tiny ImageNet, batch 1000, its rates (1e-3, BP 1e-4), 100 "
            "epochs.",
        },
        sizes={
            "smoke": Size("digits", (32,) * 3, ("danp 1", "danp 10"), 10, 50),
            "small": Size(
                "tiny-imagenet-20-16", "convnet",
                ("bp", "danp 1", "danp 10", "danp 30", "dinp 1", "dinp 10", "dnp 30"), 8, 250,
            ),
            "paper": Size("tiny-imagenet", "convnet-64", tuple(PUBLISHED), 100, 1000, is_published=True),
        },
        seeds={"smoke": 1, "small": 1, "paper": 3},
        pieces=pieces,
        judge=judge,
        plot=plot,
    ),
)  # fmt: skip
