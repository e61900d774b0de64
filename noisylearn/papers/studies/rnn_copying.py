"""[RNN] figure 5: rules on the copying memory task, on one sequence as published and on fresh ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from noisylearn.papers.harness.criteria import within
from noisylearn.papers.harness.measures import baselines, finals, mean, trivial_figures
from noisylearn.papers.harness.pictures import band, bars, panels, style_of
from noisylearn.papers.harness.rule_pieces import Search
from noisylearn.papers.harness.study import Criterion, Figure, Found, Judgement, Piece, Study
from noisylearn.papers.studies.shared.recurrent import (
    AS_PUBLISHED,
    NODE_RULES,
    WEIGHT_RULES,
    far_above,
    log_curve,
    lower,
    name_of,
    near,
    outcome,
    recurrent_piece,
)
from noisylearn.tasks.copying import DELAY, N_FEATURES, N_SYMBOLS

DECORRELATION_RATE = 1e-4  # [RNN] table 2
CHANCE = 1 / N_SYMBOLS
AT_CHANCE = 0.05  # recall this close to chance has learned nothing: 5 standard errors of 200 sequences of 5 symbols


@dataclass(frozen=True)
class Protocol:
    """A copying task and how long it is trained.

    Args:
        task: by its name.
        seq_len: symbols to remember.
        batch: sequences per step.
        epochs: of every training.
        last: final epochs whose losses are averaged.
        rules: that are run.
        search: rates that every rule tries; None for `rate`.
        rate: learning rate of every rule without a search.
    """

    task: str
    seq_len: int
    batch: int
    epochs: int
    last: int
    rules: Sequence[str]
    search: Search | None = None
    rate: float | None = None

    @property
    def memoryless(self) -> float:
        """Squared error of the best guess without memory: 1/8 for every symbol during recall."""
        return (1 - CHANCE) / N_FEATURES * self.seq_len / (2 * self.seq_len + DELAY)

    def options(self, units: int) -> dict[str, Any]:
        """Options of every training."""
        shape = {"hidden": (units,), "seq_len": self.seq_len, "decorrelation_rate": DECORRELATION_RATE}
        return shape | {"batch": self.batch, "epochs": self.epochs, "lr": self.rate}


@dataclass(frozen=True)
class Size:
    """Units of the network, and the protocols.

    Args:
        units: hidden.
        protocols: by name, "one" (trains on one sequence, as published) and "fresh" (on many).
    """

    units: int
    protocols: Mapping[str, Protocol]


def pieces(size: Size, seeds: Sequence[int]) -> list[Piece]:
    return [
        recurrent_piece(f"{key} {rule}", at.task, rule, seeds, at.options(size.units), at.search)
        for key, at in size.protocols.items()
        for rule in at.rules
    ]


def judge(size: Size, found: Found) -> Judgement:
    """The published claims on the training loss of one sequence, and how well other sequences are recalled."""
    figures: list[Figure] = []
    losses, recalls = {}, {}
    for key, at in size.protocols.items():
        trees = {rule: found[f"{key} {rule}"] for rule in at.rules}
        what = "train_loss" if key == "one" else "held_out_mse"
        losses[key] = {rule: finals(tree, what, at.last) for rule, tree in trees.items()}
        recalls[key] = {rule: finals(tree, "held_out_recall_accuracy", at.last) for rule, tree in trees.items()}
        place = "one sequence" if key == "one" else "fresh sequences"
        quantity = "training mse" if key == "one" else "test mse"
        for rule in at.rules:
            measured = {quantity: losses[key][rule], "test recall": recalls[key][rule]}
            figures += outcome(f"{name_of(rule)}, {place}", measured, trees[rule])
        figures.append(Figure(f"best guess without memory, {place}: mse (trivial)", at.memoryless))
        figures += trivial_figures(baselines(trees), f", {place}: test recall (trivial)")
    criteria = [*_published(losses["one"]), _on_others(recalls["one"])]
    if {"danp", "tbptt1"} <= set(losses.get("fresh", {})):
        criteria.append(_on("fresh sequences", near("danp", "tbptt1", losses["fresh"])))
    return Judgement(figures, criteria)


def _published(losses: Mapping[str, np.ndarray]) -> list[Criterion]:
    orders = (("anp", "np"), ("anp", "wp"), ("danp", "np"), ("danp", "wp"))
    found = [lower(a, b, losses) for a, b in orders if {a, b} <= set(losses)]
    if "tbptt1" in losses:
        found += [far_above(rule, "tbptt1", losses) for rule in ("np", "wp")]
        found += [near(rule, "tbptt1", losses) for rule in ("anp", "danp")]
        found += [near("anp", "danp", losses), near("danp", "anp", losses)]
    return [_on("one sequence", one) for one in found]


def _on(sequences: str, criterion: Criterion) -> Criterion:
    return replace(criterion, statement=f"{sequences}: {criterion.statement}")


def _on_others(recalls: Mapping[str, np.ndarray]) -> Criterion:
    """That what is learned by heart from one sequence does not carry over to others: a claim of ours."""
    statement = f"one sequence: recall of others by DANP within {AT_CHANCE:g} of chance ({CHANCE:g})"
    return within(statement, mean(recalls["danp"]), CHANCE, AT_CHANCE, "{:.3f}")


def plot(size: Size, found: Found, file: Path) -> None:
    titles = [f"{at.task}, {at.seq_len} symbols" for at in size.protocols.values()]
    with panels(file, [*titles, "test recall, last epochs"]) as axes:
        recalls = {}
        for ax, (key, at) in zip(axes, size.protocols.items(), strict=False):
            metric = "train_loss" if key == "one" else "held_out_mse"
            for rule in at.rules:
                band(ax, log_curve(found[f"{key} {rule}"], metric), name_of(rule), **style_of(rule))
                recalls[f"{rule}, {key}"] = finals(found[f"{key} {rule}"], "held_out_recall_accuracy", at.last)
            ax.axhline(at.memoryless, color="black", linestyle=":", linewidth=1, label="best guess without memory")
            which = "training" if key == "one" else "test"
            ax.set(xlabel="epoch", ylabel=f"mean squared error, {which}", yscale="log")
        bars(axes[-1], recalls)
        axes[-1].axhline(CHANCE, color="black", linestyle=":", label="chance")
        axes[-1].set(ylabel="recall accuracy")


_RULES = ("np", "wp", "anp", "danp", "tbptt1")
_ALL = (*NODE_RULES, *WEIGHT_RULES, "tbptt1", "dtbptt1")
_ONE = Protocol("copying-fixed", 20, 1, epochs=100, last=10, rules=_RULES, search=Search((1e-4, 3e-3, 6e-3), 50))
_FRESH = Protocol(
    "copying", 5, 100, epochs=3, last=1, rules=(*_RULES, "bptt"), search=Search((1e-4, 3e-3, 1e-2))
)  # fmt: skip
_QUICK = replace(_ONE, seq_len=5, epochs=12, last=5, rules=("danp", "wp"), search=None, rate=2e-2)
_SMOKE = Size(30, {"one": _QUICK})
_SMALL = Size(100, {"one": _ONE, "fresh": _FRESH})
_RATES = Search((1e-5, 1e-4, 1e-3, 3e-3, 1e-2), 100)
_PAPER = Size(
    500,
    {
        "one": replace(_ONE, seq_len=100, epochs=500, last=50, rules=_ALL, search=_RATES),
        "fresh": replace(_FRESH, seq_len=100, epochs=500, last=50, rules=(*_ALL, "bptt"), search=_RATES),
    },
)  # fmt: skip
_ONE_SETTING = (
    "the published protocol, as the public code has it: training on one fixed sequence, batch 1, judged by the "
    "training loss; recall is that of other sequences"
)

STUDIES = (
    Study(
        name="rnn-fig5",
        paper="rnn",
        source="figure 5",
        title="Copying memory",
        published="NP and WP are far behind BP; ANP closely approaches BP; decorrelation does little to either.",
        setting={
            "smoke": "One sequence of 5 symbols, 30 units, 12 epochs, two rules at one rate.",
            "small": (
                f"100 units; 20 symbols in {_ONE_SETTING}, 100 epochs; beside it 2,000 fresh sequences of 5 symbols, "
                f"batch 100, three epochs, judged by the test error. {AS_PUBLISHED} Every rule tries three rates. BP "
                "in the paper is backprop cut off after one step with updates online, as the public code has it."
            ),
            "paper": f"500 units, 100 symbols, 500 epochs; {_ONE_SETTING}; beside it fresh sequences. {AS_PUBLISHED}",
        },
        sizes={"smoke": _SMOKE, "small": _SMALL, "paper": _PAPER},
        seeds={"smoke": 1, "small": 2, "paper": 5},
        pieces=pieces,
        judge=judge,
        plot=plot,
    ),
)  # fmt: skip
