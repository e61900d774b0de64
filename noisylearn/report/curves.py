"""The curves of a device as numbers: noise against conductance, drift over time, update curve under pulses."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from noisylearn.effects import Effect, Setting, State
from noisylearn.ground.draws import Draws, StreamOf
from noisylearn.profiles import HardwareProfile
from noisylearn.profiles.write import DeviceArray

MOMENTS_S = {"at once": 0.0, "1 h": 3600.0, "1 day": 86_400.0}
CURVE_DEVICES, PULSES_SHOWN, MOST_SHOWN = 200, 400, 20_000


@dataclass(frozen=True)
class Curve:
    """One curve of a panel.

    Args:
        label: of the curve.
        x: (points,).
        y: (points,).
        low: lower end of a band around the curve, (points,); None for no band.
        high: upper end of the band, (points,).
        band_label: of the band, where it has one of its own.
        apart: whether it stands apart from the others: drawn in the colour of text.
    """

    label: str
    x: Tensor
    y: Tensor
    low: Tensor | None = None
    high: Tensor | None = None
    band_label: str = ""
    apart: bool = False


@dataclass(frozen=True)
class Panel:
    """Curves over one axis.

    Args:
        title: what is shown.
        x_label: of the axis, with the unit.
        y_label: of the axis, with the unit.
        curves: on it.
        x_is_log: whether the axis is logarithmic.
        from_zero: whether the vertical axis begins at zero.
        turn: place of a vertical line; None for no line.
        turn_label: what happens there.
    """

    title: str
    x_label: str
    y_label: str
    curves: tuple[Curve, ...]
    x_is_log: bool = False
    from_zero: bool = True
    turn: float | None = None
    turn_label: str = ""


def device_panels(profile: HardwareProfile) -> list[Panel]:
    """Programming noise, read noise, drift and update curve of a profile's devices, as far as it states them.

    Noise and drift are the mean and variance that the effects declare; the update curve is simulated.

    Args:
        profile: hardware profile.

    Returns:
        A panel for each; none where the profile has no such devices.
    """
    devices = [e for e in profile.effects("weight") if e.lifetime != "pass"]
    chosen: list[Callable[[HardwareProfile], Panel]] = []
    if any(e.lifetime in ("write", "device") for e in devices):
        chosen.append(_programming)
    if any(_reads(e) for e in devices):
        chosen.append(_read_noise)
    if any(_lasts(e) for e in devices):
        chosen.append(_drift)
    if profile.in_place is not None:
        chosen.append(_update_curve)
    return [panel(profile) for panel in chosen]


def _programming(profile: HardwareProfile) -> Panel:
    """Root mean square error of a programmed conductance against its target."""
    g, setting = _conductances(profile)
    curves = []
    for effect in (e for e in profile.effects("weight") if e.lifetime in ("write", "device")):
        moments = effect.moments(g, setting)
        error = ((moments.mean - g) ** 2 + moments.variance).sqrt()
        curves.append(Curve(effect.kind.replace("-", " "), g, error))
    return Panel("error of writing", "target conductance (uS)", "root mean square error (uS)", tuple(curves))


def _read_noise(profile: HardwareProfile) -> Panel:
    """Standard deviation of one read, and of its part that differs between two passes, against conductance."""
    g, setting = _conductances(profile)
    curves = [
        curve for effect in profile.effects("weight") if _reads(effect) for curve in _reads_of(effect, g, setting)
    ]
    return Panel("read noise", "conductance (uS)", "standard deviation (uS)", tuple(curves))


def _reads_of(effect: Any, g: Tensor, setting: Setting) -> Iterator[Curve]:
    """The curves of one effect of read noise."""
    name = effect.kind.replace("-", " ")
    effect.start(g, setting, StreamOf(Draws(seed=0), "plot"), {})
    if effect.lifetime == "read":
        yield Curve(name, g, effect.moments(g, setting).variance.sqrt())
        return
    for when, seconds in MOMENTS_S.items():
        later = replace(setting, since_write_s=seconds)
        yield Curve(f"{name}, one read, {when}", g, effect.moments(g, later).variance.sqrt())
    label = f"of it fresh in each of two passes {setting.pass_interval_s * 1e6:g} us apart"
    yield Curve(label, g, _fresh(effect, g, setting), apart=True)


def _drift(profile: HardwareProfile) -> Panel:
    """Mean and standard deviation of three conductances against the time after programming."""
    _, setting = _conductances(profile)
    times = torch.logspace(0, 6, 61, dtype=torch.float64)  # since the first read, t0_s after programming
    curves = []
    for effect in (e for e in profile.effects("weight") if _lasts(e)):
        for share in (0.1, 0.5, 1.0):
            g = torch.tensor(setting.g_min_us + share * (setting.g_max_us - setting.g_min_us), dtype=torch.float64)
            at = [effect.moments(g, replace(setting, since_write_s=float(t))) for t in times]
            mean, sigma = (torch.stack(v) for v in ([m.mean for m in at], [m.variance.sqrt() for m in at]))
            label = f"{effect.kind.replace('-', ' ')}, from {float(g):.3g} uS"
            curves.append(Curve(label, setting.t0_s + times, mean, mean - sigma, mean + sigma))
    y_label = "conductance (uS), mean and spread"
    return Panel("drift", "time after programming (s)", y_label, tuple(curves), x_is_log=True)


def _update_curve(profile: HardwareProfile) -> Panel:
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
    weights = torch.stack(seen)
    number = torch.arange(len(weights)) * piece
    low, middle, high = (weights.quantile(q, dim=1) for q in (0.1, 0.5, 0.9))
    curves = (
        Curve("median", number, middle, low, high, f"80 % of {CURVE_DEVICES} devices"),
        Curve("one device", number, weights[:, 0], apart=True),
    )
    down = "second device of the pair" if device.one_sided else "down"
    return Panel(
        "update curve", "pulses", "weight (units of full scale)", curves,
        from_zero=False, turn=float(len(sent) * piece), turn_label=f"up before, {down} after",
    )  # fmt: skip


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
