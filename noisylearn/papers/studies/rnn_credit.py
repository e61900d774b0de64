"""[RNN] figure 9: which losses a perturbation is credited with under NP, on the copying memory task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from noisylearn.papers.harness.criteria import below
from noisylearn.papers.harness.measures import by_piece, finals, mean
from noisylearn.papers.harness.pictures import band, bars, panels
from noisylearn.papers.harness.rule_pieces import Search
from noisylearn.papers.harness.study import Figure, Found, Judgement, Piece, Study
from noisylearn.papers.studies.rnn_copying import Protocol
from noisylearn.papers.studies.shared.recurrent import (
    AS_PUBLISHED,
    far_above,
    log_curve,
    lower,
    outcome,
    recurrent_piece,
)

LOCAL, CONVENTIONAL, ONE_UPDATE = "NP local, online", "NP sequence", "NP local, one update"
CREDITS: Mapping[str, Mapping[str, str]] = {
    LOCAL: {"credit": "local", "update": "online"},
    CONVENTIONAL: {"credit": "sequence", "update": "sequence"},
    ONE_UPDATE: {"credit": "local", "update": "sequence"},
    "NP reward-to-go": {"credit": "reward-to-go", "update": "sequence"},
}


@dataclass(frozen=True)
class Size:
    """Network, protocol and kinds of credit.

    Args:
        units: hidden.
        protocol: of the copying task.
        credits: names from CREDITS.
    """

    units: int
    protocol: Protocol
    credits: Sequence[str] = tuple(CREDITS)


def pieces(size: Size, seeds: Sequence[int]) -> list[Piece]:
    at = size.protocol
    options = at.options(size.units)
    return [
        recurrent_piece(name, at.task, "np", seeds, options | dict(CREDITS[name]), at.search) for name in size.credits
    ]


def judge(size: Size, found: Found) -> Judgement:
    losses = by_piece(found, lambda tree: finals(tree, "train_loss", size.protocol.last))
    figures = []
    for name, values in losses.items():
        figures += outcome(name, {"training mse": values}, found[name])
    figures.append(Figure("best guess without memory: mse (trivial)", size.protocol.memoryless))
    criteria = [lower(name, CONVENTIONAL, losses) for name in (LOCAL, ONE_UPDATE) if name in size.credits]
    if ONE_UPDATE in size.credits:
        criteria.append(far_above(CONVENTIONAL, LOCAL, losses))
    guess = size.protocol.memoryless
    criteria.append(below(f"{LOCAL} below the best guess without memory", mean(losses[LOCAL]), guess))
    return Judgement(figures, criteria)


def plot(size: Size, found: Found, file: Path) -> None:
    at = size.protocol
    with panels(file, [f"NP on {at.task}, {at.seq_len} symbols", "last epochs"]) as (curves, final):
        for name, tree in found.items():
            band(curves, log_curve(tree, "train_loss"), name)
        curves.axhline(at.memoryless, color="black", linestyle=":", linewidth=1, label="best guess without memory")
        curves.set(xlabel="epoch", ylabel="mean squared error, training", yscale="log")
        bars(final, by_piece(found, lambda tree: finals(tree, "train_loss", at.last)))
        final.set(ylabel="mean squared error, training")


_SMALL = Protocol(
    "copying-fixed", 20, 1, epochs=100, last=10, rules=("np",), search=Search((1e-3, 6e-3, 3e-2, 1e-1), 50)
)  # fmt: skip
_ONE_UPDATE = (
    "Credit local updates online, at every step; the others update once a sequence, one of them with credit local too, "
    "to tell credit and number of updates apart."
)

STUDIES = (
    Study(
        name="rnn-fig9",
        paper="rnn",
        source="figure 9, equations 1 and 2",
        title="NP with the loss of the step and with that of the sequence, on copying memory",
        published="Credit local is far better than the conventional one, the loss of the whole sequence.",
        setting={
            "smoke": "One sequence of 20 symbols, 30 units, 20 epochs at one rate.",
            "small": (
                f"One fixed sequence of 20 symbols, 100 units, 100 epochs. {_ONE_UPDATE} Each tries four rates, 50 "
                f"epochs. {AS_PUBLISHED}"
            ),
            "paper": f"One fixed sequence of 100 symbols, 500 units, 500 epochs. {_ONE_UPDATE} {AS_PUBLISHED}",
        },
        sizes={
            "smoke": Size(
                30, replace(_SMALL, epochs=20, last=10, search=None, rate=3e-3), (LOCAL, CONVENTIONAL)
            ),
            "small": Size(100, _SMALL),
            "paper": Size(
                500, replace(_SMALL, seq_len=100, epochs=500, last=50, search=Search((1e-4, 1e-3, 1e-2, 1e-1), 100))
            ),
        },
        seeds={"smoke": 1, "small": 2, "paper": 5},
        pieces=pieces,
        judge=judge,
        plot=plot,
        remarks="None remembers anything yet: even the best is above the best guess without memory, and with the loss "
        "of the sequence nothing is learned in 100 updates, where credit local had thousands.",
        revised="the criterion against the best guess without memory was added.",
    ),
)  # fmt: skip
