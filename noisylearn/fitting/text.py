"""The text of a fitted profile: TOML with the status and source of every number."""

import datetime
import json
from collections.abc import Iterable, Sequence
from typing import Any

from noisylearn.fitting.results import EffectFit

SOURCE, CHOICE = "measurements", "fit-choices"
WEIGHT_AT_FULL_SCALE = 0.5


def profile_text(
    name: str,
    fits: Sequence[EffectFit],
    source: str,
    date: datetime.date,
    mapping: dict[str, float] | None,
    timing: dict[str, float],
    output_noise: float | None = None,
) -> str:
    """A profile as its file states it.

    Args:
        name: of the profile.
        fits: effects that were fitted.
        source: names the measurements.
        date: of the measurements.
        mapping: g_max_us and g_min_us of devices that are written to a conductance; None for pulsed ones.
        timing: t0_s and pass_interval_us.
        output_noise: assumed noise of the read-out, in units of one full-scale product; None for none.
    """
    device = next((fit for fit in fits if fit.name == "pulsed-device"), None)
    lines = [
        "schema_version = 2",
        f"name = {_value(name)}",
        f"title = {_value(f'Devices of {name}, as measured')}",
        f"description = {_value('Fitted to measurements of devices; 95 % intervals stand beside the numbers.')}",
        'observable = ["loss", "output", "error", "input", "activity"]',
        *("", f"[sources.{SOURCE}]", f"citation = {_value(source)}"),
        *("", f"[sources.{CHOICE}]", f"citation = {_value('Choices that the measurements leave open')}"),
        *("", "[specification]", f"date = {date.isoformat()}"),
    ]
    if mapping is not None:
        cited = {key: _cited(value, "measured") for key, value in mapping.items()}
        lines += _table("[specification.mapping]", {"kind": _value("differential-pair")} | cited, "assumed", CHOICE)
        lines += ['scale = "column"', "reads_clip = false"]
    lines += _table("[specification.timing]", {key: _value(value) for key, value in timing.items()}, "assumed", CHOICE)
    if device is not None:
        lines += _table("[specification.inputs]", {"scaling": _value("absolute-maximum")}, "assumed", CHOICE)
        full = {"mode": _value("pulsed"), "weight_at_full_scale": _value(WEIGHT_AT_FULL_SCALE), "most_pulses": "31"}
        if device.numbers.get("one_sided"):
            full |= {"refresh_above": "0.75", "refresh_other_above": "0.25", "refresh_every": "100"}
        lines += _table("[write]", full, "assumed", CHOICE)
        lines += _fitted("[write.device]", {}, device)
    lines += ["", "[calibration]", f"date = {date.isoformat()}"]
    for fit in fits:
        if fit is not device:
            lines += _fitted("[[calibration.effects]]", {"kind": _value(fit.name)}, fit)
    if output_noise is not None:
        noise = {"kind": _value("output-noise"), "sigma": _value(output_noise)}
        lines += _table("[[calibration.effects]]", noise, "assumed", CHOICE)
    return "\n".join(lines) + "\n"


def _fitted(heading: str, first: dict[str, str], fit: EffectFit) -> Iterable[str]:
    """A table of fitted numbers, with intervals and checks as comments."""
    stated = {
        key: _cited(value, "assumed", CHOICE) if key in fit.assumed else _value(value)
        for key, value in fit.numbers.items()
    }
    lines = _table(heading, first | stated, "fitted", SOURCE)
    lines += [f"# {p.key} = {p.value:.4g}, 95 % interval {p.low:.4g} to {p.high:.4g}" for p in fit.parameters]
    return [*lines, *(f"# {check.what}: {check.statistic}" for check in fit.checks), *(f"# {w}" for w in fit.warnings)]


def _table(heading: str, numbers: dict[str, str], status: str, source: str) -> list[str]:
    """A table whose numbers share a status and a source."""
    lines = ["", heading]
    kind = {key: value for key, value in numbers.items() if key == "kind"}
    rest = {key: value for key, value in numbers.items() if key != "kind"}
    lines += [f"{key} = {value}" for key, value in kind.items()]
    lines += [f"status = {_value(status)}", f"source = {_value(source)}"]
    return lines + [f"{key} = {value}" for key, value in rest.items()]


def _cited(value: Any, status: str, source: str = SOURCE) -> str:
    return f"{{ value = {_value(value)}, status = {_value(status)}, source = {_value(source)} }}"


def _value(value: Any) -> str:
    """A value as TOML writes it; numbers with six digits."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, float):
        text = f"{value:.6g}"
        return text if any(mark in text for mark in ".en") else f"{text}.0"
    return json.dumps(value, ensure_ascii=False)
