"""Running linear regressions: coefficients B of y = B x that follow a stream of differences."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from noisylearn.chips.interface import Memory

Method = Literal["auto", "least-squares", "lms"]
SOLVED_AT_FIRST = 20  # steps after each of which least squares are solved anew
SOLVED_EVERY = 20  # steps after that
FAST_AT_FIRST = 100  # steps in which LMS takes twice the rate


@dataclass(frozen=True)
class Regression:
    """How coefficients are found.

    Recursive least squares, for samples x, y as rows and n inputs:

        C <- lambda C + x^T x,   D <- lambda D + y^T x,   N <- lambda N + rows,   B = D (C + rho (tr C / N) I)^-1

    or normalised LMS, whose cost and memory grow with n rather than n^2:

        B <- B + mu (y - x B^T)^T x / sum x^2

    Args:
        method: "least-squares", "lms", or "auto": least squares up to `largest` inputs.
        forgetting: lambda, per step.
        ridge: rho, the expected ratio of noise to signal in y, over the N rows that count: where it is true, B is the
            best estimate for coefficients of unknown direction.
        rate: mu, twice that in the first steps.
        largest: inputs up to which "auto" takes least squares.
    """

    method: Method = "auto"
    forgetting: float = 0.98
    ridge: float = 0.1
    rate: float = 1.0
    largest: int = 1024

    def updated(self, state: Memory, x: Float[Tensor, "rows n_in"], y: Float[Tensor, "rows n_out"]) -> Memory:
        """Learn from some rows.

        Args:
            state: "coefficients" B and what they are found from; empty at the start. It is not changed.
            x: differences of the inputs.
            y: differences of the outputs.

        Returns:
            The new state.
        """
        if self.method == "lms" or (self.method == "auto" and x.shape[1] > self.largest):
            return self._lms(state, x, y)
        return self._least_squares(state, x, y)

    def _least_squares(self, state: Memory, x: Tensor, y: Tensor) -> Memory:
        step = int(state["step"]) if state else 0
        n_rows = torch.tensor(float(len(x)))
        if state:
            covariance = torch.addmm(state["covariance"], x.T, x, beta=self.forgetting)
            cross = torch.addmm(state["cross"], y.T, x, beta=self.forgetting)
            n_rows = n_rows + self.forgetting * state["n_rows"]
        else:
            covariance, cross = x.T @ x, y.T @ x
        found = state.get("coefficients")
        if found is None or step < SOLVED_AT_FIRST or step % SOLVED_EVERY == 0:
            found = solved(covariance, cross, self.ridge * x.shape[1] / float(n_rows))
        sums = {"covariance": covariance, "cross": cross, "n_rows": n_rows}
        return {"coefficients": found, **sums, "step": torch.tensor(step + 1)}

    def _lms(self, state: Memory, x: Tensor, y: Tensor) -> Memory:
        step = int(state["step"]) if state else 0
        before = state["coefficients"] if state else x.new_zeros(y.shape[1], x.shape[1])
        rate = lms_rate(self.rate, step) / power(x)
        found = torch.addmm(before, torch.addmm(y, x, before.T, alpha=-1).T * rate, x)
        return {"coefficients": found, "step": torch.tensor(step + 1)}


def lms_rate(rate: float, step: int) -> float:
    """mu of LMS, twice the rate in the first steps."""
    return 2 * rate if step < FAST_AT_FIRST else rate


def power(x: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    """Sum of squares to divide by: 1 in place of 0, where there is nothing to learn from."""
    total = x.square().sum()
    return total + (total == 0)


def solved(
    covariance: Float[Tensor, "n_in n_in"], cross: Float[Tensor, "n_out n_in"], ridge: float
) -> Float[Tensor, "n_out n_in"]:
    """B = D (C + rho (tr C / n) I)^-1.

    Args:
        covariance: C.
        cross: D.
        ridge: rho.
    """
    mean = covariance.diagonal().mean()
    mean = mean + (mean == 0)
    normal = (covariance / mean).double()
    normal.diagonal().add_(ridge)
    factor, _ = torch.linalg.cholesky_ex(normal)
    return torch.cholesky_solve((cross / mean).double().T, factor).T.to(cross)
