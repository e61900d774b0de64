"""A hardware profile from measurements of its devices."""

import datetime
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from noisylearn.fitting.drift import fit_drift
from noisylearn.fitting.files import read_measurements
from noisylearn.fitting.measurements import EXPERIMENTS, Measurements, measurements
from noisylearn.fitting.programming import fit_programming
from noisylearn.fitting.pulsed import fit_pulsed
from noisylearn.fitting.reading import fit_reading
from noisylearn.fitting.results import Array, EffectFit, Panel
from noisylearn.fitting.staircase import fit_staircase, rounded
from noisylearn.fitting.text import profile_text
from noisylearn.ground.errors import UserError, unknown_name
from noisylearn.ground.table import Table
from noisylearn.profiles import HardwareProfile, parse_profile

ORDER = (
    "levels",
    "programming-noise",
    "stuck-devices",
    "power-law-drift",
    "relaxation",
    "random-telegraph-noise",
    "one-over-f-read-noise",
    "read-noise",
)  # fmt: skip (in which effects act)
PASS_INTERVAL_US = 1.0
SPANS = 0.99  # of the largest target: the smallest conductance is below
ALIKE = (
    "no noise differs between two passes: rules that perturb have nothing to learn from until some is stated, such as "
    "that of the read-out: --output-noise 0.06, in Python output_noise=0.06 (see docs/measurements.md)"
)


class Source(NamedTuple):
    """Where measurements come from.

    Args:
        where: names them in messages.
        text: names them in the profile, for good.
        stem: for the name of the profile.
    """

    where: str
    text: str
    stem: str


