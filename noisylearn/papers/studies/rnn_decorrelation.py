"""[RNN] figure 8: how correlated the hidden units are, with and without decorrelation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from noisylearn.ground.tree_file import Tree
from noisylearn.papers.harness.criteria import above, below
from noisylearn.papers.harness.measures import baselines, curve, mean, over_seeds, trivial_figures
from noisylearn.papers.harness.pictures import band, panels
from noisylearn.papers.harness.rule_pieces import Search
from noisylearn.papers.harness.study import Figure, Found, Judgement, Piece, Study
from noisylearn.papers.studies.shared.recurrent import AS_PUBLISHED, held_out_error, recurrent_piece

METRIC = "decorrelation_loss_readout"
PLAIN = "without"
NO_RATE = 1e-30  # of no effect in float32: a plain network whose loss is measured
LOWER, LEFT = 0.5, 0.01  # the decorrelated loss is below this share of the plain one, and above that one


@dataclass(frozen=True)
class Size:
    """Task, network, rates and how long it is trained.

    Args:
        task: by its name.
        units: hidden.
        batch: sequences per step.
        epochs: of every training.
        last: final epochs whose errors are averaged.
        rates: decorrelation rates, of which the best on the validation part is shown.
        search: learning rates tried with each of them.
        seq_len: of copying; None for other tasks.
    """

    task: str
    units: int
    batch: int
    epochs: int
    last: int
    rates: Sequence[float]
    search: Search
    seq_len: int | None = None


def pieces(size: Size, seeds: Sequence[int]) -> list[Piece]:
    shared = {"hidden": (size.units,), "batch": size.batch, "epochs": size.epochs, "seq_len": size.seq_len}
    rates = {PLAIN: NO_RATE} | {f"{rate:g}": rate for rate in size.rates}
    return [
        recurrent_piece(name, size.task, "danp", seeds, shared | {"decorrelation_rate": rate}, size.search)
        for name, rate in rates.items()
    ]


def chosen(size: Size, found: Found) -> str:
    """The decorrelation rate, as a piece's name, whose best trial has the lowest validation error."""

    def score(name: str) -> float:
        scores = np.asarray(found[name]["trials"]["score"])
        return float(np.nanmin(scores)) if np.isfinite(scores).any() else np.inf

    return min((f"{rate:g}" for rate in size.rates), key=score)


def losses(tree: Tree) -> np.ndarray:
    """Decorrelation loss (seeds,), mean over the epochs."""
    values = curve(tree, METRIC)
    return values.mean(1) if values.size else np.array([])


def judge(size: Size, found: Found) -> Judgement:
    name = chosen(size, found)
    share = mean(losses(found[name])) / mean(losses(found[PLAIN]))
    figures = [Figure("decorrelation rate, the best of those tried", float(name))]
    for key, tree in found.items():
        label = "without decorrelation" if key == PLAIN else f"decorrelation rate {key}"
        for quantity, values in (("decorrelation loss", losses(tree)), ("test mse", held_out_error(size.last)(tree))):
            figures += [over_seeds(f"{label}: {quantity}", values)] if len(values) else []
    figures += trivial_figures(baselines(found))
    criteria = [
        below(f"decorrelation loss below {LOWER:g} of that without", share, LOWER, "{:.3g} of it"),
        above(f"not complete: above {LEFT:g} of that without", share, LEFT, "{:.3g} of it"),
    ]
    return Judgement(figures, criteria)


def plot(size: Size, found: Found, file: Path) -> None:
    best = chosen(size, found)
    with panels(file, [f"DANP on {size.task}", "all epochs"]) as (curves, spreads):
        for name, tree in found.items():
            label = "without decorrelation" if name == PLAIN else f"rate {name}{' (best)' * (name == best)}"
            band(curves, curve(tree, METRIC), label)
        curves.set(xlabel="epoch", ylabel="mean squared off-diagonal covariance", yscale="log")
        shown = {name: curve(found[name], METRIC).ravel() for name in (PLAIN, best)}
        spreads.boxplot(list(shown.values()), tick_labels=["without", f"rate {best}"])
        spreads.set(ylabel="mean squared off-diagonal covariance", yscale="log")


_SMALL = Size(
    "weather-1h", 100, batch=50, epochs=3, last=1, rates=(1e-3, 1e-2), search=Search((3e-3, 1e-2))
)  # fmt: skip
_MEASURED = (
    "The loss is the mean squared covariance between two different units over a batch (about zero, as in the paper), "
    "at the last step of every epoch. The decorrelation rate shown is the best of those tried, on the validation part."
)

STUDIES = (
    Study(
        name="rnn-fig8",
        paper="rnn",
        source="figure 8",
        title="Correlation of the hidden units: weather 1 hour ahead",
        published="Hidden units are far less correlated with decorrelation than without, but not wholly decorrelated.",
        setting={
            "smoke": "Copying of one sequence of 5 symbols, 30 units, at one decorrelation rate.",
            "small": f"100 units, three epochs, two decorrelation rates, two learning rates each. {_MEASURED} "
            f"{AS_PUBLISHED}",
            "paper": f"1000 units, 500 epochs. {_MEASURED} {AS_PUBLISHED}",
        },
        sizes={
            "smoke": replace(
                _SMALL, task="copying-fixed", units=30, seq_len=5, batch=1, epochs=12, rates=(1e-1,),
                search=Search((3e-3,), 1),
            ),
            "small": _SMALL,
            "paper": replace(
                _SMALL, units=1000, epochs=500, last=50, rates=(1e-7, 5e-7, 1e-6, 1e-5, 1e-4),
                search=Search((1e-4, 1e-3, 3e-3), 100),
            ),
        },
        seeds={"smoke": 1, "small": 2, "paper": 5},
        pieces=pieces,
        judge=judge,
        plot=plot,
    ),
)  # fmt: skip
