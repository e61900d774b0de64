"""Running linear regressions: coefficients B of y = B x that follow a stream of differences."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from noisylearn.chips.interface import Memory
from noisylearn.rules.feedback.filtering import filtered

Method = Literal["auto", "least-squares", "lms"]
How = Literal["least-squares", "lms", "kalman"]
SOLVED_AT_FIRST = 20  # steps after each of which least squares are solved anew
SOLVED_EVERY = 20  # steps after that
# Relative to the mean variance. Sums in float32 are no more exact than the first; with a larger ridge than the second
# coefficients that were lost in noise for a while would not come back.
RIDGES = (1e-6, 10.0)
TRIES = 10  # to factor a matrix, each with a larger ridge
FAST, FAST_AT_FIRST = 1.5, 100  # factor on the rate of LMS in so many first steps; from 2 on it would not converge


@dataclass(frozen=True)
class Regression:
    """How coefficients are found.

    Recursive least squares, for samples x, y as rows, n_in inputs and n_out outputs:

        C <- lambda C + x^T x,   D <- lambda D + y^T x,   N <- lambda N + rows,   B = D (C + rho kappa I)^-1

    with kappa the variance of the noise in y over that of the coefficients: the best ridge for coefficients of unknown
    direction. The last B, which its own ridge kappa' has shrunk, shows both: the evidence is largest where

        kappa = s^2 / v,   s^2 = sum (y - x B^T)^2 / (n_out (N - gamma)),   v = sum B^2 / (n_out gamma)
        gamma = n_in - kappa' tr (C + kappa' I)^-1

    with gamma the number of coefficients per output that the rows determine. What shrinking takes away is in it: v is
    (sum B^2 / n_out + s^2 tr (C + kappa' I)^-1) / n_in, the size of what is likely rather than of what is likeliest,
    where kappa' = kappa. While there are fewer than 2 n_in rows noise and coefficients are taken for equal in effect,
    kappa = tr C / N. Or normalised LMS, whose cost and memory grow with n_in rather than its square:

        B <- B + mu (y - x B^T)^T x / sum x^2

    Where B is moved meanwhile by changes that are known, their sum S is followed, and the rest is found: LMS goes on
    from the moved B, and least squares are of V = B - (S - S_0) with S_0 the sum at the start,

        y - x (S - S_0)^T = x V^T

    Where every one of these changes has an error that stays, a Kalman filter knows which coefficients they made
    uncertain; see `feedback.filtering`.

    Args:
        method: "least-squares", "lms", or "auto": up to `largest` inputs a Kalman filter where errors of changes stay,
            least squares elsewhere.
        forgetting: lambda, per step.
        ridge: rho, a factor on the ridge.
        rate: mu, larger in the first steps.
        largest: inputs up to which "auto" takes no LMS.
        errors_stay: whether changes that are followed have errors that add up, as on pulsed devices.

    Source:
        MacKay, Neural Computation 4:415 (1992), "Bayesian interpolation": the evidence, and gamma.
    """

    method: Method = "auto"
    forgetting: float = 0.98
    ridge: float = 1.0
    rate: float = 1.0
    largest: int = 1024
    errors_stay: bool = False

    def updated(
        self,
        state: Memory,
        x: Float[Tensor, "rows n_in"],
        y: Float[Tensor, "rows n_out"],
        sent: Float[Tensor, "n_out n_in"] | None = None,
    ) -> Memory:
        """Learn from some rows.

        Args:
            state: "coefficients" B and what they are found from; empty at the start. It is not changed.
            x: differences of the inputs.
            y: differences of the outputs.
            sent: S, to follow it; None to do without.

        Returns:
            The new state.
        """
        return self.taught(state, self.sums(state, x, y, sent), sent)

    def sums(
        self,
        state: Memory,
        x: Float[Tensor, "rows n_in"],
        y: Float[Tensor, "rows n_out"],
        sent: Float[Tensor, "n_out n_in"] | None = None,
    ) -> Memory:
        """Sums over some rows, which `taught` learns from; those over several sets of rows are added before.

        Args:
            state: as for `updated`.
            x: differences of the inputs.
            y: differences of the outputs.
            sent: S, to follow it; None to do without.
        """
        method = self.method_of(x.shape[1], state)
        if method == "kalman":
            return {"x": x, "y": y}  # of one place: the filter takes rows one after the other
        if method == "lms":
            before = followed(state, sent)["coefficients"] if state else x.new_zeros(y.shape[1], x.shape[1])
            return lms_sums(torch.addmm(y, x, before.T, alpha=-1).T @ x, x)
        if sent is not None and state:
            y = torch.addmm(y, x, (sent - state["start"]).T, alpha=-1)
        return {"covariance": x.T @ x, "cross": y.T @ x, "power": y.square().sum(), "n_rows": y.new_tensor(len(y))}

    def taught(self, state: Memory, sums: Memory, sent: Float[Tensor, "n_out ..."] | None = None) -> Memory:
        """Learn from the rows that sums are of; see `updated`.

        Args:
            state: as for `updated`.
            sums: over the rows, of `sums` or `lms_sums`.
            sent: S, to follow it; None to do without.
        """
        state = followed(state, sent)
        if "x" in sums:
            found = filtered(state, sums["x"], sums["y"], sent, self.forgetting)
        else:
            found = self._lms(state, sums) if "missed" in sums else self._least_squares(state, sums, sent)
        return found | left(found["coefficients"], sent)

    def method_of(self, n_in: int, state: Memory | None = None) -> How:
        """How coefficients of this many inputs are found: as they were before, if any were.

        Args:
            n_in: the number.
            state: as for `updated`.
        """
        if state:
            return "kalman" if "variance" in state else "least-squares" if "covariance" in state else "lms"
        if self.method != "auto":
            return self.method
        if n_in > self.largest:
            return "lms"
        return "kalman" if self.errors_stay else "least-squares"

    def _least_squares(self, state: Memory, now: Memory, sent: Tensor | None) -> Memory:
        step, kept, moved = int(state["step"]) if state else 0, {}, now["power"].new_zeros(())
        if sent is not None:
            kept["start"] = state["start"] if state else sent.clone()
            moved = sent - kept["start"]
        sums = {key: torch.add(part, state[key], alpha=self.forgetting) if state else part for key, part in now.items()}
        found, n_determined = state.get("coefficients"), state.get("n_determined")
        if n_determined is None or step < SOLVED_AT_FIRST or step % SOLVED_EVERY == 0:
            ridge = self.ridge * best_ridge(sums, None if found is None else found - moved, n_determined)
            rest, n_determined = solved(sums["covariance"], sums["cross"], ridge)
            found = rest + moved
        return {"coefficients": found, "n_determined": n_determined, **kept, **sums, "step": torch.tensor(step + 1)}

    def _lms(self, state: Memory, now: Memory) -> Memory:
        step = int(state["step"]) if state else 0
        before = state["coefficients"] if state else torch.zeros_like(now["missed"])
        rate = FAST * self.rate if step < FAST_AT_FIRST else self.rate
        squares = now["squares"] + (now["squares"] == 0)  # there is nothing to learn where they are 0
        return {"coefficients": before + rate / squares * now["missed"], "step": torch.tensor(step + 1)}


def followed(state: Memory, sent: Float[Tensor, "n_out ..."] | None) -> Memory:
    """What was learned, moved by the changes that were sent since.

    Args:
        state: of a regression, empty at the start. It is not changed.
        sent: S, or None where it is not followed.
    """
    return state if sent is None or not state else {**state, "coefficients": state["left"] + sent}


def left(coefficients: Float[Tensor, "n_out ..."], sent: Float[Tensor, "n_out ..."] | None) -> Memory:
    """B - S, what stays as it is while S is followed.

    Args:
        coefficients: B.
        sent: S, or None where it is not followed.
    """
    return {} if sent is None else {"left": coefficients - sent}


def lms_sums(missed: Float[Tensor, "n_out ..."], x: Float[Tensor, "..."], n_uses: float = 1.0) -> Memory:
    """Sums that LMS learns from.

    Args:
        missed: (y - x B^T)^T x.
        x: differences of the inputs.
        n_uses: products that each of them enters.
    """
    return {"missed": missed, "squares": x.square().sum() * n_uses}


def best_ridge(
    sums: Memory, coefficients: Float[Tensor, "n_out n_in"] | None, n_determined: Float[Tensor, ""] | None
) -> float:
    """kappa, the variance of the noise in y over that of the coefficients.

    Args:
        sums: "covariance", "cross", "power" (the sum of y^2) and "n_rows" over the rows that count.
        coefficients: as they were last found.
        n_determined: gamma of them.
    """
    covariance, n_rows = sums["covariance"], float(sums["n_rows"])
    n_in, trace = len(covariance), float(covariance.diagonal().sum())
    if coefficients is None or not n_determined or n_rows < 2 * n_in or not bool(coefficients.any()):
        return trace / n_rows
    left = float(sums["power"] + ((coefficients @ covariance - 2 * sums["cross"]) * coefficients).sum())
    noise = max(left, 0.0) / (n_rows - float(n_determined))
    size = float(coefficients.double().square().sum()) / float(n_determined)
    smallest, largest = (bound * trace / n_in for bound in RIDGES)
    return min(max(noise / size, smallest), largest) if size else largest


def solved(
    covariance: Float[Tensor, "n_in n_in"], cross: Float[Tensor, "n_out n_in"], ridge: float
) -> tuple[Float[Tensor, "n_out n_in"], Float[Tensor, ""]]:
    """B = D (C + ridge I)^-1, and gamma = n_in - ridge tr (C + ridge I)^-1, in float64.

    Args:
        covariance: C.
        cross: D.
        ridge: above 0, unless C is 0; ten times larger as often as rounding in C calls for it.
    """
    normal, ridge = covariance.double(), ridge or 1.0
    identity = torch.eye(len(normal), dtype=normal.dtype, device=normal.device)
    for _ in range(TRIES):
        factor, failed = torch.linalg.cholesky_ex(normal + ridge * identity)
        if not failed:
            break
        ridge *= 10
    n_determined = (len(normal) - ridge * torch.cholesky_inverse(factor).trace()).clamp(min=0)
    return torch.cholesky_solve(cross.double().T, factor).T.to(cross), n_determined.to(cross)
