"""Curves of relative conductance r = G / g_max in which device papers publish their fits."""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from noisylearn.ground.records import Record

LARGEST = 1e9
Coefficient = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]
FARTHEST = 2.0  # relative conductance up to which a curve is followed: fits of devices reach 1


class Curve(Record):
    """A function of the relative conductance r = G / g_max: the sum of the stated terms, clipped.

        f(r) = clip(sum of terms, lo, hi)

    Fits are of devices up to g_max: conductances above 2 g_max, which noise can make, count as 2 g_max.

    Args:
        polynomial: [c0, c1, ...], the term sum_i c_i r^i.
        log: [a, b], the term a ln(r) + b.
        power: [c, p], the term c r^p.
        saturating: [a, b], the term a (1 - exp(-r / b)).
        clip: [lo, hi].
        argument: "r", or "us" for a fit against the conductance in microsiemens.
        below: another curve for arguments below its `limit`.
    """

    polynomial: tuple[Coefficient, ...] = Field(default=(), max_length=16)
    log: tuple[Coefficient, Coefficient] | None = None
    power: tuple[Coefficient, Coefficient] | None = None
    saturating: tuple[Coefficient, Coefficient] | None = None
    clip: tuple[float, float] = (-math.inf, math.inf)
    argument: Literal["r", "us"] = "r"
    below: "Piece | None" = None

    @model_validator(mode="after")
    def _states_something(self) -> "Curve":
        """Check that there is a term, and that its coefficients make sense."""
        if not self.polynomial and self.log is None and self.power is None and self.saturating is None:
            raise ValueError("a curve needs at least one of polynomial, log, power, saturating")
        if self.saturating is not None and self.saturating[1] <= 0:
            raise ValueError(f"saturating = [a, b] needs b > 0, found {list(self.saturating)}")
        if not self.clip[0] <= self.clip[1]:
            raise ValueError(f"clip = [lo, hi] needs lo <= hi, found {list(self.clip)}")
        if any(math.isfinite(end) and abs(end) > LARGEST for end in self.clip):
            raise ValueError(f"clip = {list(self.clip)}: ends beyond {LARGEST:g} are none; leave the clip out")
        return self

    def __call__(self, r: Tensor) -> Tensor:
        """Value of the curve, elementwise.

        Args:
            r: argument >= 0; 0 counts as 1e-30, so that logarithm and powers stay finite (and fast).

        Returns:
            f(r), of the same shape.
        """
        total: Tensor | None = None
        if self.polynomial:
            *lower, highest = self.polynomial
            total = torch.full_like(r, highest) if not lower else torch.mul(r, highest).add_(lower.pop())
            for c in reversed(lower):
                total.mul_(r).add_(c)
        if self.log is not None:
            term = _finite_log(r).mul_(self.log[0]).add_(self.log[1])
            total = term if total is None else total.add_(term)
        if self.power is not None:
            term = _finite_log(r).mul_(self.power[1]).exp_().mul_(self.power[0])  # several times faster than pow
            total = term if total is None else total.add_(term)
        if self.saturating is not None:
            term = torch.expm1(r / -self.saturating[1]).mul_(-self.saturating[0])
            total = term if total is None else total.add_(term)
        assert total is not None
        total = total if self.clip == (-math.inf, math.inf) else total.clamp_(*self.clip)
        return total if self.below is None else torch.where(r < self.below.limit, self.below(r), total)

    def at(self, r: Tensor, reference_g_max_us: float) -> Tensor:
        """Value of a fit that was made at some g_max.

        Args:
            r: relative conductance.
            reference_g_max_us: g_max of the fit, in microsiemens.

        Returns:
            f at r, or at the conductance in microsiemens where that is the argument.
        """
        r = r.clamp(max=FARTHEST)
        return self(r.mul_(reference_g_max_us) if self.argument == "us" else r)

    @property
    def is_constant(self) -> bool:
        """Whether the curve is one number."""
        return len(self.polynomial) == 1 and not (self.log or self.power or self.saturating or self.below)

    def check(self, name: str, low: float, high: float, reference_g_max_us: float) -> None:
        """Check that the curve lies within limits between r = 0 and 1, and within ten times those as far as it is used.

        Args:
            name: of the key, for the message.
            low: smallest value that makes sense.
            high: largest value that makes sense.
            reference_g_max_us: g_max of the fit, in microsiemens.

        Raises:
            ValueError: it does not.
        """
        r = torch.linspace(0, FARTHEST, 2001)
        value = self.at(r, reference_g_max_us)
        near = (value >= low) & (value <= high)
        fits = torch.where(r > 1, value.abs() <= 10 * max(high, -low), near)
        if not fits.all():
            at = int(fits.int().argmin())
            need = "it cannot be negative, nor" if low == 0 else f"it cannot be below {low:g}, nor"
            raise ValueError(
                f"{name} is {float(value[at]):.3g} at r = {float(r[at]):.3g}: {need} above {high:g}; check the "
                "coefficients and their units, or add a clip"
            )


class Piece(Curve):
    """A curve that holds for arguments below a limit.

    Args:
        limit: in units of the argument.
    """

    limit: Coefficient


Curve.model_rebuild()


def _finite_log(r: Tensor) -> Tensor:
    return r.clamp(min=1e-30).log_()
