"""Ridge regression: the linear baseline that a trained network has to beat."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64
from torch import Tensor

CHUNK_ROWS = 5_000
PENALTIES = tuple(10.0**k for k in range(-7, 1))  # relative to the mean squared input


def ridge_predictions(
    train_inputs: Float[Tensor, " n *features"],
    train_targets: Float[Tensor, "n n_outputs"],
    inputs: Float[Tensor, " m *features"],
    penalties: Sequence[float] = PENALTIES,
) -> Float[Tensor, "m n_outputs"]:
    """Fit a linear model with a penalty on its weights, and predict with it.

        y = W x + b,   W and b minimise  sum over rows of |y - target|^2  +  penalty s |W|^2
        s = sum over rows of x^2, averaged over features

    The penalty is the one with the smallest squared error on the last fifth of the training rows after a fit to the
    rest; the final fit uses all training rows. All is computed in float64.

    Args:
        train_inputs: x of the training rows; dimensions after the first are flattened.
        train_targets: targets of the training rows.
        inputs: x of the rows to predict.
        penalties: candidates for `penalty`.

    Returns:
        Predictions, in the dtype of `inputs`.
    """
    n_fit = len(train_inputs) - len(train_inputs) // 5
    fit = _moments(train_inputs[:n_fit], train_targets[:n_fit])
    check = _moments(train_inputs[n_fit:], train_targets[n_fit:])
    penalty = min(penalties, key=lambda candidate: _error(_solve(*fit, candidate), *check))
    weights = _solve(fit[0] + check[0], fit[1] + check[1], penalty)
    return torch.cat([_augmented(rows) @ weights for rows in inputs.split(CHUNK_ROWS)]).to(inputs.dtype)


def _augmented(inputs: Float[Tensor, "n ..."]) -> Float64[Tensor, "n n_augmented"]:
    """Rows [x, 1], float64, so that the last weight is the bias."""
    flat = inputs.flatten(1).double()
    return torch.cat([flat, flat.new_ones(len(flat), 1)], dim=1)


def _moments(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over rows of x x^T and x y^T with x augmented, in chunks that bound the memory."""
    features = inputs[0].numel() + 1
    xx = torch.zeros(features, features, dtype=torch.float64)
    xy = torch.zeros(features, targets.shape[1], dtype=torch.float64)
    for x_rows, y_rows in zip(inputs.split(CHUNK_ROWS), targets.split(CHUNK_ROWS), strict=True):
        x = _augmented(x_rows)
        xx.addmm_(x.T, x)
        xy.addmm_(x.T, y_rows.double())
    return xx, xy


def _solve(xx: Tensor, xy: Tensor, penalty: float) -> Tensor:
    """Weights (features + 1, outputs) of the penalised normal equations."""
    diagonal = xx.diagonal()[:-1]
    ridge = torch.full_like(xx.diagonal(), penalty * float(diagonal.mean()))
    ridge[-1] = 0.0
    if not bool(diagonal.any()):  # inputs that are all zero: nothing but the bias is determined
        ridge[:-1] = 1.0
    return torch.linalg.solve(xx + ridge.diag(), xy)


def _error(weights: Tensor, xx: Tensor, xy: Tensor) -> float:
    """Summed squared error of `weights` on rows with these moments, up to the constant sum of y^2."""
    return float((weights * (xx @ weights - 2.0 * xy)).sum())
