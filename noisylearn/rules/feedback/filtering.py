"""Kalman filters of coefficients that changes of their own move, each with an error: weights on pulsed devices.

A change that was sent to a weight is known, what the device made of it is not: the step is longer or shorter, next to
a bound there is none, a dead device does nothing. Weights to which nothing was sent stay as they are. So the variance
of what is known of each coefficient, P, rises by what was sent to it, and falls with what is seen. For the
coefficients b of one output, rows x with y = x b + noise of variance r, and known changes c since the last rows:

    b <- b + c,   P <- min(P, mean b^2) + q (|c| + epsilon mean |c|)
    S = x diag(P) x^T + r I,   b <- b + diag(P) x^T S^-1 (y - x b),   P <- P - diag(diag(P) x^T S^-1 x diag(P))

Coefficients of one output are taken for independent before each few rows, so that memory grows with the coefficients
and not with their square. r and q, the variance of the error per change, are the most likely ones, by expectation
maximisation along the stream; at first the error of a change is taken to be as large as the change. The small epsilon
is for changes that no one sent: leaks, and refreshes of worn devices. Where no changes are known, P / lambda takes the
place of P in the first line.

Kalman, "A new approach to linear filtering and prediction problems", Journal of Basic Engineering 82, 1960.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from noisylearn.chips.interface import Memory

ROWS_AT_ONCE = 32
NOT_SENT = 0.03  # epsilon
NOISE_AT_FIRST = 0.1  # share of the variance of y
LEAST_NOISE = 1e-5  # of r, relative to the mean of S: rounding in float32


def filtered(
    state: Memory,
    x: Float[Tensor, "rows n_in"],
    y: Float[Tensor, "rows n_out"],
    sent: Float[Tensor, "n_out n_in"] | None,
    forgetting: float,
) -> Memory:
    """Learn from some rows.

    Args:
        state: "coefficients", moved by the changes since the last rows, and what is known of them; empty at the start.
            It is not changed.
        x: inputs.
        y: outputs.
        sent: sum of all changes so far; None where none are known.
        forgetting: lambda, factor per step by which r and q forget.

    Returns:
        The new state.
    """
    before = state or _start(x, y)
    coefficients, change = before["coefficients"], _changed(before, sent)
    at_first = _ratio(change.square().sum(), change.sum())
    rate = torch.where(before["changed"] > 0, _ratio(before["errors"], before["changed"]), at_first)
    size = coefficients.square().mean()
    largest = torch.where(size > 0, size, _ratio(y.square().mean(), x.square().sum(1).mean()))
    forgets = forgetting if sent is None else 1.0
    variance = torch.minimum(before["variance"] / forgets, largest) + rate * change
    found, left, noise, missed = coefficients, variance, before["noise"] / before["n_noise"], y.new_zeros(())
    for rows, outputs in zip(x.split(ROWS_AT_ONCE), y.split(ROWS_AT_ONCE), strict=True):
        found, left, squares = _after(found, left, rows, outputs, noise)
        missed = missed + squares
    share = _ratio(rate * change, variance)  # of what was unknown, that the last changes made
    errors = (share * (found - coefficients)).square() + rate * change - share.square() * (variance - left)
    kept = torch.where(change.any(), forgetting, 1.0)
    learned = {
        "coefficients": found,
        "variance": left,
        "errors": kept * before["errors"] + errors.sum(),
        "changed": kept * before["changed"] + change.sum(),
        "noise": forgetting * before["noise"] + missed,
        "n_noise": forgetting * before["n_noise"] + y.numel(),
        "step": before["step"] + 1,
    }
    return learned if sent is None else learned | {"sent": sent.clone()}


def _start(x: Tensor, y: Tensor) -> Memory:
    """Nothing is known of the coefficients."""
    zero, unknown = x.new_zeros(()), x.new_zeros(y.shape[1], x.shape[1])
    return {
        "coefficients": unknown,
        "variance": unknown + torch.inf,
        "errors": zero,
        "changed": zero,
        "noise": NOISE_AT_FIRST * y.square().sum(),
        "n_noise": zero + y.numel(),
        "step": torch.tensor(0),
    }


def _changed(before: Memory, sent: Tensor | None) -> Tensor:
    """|c| + epsilon mean |c| since the last rows."""
    if sent is None or "sent" not in before:
        return torch.zeros_like(before["coefficients"])
    change = (sent - before["sent"]).abs()
    return change + NOT_SENT * change.mean()


def _after(found: Tensor, variance: Tensor, x: Tensor, y: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Coefficients and their variance after a few rows, and the expected sum of squares of their noise.

    S is made, and used, by way of the products of all pairs of rows: two products of matrices for all outputs together.
    """
    n_rows = len(x)
    pairs = (x.unsqueeze(1) * x).flatten(0, 1)
    of_rows = (variance @ pairs.T).unflatten(1, (n_rows, n_rows)).double()
    diagonal = of_rows.diagonal(dim1=1, dim2=2)
    noise = torch.maximum(noise, LEAST_NOISE * diagonal.mean().to(noise))
    noise = noise + (noise == 0)
    diagonal += noise
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(of_rows)).to(x)
    weights = (inverse @ (y - x @ found.T).T.unsqueeze(2)).squeeze(2)
    found = found + variance * (weights @ x)
    known = variance.square() * (inverse.flatten(1) @ pairs)
    unknown = noise * inverse.diagonal(dim1=1, dim2=2).sum()  # of all rows, the share that the coefficients leave
    squares = (y - x @ found.T).square().sum() + noise * (y.numel() - unknown)
    return found, (variance - known).clamp(min=0), squares


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Part / whole, 0 where both are."""
    return part / (whole + (whole == 0))
