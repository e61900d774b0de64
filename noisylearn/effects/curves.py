"""Curves of relative conductance r = G / g_max in which device papers publish their fits."""

import math

import torch
from pydantic import FiniteFloat, model_validator
from torch import Tensor

from noisylearn.records import Record


class Curve(Record):
    """f(r) = clip(sum of the stated terms, lo, hi), with the terms

    polynomial [c0, c1, ...]:  sum_i c_i r^i
    log [a, b]:                a ln(r) + b
    power [c, p]:              c r^p
    """

    polynomial: tuple[FiniteFloat, ...] = ()
    log: tuple[FiniteFloat, FiniteFloat] | None = None
    power: tuple[FiniteFloat, FiniteFloat] | None = None
    clip: tuple[float, float] = (-math.inf, math.inf)

    @model_validator(mode="after")
    def _states_something(self) -> "Curve":
        if not self.polynomial and self.log is None and self.power is None:
            raise ValueError("a curve needs at least one of polynomial, log, power")
        if not self.clip[0] <= self.clip[1]:
            raise ValueError(f"clip = [lo, hi] needs lo <= hi, found {list(self.clip)}")
        return self

    def __call__(self, r: Tensor) -> Tensor:
        """Value at r >= 0, elementwise; r = 0 counts as 1e-30, so that ln and powers stay finite (and fast)."""
        total: Tensor | None = None
        for c in reversed(self.polynomial):
            total = torch.full_like(r, c) if total is None else total.mul_(r).add_(c)
        if self.log is not None:
            term = _finite_log(r).mul_(self.log[0]).add_(self.log[1])
            total = term if total is None else total.add_(term)
        if self.power is not None:
            term = _finite_log(r).mul_(self.power[1]).exp_().mul_(self.power[0])  # several times faster than pow
            total = term if total is None else total.add_(term)
        assert total is not None
        return total if self.clip == (-math.inf, math.inf) else total.clamp_(*self.clip)


def _finite_log(r: Tensor) -> Tensor:
    return r.clamp(min=1e-30).log_()
