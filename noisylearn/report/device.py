"""Picture of a device: noise against conductance, drift over time, update curve under pulses."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisylearn.ground.errors import UserError
from noisylearn.profiles import HardwareProfile
from noisylearn.report.curves import Panel, device_panels
from noisylearn.report.plots import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def device_picture(profile: HardwareProfile, file: Path) -> None:
    """Plot programming noise, read noise, drift and update curve of a profile's devices, as far as it states them.

    Args:
        profile: hardware profile.
        file: image to write; its suffix decides the format.

    Raises:
        UserError: the profile has no such devices, or the file cannot be written.
    """
    panels = device_panels(profile)
    if not panels:
        raise UserError(f"profile {profile.name} has no devices with noise, drift or pulses to plot")
    figure, axes = new_figure(len(panels), width=6.4, height=5.6)
    for ax, panel in zip(axes, panels, strict=True):
        _draw(ax, panel)
    figure.suptitle(profile.name)
    save_figure(figure, file)


def _draw(ax: "Axes", panel: Panel) -> None:
    for curve in panel.curves:
        style: dict[str, Any] = {"color": "black", "linestyle": "--", "linewidth": 1} if curve.apart else {}
        (line,) = ax.plot(curve.x, curve.y, label=curve.label, **style)
        if curve.low is not None and curve.high is not None:
            band: dict[str, Any] = {"label": curve.band_label} if curve.band_label else {}
            ax.fill_between(curve.x, curve.low, curve.high, alpha=0.2, color=line.get_color(), linewidth=0, **band)
    if panel.turn is not None:
        ax.axvline(panel.turn, color="grey", linestyle=":", linewidth=1, label=panel.turn_label)
    ax.set(xlabel=panel.x_label, ylabel=panel.y_label, title=panel.title, xscale="log" if panel.x_is_log else "linear")
    if panel.from_zero:
        ax.set_ylim(bottom=0)
    ax.grid(alpha=0.3)
    ax.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.14))
