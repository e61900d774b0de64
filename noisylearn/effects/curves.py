"""Curves of relative conductance r = G / g_max in which device papers publish their fits."""

import math
from typing import Literal

import torch
from pydantic import FiniteFloat, model_validator
from torch import Tensor

from noisylearn.ground.records import Record


class Curve(Record):
    """A function of the relative conductance r = G / g_max: the sum of the stated terms, clipped.

        f(r) = clip(sum of terms, lo, hi)

    Args:
        polynomial: [c0, c1, ...], the term sum_i c_i r^i.
        log: [a, b], the term a ln(r) + b.
        power: [c, p], the term c r^p.
        saturating: [a, b], the term a (1 - exp(-r / b)).
        clip: [lo, hi].
        argument: "r", or "us" for a fit against the conductance in microsiemens.
        below: another curve for arguments below its `limit`.
    """

    polynomial: tuple[FiniteFloat, ...] = ()
    log: tuple[FiniteFloat, FiniteFloat] | None = None
    power: tuple[FiniteFloat, FiniteFloat] | None = None
    saturating: tuple[FiniteFloat, FiniteFloat] | None = None
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
        return self

    def __call__(self, r: Tensor) -> Tensor:
        """Value of the curve, elementwise.

        Args:
            r: argument >= 0; 0 counts as 1e-30, so that logarithm and powers stay finite (and fast).

        Returns:
            f(r), of the same shape.
        """
        total: Tensor | None = None
        for c in reversed(self.polynomial):
            total = torch.full_like(r, c) if total is None else total.mul_(r).add_(c)
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
        return self(r * reference_g_max_us if self.argument == "us" else r)

    @property
    def is_constant(self) -> bool:
        """Whether the curve is one number."""
        return len(self.polynomial) == 1 and not (self.log or self.power or self.saturating or self.below)

    def check_not_negative(self, name: str, reference_g_max_us: float) -> None:
        """Check that the curve is finite and >= 0 between r = 0 and 1.

        Args:
            name: of the key, for the message.
            reference_g_max_us: g_max of the fit, in microsiemens.

        Raises:
            ValueError: it is not.
        """
        r = torch.linspace(0, 1, 1001, dtype=torch.float64)
        value = self.at(r, reference_g_max_us)
        lowest = int(value.argmin())
        if not torch.isfinite(value).all() or value[lowest] < 0:
            raise ValueError(
                f"{name} is {float(value[lowest]):.3g} at r = {float(r[lowest]):.3g}: it cannot be negative; "
                "check the coefficients and their units, or add clip = [0.0, ...]"
            )


class Piece(Curve):
    """A curve that holds for arguments below a limit.

    Args:
        limit: in units of the argument.
    """

    limit: FiniteFloat


Curve.model_rebuild()


def _finite_log(r: Tensor) -> Tensor:
    return r.clamp(min=1e-30).log_()
