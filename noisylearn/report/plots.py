"""Plots written to files; matplotlib is imported only when one is drawn."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from noisylearn.experiments.row import Row
from noisylearn.ground.errors import UserError
from noisylearn.ground.replace import replace_file

LONG_LABEL = 40  # characters; three such labels do not fit side by side

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def accuracy_curves(
    rows: Sequence[Row], metric: str, baselines: dict[str, float], file: Path, labels: Sequence[str] = ()
) -> None:
    """Plot the held-out metric read on the chip after every epoch: median over the seeds, and their range.

    Args:
        rows: rows of a comparison; those without runs are left out.
        metric: name of the metric.
        baselines: metric of trivial predictors by name, drawn as horizontal lines.
        file: image to write; its suffix decides the format.
        labels: one for every row, in place of its rule and profile.

    Raises:
        UserError: the file cannot be written.
    """
    several = len({row.profile for row in rows}) > 1
    labels = labels or [f"{row.label} on {row.profile}" if several else row.label for row in rows]
    longest = max([len(label) + len(" (5 seeds)") for label in labels] + [len(name) + 20 for name in baselines])
    columns = 3 if longest < LONG_LABEL else 2
    figure, axes = new_figure(1, width=8.0, height=4.4 + 0.2 * (len(rows) + len(baselines)) / columns)
    ax = axes[0]
    for row, name in ((r, name) for r, name in zip(rows, labels, strict=True) if r.runs):
        curves = torch.tensor([list(run["metrics"]["epoch"][f"held_out_{metric}"]) for run in row.runs])
        epochs = range(1, curves.shape[1] + 1)
        label = f"{name} ({len(curves)} seeds)" if len(curves) > 1 else name
        (line,) = ax.plot(epochs, curves.quantile(0.5, dim=0), marker=".", label=label)
        ax.fill_between(epochs, curves.amin(0), curves.amax(0), alpha=0.2, color=line.get_color(), linewidth=0)
    if metric == "mse":
        _scale_errors(ax)
    else:
        ax.set_ylim(0.0, 1.0)
    low, high = ax.get_ylim()
    for (name, value), style in zip(baselines.items(), (":", "-.", "--", (0, (1, 5)), (0, (5, 5))), strict=False):
        off_axis = "" if low <= value <= high else ", off the axis"
        ax.axhline(value, color="grey", linestyle=style, linewidth=1, label=f"{name} ({value:.3g}{off_axis})")
    ax.set_ylim(low, high)
    ax.set(xlabel="epoch", ylabel=f"held-out {metric}, read on the chip")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.grid(alpha=0.3)
    figure.legend(fontsize="small", loc="outside lower center", ncols=columns)
    save_figure(figure, file)


def _scale_errors(ax: "Axes") -> None:
    """Set a logarithmic axis around the medians, so that neither a diverged run nor a far baseline sets its range."""
    medians = torch.cat([torch.as_tensor(line.get_ydata(), dtype=torch.float64) for line in ax.get_lines()])
    ax.set_yscale("log")
    ax.set_ylim(float(medians.min()) / 2, float(medians.max()) * 2)


def new_figure(
    n_panels: int, width: float = 6.4, height: float = 4.4, per_row: int | None = None
) -> "tuple[Figure, list]":
    """Make a figure of several panels side by side.

    Args:
        n_panels: number of panels.
        width: of one panel, in inches.
        height: of one panel, in inches.
        per_row: panels in a row; all in one row if None.

    Returns:
        The figure, and the axes of every panel.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(n_panels, per_row or n_panels)
    rows = -(-n_panels // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(rows, columns, i + 1) for i in range(n_panels)]


def save_figure(figure: "Figure", file: Path) -> None:
    """Write a figure to a file, whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    if not file.name:
        raise UserError(f"plot {file}: cannot be written: that is a folder")
    content = io.BytesIO()
    try:
        figure.savefig(content, dpi=120, format=file.suffix.lstrip(".") or "png")
    except ValueError as error:
        raise UserError(f"plot {file}: cannot be written: {' '.join(str(error).split())}") from None
    replace_file(file, content.getbuffer(), "plot", "choose another place")