@dataclass(frozen=True)
class FittedProfile:
    """A profile that was fitted to measurements, and how well.

    Args:
        profile: as `load_profile` reads it.
        text: of its TOML file, with the intervals as comments.
        effects: what was found of each effect, also of those that were refused.
    """

    profile: HardwareProfile
    text: str
    effects: tuple[EffectFit, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the data show that no effect holds, and which effects were refused, one line each."""
        refused = [f"{fit.name}: not fitted: {fit.refused}" for fit in self.effects if fit.refused]
        alike = () if self.profile.is_noisy else (ALIKE,)
        return (*(f"{fit.name}: {line}" for fit in self.effects for line in fit.warnings), *refused, *alike)

    @property
    def panels(self) -> tuple[Panel, ...]:
        """What `plot` draws."""
        return tuple(panel for fit in self.effects for panel in fit.panels)

    def parameters(self) -> Table:
        """Every fitted number with its 95 % interval."""
        rows = [
            [fit.name, p.key, f"{p.value:.4g}", f"{p.low:.4g}", f"{p.high:.4g}"]
            for fit in self.effects
            for p in fit.parameters
        ]
        return Table("fitted numbers", ["effect", "number", "value", "95 % from", "to"], rows, numbers=3)

    def checks(self) -> Table:
        """Every test of what the fits suppose."""
        rows = [
            [fit.name, check.what, check.statistic, "" if np.isnan(check.p) else f"{check.p:.2g}"]
            for fit in self.effects
            for check in fit.checks
        ]
        return Table("goodness of fit", ["effect", "what", "statistic", "p"], rows, numbers=1)

    def plot(self, file: str | Path) -> None:
        """Draw the data with the fits, and the residuals.

        Args:
            file: image to write; its suffix decides the format.

        Raises:
            UserError: the file cannot be written.
        """
        from noisylearn.fitting.picture import fit_picture

        fit_picture(self.profile.name, self.panels, Path(file))


def fit_profile(
    data: str | Path | Mapping[str, Any] | Measurements,
    *,
    name: str | None = None,
    g_max_us: float | None = None,
    t_read_ns: float | None = None,
    zero_us: float | None = None,
    full_scale_us: float | None = None,
    output_noise: float | None = None,
    experiments: tuple[str, ...] = tuple(EXPERIMENTS),
) -> FittedProfile:
    """Fit a hardware profile to measurements.

    Args:
        data: CSV file, data frame or other mapping of columns, as docs/measurements.md describes them, or measurements.
        name: of the profile; from the file's name if None.
        g_max_us: largest conductance, in microsiemens; if None, the largest target or else mean conductance.
        t_read_ns: duration of a read, in nanoseconds; fitted where 1/f noise is found if None.
        zero_us: conductance of a pulsed device at w = 0, in microsiemens; the middle of its range if None.
        full_scale_us: conductance that w = 1 adds to that, in microsiemens; half the range if None.
        output_noise: noise of the read-out, which is not measured: standard deviation in units of one full-scale
            product. None for none.
        experiments: which to use, of those in the data.

    Returns:
        The profile, its numbers with intervals, warnings and plots.

    Raises:
        UserError: the data cannot be read, or are too few for any effect; the message names what is missing.
    """
    made, source = _read(data)
    for one in experiments:
        if one not in EXPERIMENTS:
            raise unknown_name("experiment", one, EXPERIMENTS)
    name = re.sub(r"[^a-z0-9.]+", "-", (name or source.stem).lower()).strip("-.") or "my-device"
    _check_positive(g_max_us=g_max_us, t_read_ns=t_read_ns, full_scale_us=full_scale_us, output_noise=output_noise)
    used = [one for one in made.experiments if one in experiments]
    if not used:
        raise UserError(f"{source.where}: no experiment to fit; the data have {', '.join(made.experiments)}")
    if "pulse" in used and len(used) > 1:
        raise UserError(
            f"{source.where}: pulse trains and {', '.join(one for one in used if one != 'pulse')}: a profile has "
            "pulsed devices or devices written to a conductance; choose with --experiments pulse, or the others"
        )
    if used == ["pulse"]:
        return _fit_pulsed(made, name, source, zero_us, full_scale_us, output_noise)
    return _fit_written(made, used, name, source, g_max_us, t_read_ns, output_noise)


def _read(data: Any) -> tuple[Measurements, Source]:
    """Measurements, and where they come from."""
    if isinstance(data, Measurements):
        return data, Source("measurements", "measurements", "my-device")
    if isinstance(data, str | Path):
        file = Path(data)
        made, digest = read_measurements(file)
        date = datetime.date.fromtimestamp(file.stat().st_mtime)
        return made, Source(f"measurements {file}", f"{file.name} of {date.isoformat()}, SHA-256 {digest}", file.stem)
    return measurements(data), Source("columns of a data frame", "columns of a data frame", "my-device")


def _check_positive(**numbers: float | None) -> None:
    """Check that what is stated is positive."""
    for key, value in numbers.items():
        if value is not None and not 0 < value < 1e12:
            raise UserError(f"{key} = {value:g}: give a positive number, or leave it out")


def _fit_written(
    made: Measurements,
    used: list[str],
    name: str,
    source: Source,
    g_max_us: float | None,
    t_read_ns: float | None,
    output_noise: float | None,
) -> FittedProfile:
    """Devices that are written to a conductance."""
    low, high = _range(made.where(np.isin(made.experiment, used)))
    g_max = g_max_us or high
    if not g_max > 0:
        raise UserError(f"{source.where}: no conductance is above zero; check the column, or the signs of its numbers")
    fits: list[EffectFit] = []
    variance: Callable[[Array], Array] = np.zeros_like
    t0_s: float | None = None
    if "read" in used:
        with _refusing("read-noise", fits):
            found, variance = fit_reading(made.of("read"), g_max, t_read_ns)
            fits += found
    if "programming" in used:
        with _refusing("programming-noise", fits):
            fits += _programming(made.of("programming"), low, g_max, variance)
    if "drift" in used:
        with _refusing("power-law-drift", fits):
            drift, t0_s = fit_drift(made.of("drift"), g_max)
            fits.append(drift)
    fits.sort(key=lambda fit: ORDER.index(fit.name))
    timing = {"t0_s": t0_s or 1.0, "pass_interval_us": _pass_interval_us(fits)}
    mapping = {"g_max_us": g_max} | ({"g_min_us": low} if low > 0 else {})
    return _assembled(name, fits, source, mapping, timing, output_noise)


@contextmanager
def _refusing(name: str, fits: list[EffectFit]) -> Iterator[None]:
    """In this block, what the data are too poor for becomes a refusal of this effect; the others are fitted."""
    try:
        yield
    except UserError as error:
        fits.append(EffectFit(name, refused=str(error)))


def _programming(made: Measurements, low: float, g_max: float, variance: Any) -> list[EffectFit]:
    """Levels, programming noise about them, and stuck devices."""
    staircase = fit_staircase(made, low, g_max)
    if staircase is None:
        return fit_programming(made, g_max, variance)
    made = replace(made, target_us=rounded(made.target_us, staircase.numbers["count"], low, g_max))
    return [staircase, *fit_programming(made, g_max, variance)]


def _range(made: Measurements) -> tuple[float, float]:
    """Smallest and largest conductance to which devices are written."""
    target = made.target_us[np.isfinite(made.target_us)]
    if len(target):
        low, high = max(float(target.min()), 0.0), float(target.max())
        return (low if low < SPANS * high else 0.0), high
    return 0.0, float(np.quantile(made.conductance_us, 0.99))


def _pass_interval_us(fits: list[EffectFit]) -> float:
    """Time between two passes: a microsecond, or the duration of a read if that is longer."""
    reads_ns = [fit.numbers["t_read_ns"] for fit in fits if "t_read_ns" in fit.numbers]
    return max([PASS_INTERVAL_US, *(1e-3 * read * (1 + 1e-6) for read in reads_ns)])


def _fit_pulsed(
    made: Measurements,
    name: str,
    source: Source,
    zero_us: float | None,
    full_scale_us: float | None,
    output_noise: float | None,
) -> FittedProfile:
    """Devices that are written by pulses."""
    fit, scale = fit_pulsed(made.of("pulse"), zero_us, full_scale_us)
    source = source._replace(text=f"{source.text}; w = 0 at {scale[0]:.6g} uS, w = 1 at {scale[0] + scale[1]:.6g} uS")
    timing = {"t0_s": 1.0, "pass_interval_us": PASS_INTERVAL_US}
    return _assembled(name, [fit], source, None, timing, output_noise)


def _assembled(
    name: str,
    fits: list[EffectFit],
    source: Source,
    mapping: dict[str, float] | None,
    timing: dict[str, float],
    output_noise: float | None,
) -> FittedProfile:
    """The profile of all effects that were fitted."""
    done = [fit for fit in fits if not fit.refused]
    if not done:
        raise UserError(
            f"{source.where}: too little for any effect: " + "; ".join(f"{fit.name}: {fit.refused}" for fit in fits)
        )
    text = profile_text(name, done, source.text, datetime.date.today(), mapping, timing, output_noise)
    return FittedProfile(parse_profile(text, f"fitted to {source.text}"), text, tuple(fits))
