"""Axes, lines and bars of the studies' pictures."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from noisylearn.papers.harness.measures import baselines, curve
from noisylearn.papers.harness.study import Found
from noisylearn.report.plots import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# A rule has the same colour in every picture; its decorrelated form a full line, its plain form a dashed one.
COLOURS = {
    "np": "tab:orange", "inp": "tab:green", "anp": "tab:blue", "wp": "tab:brown", "bp": "tab:grey", "bptt": "tab:grey",
    "sgd": "tab:grey", "reinforce": "tab:purple", "tbptt1": "black", "lf": "tab:red",
}  # fmt: skip

FEW_LABELS = 4  # that a legend inside the axes may have


def style_of(rule: str) -> dict[str, Any]:
    """Colour and line style of a rule by its name; empty for other names."""
    plain = rule[1:] if rule[:1] == "d" and rule[1:] in COLOURS else rule
    if plain not in COLOURS:
        return {}
    return {"color": COLOURS[plain], "linestyle": "-" if plain != rule else "--"}


@contextmanager
def panels(file: Path, titles: Sequence[str], width: float = 5.4, height: float = 4.2) -> "Iterator[list[Axes]]":
    """Axes in rows of three (four: of two), with a grid, a title and a legend each; saved to a file at the end.

    Args:
        file: where the picture is saved.
        titles: one for each of the axes.
        width: of each, in inches.
        height: of each, in inches.
    """
    figure, axes = new_figure(len(titles), width, height, per_row=2 if len(titles) == 4 else 3)
    yield axes
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(title, fontsize="medium")
        ax.grid(alpha=0.3)
        if ax.get_xlabel() == "epoch":
            ax.xaxis.get_major_locator().set_params(integer=True)
        n_labels = len(ax.get_legend_handles_labels()[0])
        if n_labels > FEW_LABELS:  # under the axes, where they hide no line
            ax.legend(fontsize="x-small", ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.16))
        elif n_labels:
            ax.legend(fontsize="small")
    save_figure(figure, file)


def band(ax: "Axes", values: np.ndarray, label: str, x: Any = None, **style: Any) -> None:
    """Draw the mean over the seeds, shaded from the lowest to the highest seed; nothing where there are none.

    Args:
        ax: where it is drawn.
        values: (seeds, points).
        label: in the legend.
        x: (points,); None for 1, 2, ...
        style: of the line, as matplotlib takes it.
    """
    if not values.size:
        return
    x = np.arange(1, values.shape[1] + 1) if x is None else np.asarray(x)
    (line,) = ax.plot(x, values.mean(0), label=label, **style)
    ax.fill_between(x, values.min(0), values.max(0), alpha=0.15, color=line.get_color(), linewidth=0)


def bars(ax: "Axes", values: Mapping[str, np.ndarray], **style: Any) -> None:
    """Draw a bar for every name: the mean over the seeds (seeds,), with the lowest and the highest."""
    shown = {name: found for name, found in values.items() if len(found)}
    means = np.array([found.mean() for found in shown.values()])
    lows, highs = ([f(found) for found in shown.values()] for f in (np.min, np.max))
    ax.bar(list(shown), means, yerr=np.abs(np.array([means - lows, highs - means])), capsize=3, **style)
    ax.tick_params(axis="x", rotation=45)


def accuracy_panels(file: Path, found: Found, pieces: Mapping[str, Mapping[str, str]], what: str) -> None:
    """Draw accuracies along the epochs, and that of a linear fit to the pixels.

    Args:
        file: where the picture is saved.
        found: by piece.
        pieces: title of a panel -> rule -> piece.
        what: the accuracy is called.
    """
    linear = baselines(found).get("ridge readout")
    with panels(file, list(pieces)) as axes:
        for ax, of_rules in zip(axes, pieces.values(), strict=True):
            for rule, piece in of_rules.items():
                band(ax, 100 * curve(found[piece], "held_out_accuracy"), rule.upper(), **style_of(rule))
            if linear is not None:
                ax.axhline(100 * linear, color="black", linestyle=":", linewidth=1, label="linear fit to the pixels")
            ax.set(xlabel="epoch", ylabel=f"{what} (%)")


def accuracy_and_loss(file: Path, task: str, found: Found, styles: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw test accuracy and training loss along the epochs, a line for every piece that has a style."""
    with panels(file, [f"test, {task}", f"training, {task}"]) as axes:
        for name, style in styles.items():
            band(axes[0], 100 * curve(found[name], "held_out_accuracy"), name, **style)
            band(axes[1], curve(found[name], "train_loss"), name, **style)
        axes[0].set(xlabel="epoch", ylabel="test accuracy (%)")
        axes[1].set(xlabel="epoch", ylabel="training loss (nats)")
