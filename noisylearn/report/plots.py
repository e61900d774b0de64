"""Plots written to files; matplotlib is imported only when one is drawn."""

import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from noisylearn.experiments.row import Row
from noisylearn.ground.errors import UserError
from noisylearn.ground.replace import replace_file
from noisylearn.report.limits import LOWER_IS_BETTER, limits

LONG_LABEL = 40  # characters; three such labels do not fit side by side
LINE_STYLES = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)), (0, (8, 3)), (0, (2, 4)))

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def accuracy_curves(
    rows: Sequence[Row], metric: str, baselines: dict[str, float], file: Path, labels: Sequence[str] = ()
) -> None:
    """Plot the held-out metric read on the chip after every epoch: median over the seeds, and their range.

    A colour stands for a rule, and where there are several profiles, a line style for a profile. The axis of accuracies
    begins just below the lowest that is reached at the end, or the best trivial predictor; what lies below it is in the
    legend.

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
    styles = _styles(rows) if several and not labels else [{"color": color} for color in _colors(len(rows))]
    labels = labels or [f"{row.label} on {row.profile}" if several else row.label for row in rows]
    longest = max([len(label) + len(" (0.123)") for label in labels] + [len(name) + 20 for name in baselines])
    columns = 3 if longest < LONG_LABEL else 2
    figure, axes = new_figure(1, width=8.0, height=4.6 + 0.2 * (len(rows) + len(baselines)) / columns)
    ax, form = axes[0], ".3g" if metric == "mse" else ".3f"
    for row, name, style in zip(rows, labels, styles, strict=True):
        if not row.runs:
            continue
        curves = _of_one_length([run["metrics"]["epoch"][f"held_out_{metric}"].tolist() for run in row.runs])
        epochs, median = range(1, curves.shape[1] + 1), curves.quantile(0.5, dim=0)
        (line,) = ax.plot(epochs, median, marker=".", label=f"{name} ({median[-1]:{form}})", **style)
        ax.fill_between(epochs, curves.amin(0), curves.amax(0), alpha=0.2, color=line.get_color(), linewidth=0)
    low, high = limits(metric, [list(line.get_ydata()) for line in ax.get_lines()], baselines)
    ax.set_yscale("log" if metric in LOWER_IS_BETTER else "linear")
    for (name, value), dashes in zip(baselines.items(), (":", "-.", "--", (0, (1, 5)), (0, (5, 5))), strict=False):
        off_axis = "" if low <= value <= high else ", off the axis"
        ax.axhline(value, color="grey", linestyle=dashes, linewidth=1, label=f"{name} ({value:{form}}{off_axis})")
    ax.set_ylim(low, high)
    ax.set(xlabel="epoch", ylabel=f"held-out {metric.replace('_', ' ')}, read on the chip{_of_seeds(rows)}")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.grid(alpha=0.3)
    figure.legend(
        title="in brackets: after the last epoch", title_fontsize="small", fontsize="small", handlelength=3.0,
        loc="outside lower center", ncols=columns,
    )  # fmt: skip
    save_figure(figure, file)


def _colors(n: int) -> list[Any]:
    """Colours for so many lines; none is grey, as the trivial baselines are."""
    from matplotlib import colormaps

    few, many = (
        [color for color in map(colormaps[name], range(colormaps[name].N)) if len(set(color[:3])) > 1]
        for name in ("tab10", "tab20")
    )
    return list(itertools.islice(itertools.cycle(few if n <= len(few) else many), n))


def _styles(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Colour by rule, line style by profile; by the rule's options as well where a profile has a rule twice."""
    once = len({(row.rule, row.profile) for row in rows}) == len(rows)
    names = [row.rule if once else row.label for row in rows]
    kinds = list(dict.fromkeys(names))
    colors = dict(zip(kinds, _colors(len(kinds)), strict=True))
    profiles = list(dict.fromkeys(row.profile for row in rows))
    styles = dict(zip(profiles, itertools.cycle(LINE_STYLES), strict=False))
    return [{"color": colors[name], "linestyle": styles[row.profile]} for name, row in zip(names, rows, strict=True)]


def _of_seeds(rows: Sequence[Row]) -> str:
    """How many seeds the curves are of, where any is of more than one."""
    counts = sorted({len(row.runs) for row in rows if row.runs})
    if not counts or counts[-1] == 1:
        return ""
    return f"\nmedian and range of {' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} seeds"


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


def _of_one_length(curves: list[list[float]]) -> Tensor:
    """Curves (runs, epochs); one that ended early keeps its last value."""
    longest = max(map(len, curves))
    return torch.tensor([curve + curve[-1:] * (longest - len(curve)) for curve in curves])
