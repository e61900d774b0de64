"""Plots, written as files; matplotlib is imported only here."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from noisylearn.compare import Row
from noisylearn.draws import Draws, StreamOf
from noisylearn.effects import Setting, State
from noisylearn.errors import UserError
from noisylearn.profiles import HardwareProfile

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TICKS_S = {"1 s": 1.0, "1 h": 3600.0, "1 day": 86_400.0}


def accuracy_curves(rows: Sequence[Row], metric: str, baselines: dict[str, float], file: Path) -> None:
    """Held-out metric read on the chip after every epoch: median over the seeds, shaded from lowest to highest."""
    figure, axes = _figure(1, width=9.0)
    ax = axes[0]
    several = len({row.profile for row in rows}) > 1
    for row in (r for r in rows if r.runs):
        curves = torch.tensor([list(run["metrics"]["epoch"][f"held_out_{metric}"]) for run in row.runs])
        epochs = range(1, curves.shape[1] + 1)
        label = f"{row.label} on {row.profile}" if several else row.label
        label += f" ({len(curves)} seeds)" if len(curves) > 1 else ""
        (line,) = ax.plot(epochs, curves.quantile(0.5, dim=0), marker=".", label=label)
        ax.fill_between(epochs, curves.amin(0), curves.amax(0), alpha=0.2, color=line.get_color(), linewidth=0)
    for (name, value), style in zip(baselines.items(), (":", "-.", "--"), strict=False):
        ax.axhline(value, color="grey", linestyle=style, linewidth=1, label=name)
    ax.set(xlabel="epoch", ylabel=f"held-out {metric}, read on the chip")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.grid(alpha=0.3)
    ax.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    _save(figure, file)


def device_noise(profile: HardwareProfile, file: Path) -> None:
    """Programming and read noise against conductance, from the effects' own moments.

    Raises UserError for a profile without conductances.
    """
    mapping, timing = profile.specification.mapping, profile.specification.timing
    if mapping is None or timing is None:
        raise UserError(f"profile {profile.name} has no conductances to plot noise against")
    g = torch.linspace(0, mapping.g_max_us, 400, dtype=torch.float64)
    figure, axes = _figure(2)
    for effect in profile.effects("weight"):
        setting = Setting(mapping.g_max_us, 0.0, timing.t0_s, timing.pass_interval_us * 1e-6)
        if effect.lifetime == "write":
            axes[0].plot(g, effect.moments(g, setting).variance.sqrt(), label=effect.kind.replace("-", " "))
            continue
        state: State = {}
        effect.start(g, setting, StreamOf(Draws(seed=0), "plot"), state)
        if (fresh := effect.read_variance(g, setting, state)) is not None:
            for name, seconds in TICKS_S.items():
                later = Setting(mapping.g_max_us, seconds, timing.t0_s, timing.pass_interval_us * 1e-6)
                axes[1].plot(g, effect.moments(g, later).variance.sqrt(), label=f"one read, {name} after programming")
            label = f"of it fresh in each of two passes {timing.pass_interval_us:g} us apart"
            axes[1].plot(g, fresh.sqrt(), linestyle="--", color="black", label=label)
    axes[0].set(xlabel="target conductance (uS)", ylabel="standard deviation (uS)", title="programming noise")
    axes[1].set(xlabel="conductance (uS)", ylabel="standard deviation (uS)", title="read noise (drift apart)")
    for ax in axes:
        ax.set_ylim(bottom=0)
        ax.grid(alpha=0.3)
        ax.legend(fontsize="small")
    figure.suptitle(profile.name)
    _save(figure, file)


def _figure(columns: int, width: float = 6.4) -> "tuple[Figure, list]":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(1, columns, i + 1) for i in range(columns)]


def _save(figure: "Figure", file: Path) -> None:
    if not file.name:
        raise UserError(f"plot {file}: cannot be written: that is a folder")
    beside = file.with_name(f".{file.name}.part")
    try:
        figure.savefig(beside, dpi=120, format=file.suffix.lstrip(".") or "png")
        beside.replace(file)
    except (OSError, ValueError) as error:
        with suppress(OSError):
            beside.unlink()
        reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
        raise UserError(f"plot {file}: cannot be written: {reason}") from None
