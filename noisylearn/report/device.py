"""Plot of a device: noise against conductance, drift over time, update curve under pulses."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from noisylearn.effects import Effect, Setting, State
from noisylearn.ground.draws import Draws, StreamOf
from noisylearn.ground.errors import UserError
from noisylearn.profiles import HardwareProfile
from noisylearn.profiles.write import DeviceArray
from noisylearn.report.plots import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOMENTS_S = {"at once": 0.0, "1 h": 3600.0, "1 day": 86_400.0}
CURVE_DEVICES, PULSES_SHOWN, MOST_SHOWN = 200, 400, 20_000
Panel = Callable[["Axes", HardwareProfile], None]


def device_picture(profile: HardwareProfile, file: Path) -> None:
    """Plot programming noise, read noise, drift and update curve of a profile's devices, as far as it states them.

    Noise and drift are the mean and variance that the effects declare; the update curve is simulated.

    Args:
        profile: hardware profile.
        file: image to write; its suffix decides the format.

    Raises:
        UserError: the profile has no such devices, or the file cannot be written.
    """
    devices = [e for e in profile.effects("weight") if e.lifetime != "pass"]
    chosen: list[Panel] = []
    if any(e.lifetime in ("write", "device") for e in devices):
        chosen.append(_programming)
    if any(_reads(e) for e in devices):
        chosen.append(_read_noise)
    if any(_lasts(e) for e in devices):
        chosen.append(_drift)
    if profile.in_place is not None:
        chosen.append(_update_curve)
    if not chosen:
        raise UserError(f"profile {profile.name} has no devices with noise, drift or pulses to plot")
    figure, axes = new_figure(len(chosen), width=6.4, height=5.6)
    for ax, panel in zip(axes, chosen, strict=True):
        panel(ax, profile)
        ax.grid(alpha=0.3)
        ax.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.14))
    figure.suptitle(profile.name)
    save_figure(figure, file)


def _programming(ax: "Axes", profile: HardwareProfile) -> None:
    """Root mean square error of a programmed conductance against its target."""
    g, setting = _conductances(profile)
    for effect in profile.effects("weight"):
        if effect.lifetime in ("write", "device"):
            moments = effect.moments(g, setting)
            error = ((moments.mean - g) ** 2 + moments.variance).sqrt()
            ax.plot(g, error, label=effect.kind.replace("-", " "))
    ax.set(xlabel="target conductance (uS)", ylabel="root mean square error (uS)", title="error of writing")
    ax.set_ylim(bottom=0)


def _read_noise(ax: "Axes", profile: HardwareProfile) -> None:
    """Standard deviation of one read, and of its part that differs between two passes, against conductance."""
    g, setting = _conductances(profile)
    for effect in (e for e in profile.effects("weight") if _reads(e)):
        state: State = {}
        effect.start(g, setting, StreamOf(Draws(seed=0), "plot"), state)
        name = effect.kind.replace("-", " ")
        if effect.lifetime == "read":
            ax.plot(g, effect.moments(g, setting).variance.sqrt(), label=name)
            continue
        for when, seconds in MOMENTS_S.items():
            later = replace(setting, since_write_s=seconds)
            ax.plot(g, effect.moments(g, later).variance.sqrt(), label=f"{name}, one read, {when}")
        fresh = _fresh(effect, g, setting)
        label = f"of it fresh in each of two passes {setting.pass_interval_s * 1e6:g} us apart"
        ax.plot(g, fresh, linestyle="--", color="black", label=label)
    ax.set(xlabel="conductance (uS)", ylabel="standard deviation (uS)", title="read noise")
    ax.set_ylim(bottom=0)


def _drift(ax: "Axes", profile: HardwareProfile) -> None:
    """Mean and standard deviation of three conductances against the time after programming."""
    _, setting = _conductances(profile)
    times = torch.logspace(0, 6, 61, dtype=torch.float64)
    for effect in (e for e in profile.effects("weight") if _lasts(e)):
        for share in (0.1, 0.5, 1.0):
            g = torch.tensor(setting.g_min_us + share * (setting.g_max_us - setting.g_min_us), dtype=torch.float64)
            at = [effect.moments(g, replace(setting, since_write_s=float(t))) for t in times]
            mean, sigma = (torch.stack(v) for v in ([m.mean for m in at], [m.variance.sqrt() for m in at]))
            (line,) = ax.plot(times, mean, label=f"{effect.kind.replace('-', ' ')}, from {float(g):.3g} uS")
            ax.fill_between(times, mean - sigma, mean + sigma, alpha=0.2, color=line.get_color(), linewidth=0)
    ax.set(xlabel="time after programming (s)", ylabel="conductance (uS), mean and spread", title="drift", xscale="log")
    ax.set_ylim(bottom=0)


def _update_curve(ax: "Axes", profile: HardwareProfile) -> None:
    """Weight under up pulses from the lower bound, then as many down: median, 10th to 90th percentile, one device."""
    assert profile.in_place is not None
    device = profile.in_place.device
    array = DeviceArray(device, (CURVE_DEVICES, 1), StreamOf(Draws(seed=0), "plot"))
    array.set(torch.full((CURVE_DEVICES, 1), device.w_min))
    each = min(max(int(2 * (device.w_max - device.w_min) / device.dw_min), 10), MOST_SHOWN)
    piece = max(each // PULSES_SHOWN, 1)
    sent = [piece] * (each // piece)
    seen = [array.visible().flatten()]
    for pulses in [*sent, *(-p for p in sent)]:
        array.pulse(torch.full((CURVE_DEVICES, 1), float(pulses)))
        seen.append(array.visible().flatten())
    curves = torch.stack(seen)
    number = torch.arange(len(curves)) * piece
    low, middle, high = (curves.quantile(q, dim=1) for q in (0.1, 0.5, 0.9))
    ax.fill_between(number, low, high, alpha=0.25, label=f"80 % of {CURVE_DEVICES} devices", linewidth=0)
    ax.plot(number, middle, label="median")
    ax.plot(number, curves[:, 0], linewidth=0.7, color="black", label="one device")
    turn = len(sent) * piece
    down = "second device of the pair" if device.one_sided else "down"
    ax.axvline(turn, color="grey", linestyle=":", linewidth=1, label=f"up before, {down} after")
    ax.set(xlabel="pulses", ylabel="weight (units of full scale)", title="update curve")


def _conductances(profile: HardwareProfile) -> tuple[Tensor, Setting]:
    """Conductances over the whole range in uS, (400,), and the setting immediately after programming."""
    mapping, timing = profile.specification.mapping, profile.specification.timing
    assert mapping is not None
    assert timing is not None
    setting = Setting(mapping.g_max_us, 0.0, timing.t0_s, timing.pass_interval_us * 1e-6, mapping.g_min_us)
    return torch.linspace(mapping.g_min_us, mapping.g_max_us, 400, dtype=torch.float64), setting


def _fresh(effect: Any, g: Tensor, setting: Setting) -> Tensor:
    """Standard deviation in uS of the noise that differs between two passes, averaged over 500 devices.

    Args:
        effect: read noise with memory.
        g: conductances in uS, (n,).
        setting: of the devices.
    """
    devices = g.expand(500, -1)
    state: State = {}
    effect.start(devices, setting, StreamOf(Draws(seed=0), "plot"), state)
    return effect.read_variance(devices, setting, state).mean(0).sqrt()


def _reads(effect: Effect) -> bool:
    """Whether an effect is read noise of the devices."""
    return effect.site == "weight" and effect.differs_between_passes and effect.lifetime in ("read", "memory")


def _lasts(effect: Effect) -> bool:
    """Whether an effect changes the devices over time, alike in all passes of a step: drift."""
    return effect.lifetime == "memory" and not effect.differs_between_passes
