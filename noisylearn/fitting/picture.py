"""Plots of fits: data with the fitted curve, and the residuals."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from noisylearn.fitting.results import Panel, Series
from noisylearn.report.plots import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PER_ROW = 3


def fit_picture(title: str, panels: Sequence[Panel], file: Path) -> None:
    """Draw panels on one page.

    Args:
        title: of the page.
        panels: what is drawn.
        file: image to write; its suffix decides the format.

    Raises:
        UserError: the file cannot be written.
    """
    figure, axes = new_figure(len(panels), width=4.6, height=3.5, per_row=PER_ROW)
    for ax, panel in zip(axes, panels, strict=True):
        _draw(ax, panel)
    figure.suptitle(title)
    save_figure(figure, file)


def _draw(ax: "Axes", panel: Panel) -> None:
    """One panel."""
    for series in panel.series:
        _draw_series(ax, series)
    ax.set(xlabel=panel.x, ylabel=panel.y, title=panel.title)
    if panel.log_x:
        ax.set_xscale("log")
        ax.xaxis.set_minor_formatter("")
    ax.grid(alpha=0.3)
    if any(series.label for series in panel.series):
        ax.legend(fontsize="small")


def _draw_series(ax: "Axes", series: Series) -> None:
    """Points with error bars, or a line."""
    label, color = series.label or None, None if series.color is None else f"C{series.color}"
    if series.style == "points" and series.error is not None:
        ax.errorbar(series.x, series.y, yerr=series.error, fmt=".", label=label, capsize=2, color=color)
    elif series.style in ("points", "faint"):
        ax.plot(series.x, series.y, ".", label=label, color=color, alpha=0.25 if series.style == "faint" else 1.0)
    else:
        dashed = series.style == "dashed"
        ax.plot(series.x, series.y, label=label, linestyle="--" if dashed else "-", color="grey" if dashed else color)
