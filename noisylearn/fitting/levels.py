"""Estimates at levels of the conductance, and curves of r = G / g_max through them.

    chi2(form) = sum over levels of ((f(r_i) - v_i) / error_i)^2, in logarithms where v is positive

Of the forms that a profile may state, the one with the smallest chi2 + 4 per coefficient is chosen: a coefficient more
has to be worth two standard errors. Beyond the measured conductances a curve keeps to the values that it has within.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import chdtrc

from noisylearn.fitting.results import Array, Check, Panel, Parameter, Series
from noisylearn.ground.errors import UserError

MOST_LEVELS, BINS = 24, 8  # so many different conductances are levels; more are put into bins
MOST_COEFFICIENTS = 5  # of a polynomial
PRICE = 4.0  # of a coefficient, in units of chi2
UNLIKELY = 1e-3  # below this probability a supposition is given up
SMALLEST = 1e-12


@dataclass(frozen=True)
class Levels:
    """An estimate at every level of the conductance.

    Args:
        r: relative conductance of the levels.
        value: estimates.
        error: their standard errors.
        n: devices, or writes of them, behind each.
    """

    r: Array
    value: Array
    error: Array
    n: Array

    def parameters(self, key: str, g_max_us: float, positive: bool) -> tuple[Parameter, ...]:
        """The estimates as parameters; those too small to be told from zero are left out.

        Args:
            key: of the quantity.
            g_max_us: conductance at r = 1, in microsiemens.
            positive: whether the quantity cannot be negative.
        """
        make = Parameter.positive if positive else Parameter.normal
        return tuple(
            make(f"{key} at {r * g_max_us:.4g} uS", float(value), float(error))
            for r, value, error in zip(self.r, self.value, self.error, strict=True)
            if math.isfinite(error)
        )


def grouped(conductance_us: Array, least: int) -> list[Array]:
    """Indices of entries of much the same conductance: of one target each, or in bins of equal number.

    Args:
        conductance_us: of every entry.
        least: entries that a group needs; smaller groups are left out.
    """
    if not len(conductance_us):
        return []
    different, place = np.unique(np.round(conductance_us, 9), return_inverse=True)
    if len(different) > MOST_LEVELS:
        edges = np.quantile(conductance_us, np.linspace(0, 1, BINS + 1)[1:-1])
        place = np.searchsorted(edges, conductance_us, side="right")
    groups = [np.flatnonzero(place == one) for one in range(place.max() + 1)]
    return [group for group in groups if len(group) >= least]


@dataclass(frozen=True)
class CurveFit:
    """A curve through levels.

    Args:
        form: "polynomial", "power", "log" or "saturating".
        coefficients: of it, as a profile states them.
        errors: their standard errors.
        check: of the curve against the levels.
        clip: smallest and largest value within the measured conductances.
    """

    form: str
    coefficients: Array
    errors: Array
    check: Check
    clip: tuple[float, float]

    def __call__(self, r: Array) -> Array:
        """The curve at relative conductances."""
        return np.clip(_FORMS[self.form](np.asarray(r, float), self.coefficients), *self.clip)

    def table(self) -> dict[str, Any]:
        """The curve as a profile states it."""
        stated: dict[str, Any] = {self.form: [float(c) for c in self.coefficients]}
        if len(self.coefficients) > 1:
            stated["clip"] = [float(end) for end in self.clip]
        return stated

    def parameters(self, key: str) -> tuple[Parameter, ...]:
        """The coefficients as parameters."""
        pairs = zip(self.coefficients, self.errors, strict=True)
        return tuple(Parameter.normal(f"{key}.{self.form}[{i}]", float(c), float(e)) for i, (c, e) in enumerate(pairs))


def _log(r: Array) -> Array:
    return np.log(np.maximum(r, 1e-30))


_FORMS: dict[str, Callable[[Array, Array], Array]] = {
    "polynomial": lambda r, c: sum(one * r**i for i, one in enumerate(c)) + 0 * r,
    "power": lambda r, c: c[0] * np.exp(np.clip(c[1] * _log(r), -700, 100)),
    "log": lambda r, c: c[0] * _log(r) + c[1],
    "saturating": lambda r, c: -c[0] * np.expm1(np.clip(-r / max(abs(c[1]), 1e-6), -700, 100)),
}


def fit_curve(levels: Levels, what: str, positive: bool) -> CurveFit:
    """The curve through levels whose form is worth its coefficients.

    Args:
        levels: estimates.
        what: names the quantity in the check.
        positive: whether it cannot be negative; levels at 0 are then left out.

    Raises:
        UserError: no level has an estimate with an error.
    """
    keep = np.isfinite(levels.r + levels.value + levels.error) & (levels.error > 0)
    keep &= (levels.value > 0) | (not positive)
    if not keep.any():
        raise UserError(
            f"no level of the conductance gives a clear {what}: measure more devices at each, with more digits"
        )
    r, value, error = levels.r[keep], levels.value[keep], levels.error[keep]
    tries = [(form, start) for form, start in _starts(r, value) if len(start) < max(len(r), 2)]
    fits = [_fitted(form, start, r, value, error, positive) for form, start in tries]
    chi2, form, c, errors = min(fits, key=lambda fit: fit[0] + PRICE * len(fit[2]))
    left = len(r) - len(c)
    p = float(chdtrc(left, chi2)) if left else math.nan
    check = Check(f"{what}: {form}, coefficients: {len(c)}, against the levels", f"chi2 = {chi2:.3g} of {left}", p)
    within = _FORMS[form](np.linspace(r.min(), r.max(), 201), c)
    low = max(float(within.min()), 0.0) if positive else float(within.min())
    return CurveFit(form, c, errors, check, (low, float(within.max())))


def _starts(r: Array, value: Array) -> list[tuple[str, Array]]:
    """Forms with coefficients to start from."""
    starts: list[tuple[str, Array]] = []
    for degree in range(min(MOST_COEFFICIENTS, len(np.unique(r)))):
        starts.append(("polynomial", np.polynomial.polynomial.polyfit(r, value, degree)))
    if len(r) > 1 and r.min() > 1e-6:
        slope, at_one = np.polyfit(np.log(r), value, 1)
        starts.append(("log", np.array([slope, at_one])))
        if (value > 0).all():
            power, log_c = np.polyfit(np.log(r), np.log(value), 1)
            starts.append(("power", np.array([math.exp(log_c), power])))
    if len(r) > 2:
        starts += [("saturating", np.array([value[np.argmax(r)], b * r.max()])) for b in (0.03, 0.1, 0.3, 1.0)]
    return starts


def _fitted(
    form: str, start: Array, r: Array, value: Array, error: Array, positive: bool
) -> tuple[float, str, Array, Array]:
    """chi2, form, coefficients and their errors."""
    from scipy.optimize import least_squares

    def residuals(c: Array) -> Array:
        f = _FORMS[form](r, c)
        if not positive:
            return (f - value) / error
        return (np.log(np.maximum(f, SMALLEST)) - np.log(value)) * value / error

    scale = np.maximum(np.abs(start), 1e-3 * np.abs(start).max() + SMALLEST)
    found = least_squares(residuals, start, x_scale=scale)
    errors = np.sqrt(np.diag(np.linalg.pinv(found.jac.T @ found.jac)))
    best = np.abs(found.x) if form == "saturating" and found.x[1] < 0 else found.x
    return float(2 * found.cost), form, best, errors


def curve_panels(
    levels: Levels, curve: CurveFit, what: str, g_max_us: float, others: tuple[tuple[str, CurveFit], ...] = ()
) -> tuple[Panel, Panel]:
    """The estimates at levels with the curve, and how far they lie from it in standard errors.

    Args:
        levels: estimates.
        curve: through them.
        what: label of the axis, with its unit.
        g_max_us: conductance at r = 1, in microsiemens.
        others: names and curves to draw beside it.
    """
    r = np.linspace(levels.r.min(), levels.r.max(), 200)
    lines = [Series(f"{curve.form}, coefficients: {len(curve.coefficients)}", r * g_max_us, curve(r), style="line")]
    lines += [Series(name, r * g_max_us, one(r), style="dashed") for name, one in others]
    g = levels.r * g_max_us
    points = Series("levels, 95 %", g, levels.value, 1.96 * levels.error)
    away = (levels.value - curve(levels.r)) / np.where(levels.error > 0, levels.error, np.inf)
    residuals = Series("", g, away, np.full(len(g), 1.96))
    axis = "conductance (uS)"
    return (
        Panel(what.split(" (")[0], axis, what, (points, *lines)),
        Panel(
            f"residuals: {what.split(' (')[0]}",
            axis,
            "standard errors",
            (residuals, Series("", g, 0 * g, style="dashed")),
        ),
    )
