"""Direct feedback: the output regressed on the activities of each layer, which gives the way back for its error.

    B_lk = argmin_B E || dy_{t+k} - B dx_{l,t} ||^2,   k = 0 ... horizon - 1
    g_{l,t} = f'(a_{l,t}) * sum_k B_lk^T e_{t+k}

with x_l = f(a_l) the activities of a layer, dx and dy the differences of noisy passes, and e = dL/dy. Regression
divides by the covariance of dx: correlated differences do no harm, and noise of later layers only adds variance. y has
to depend on what lies before layer l through x_l alone; where a connection skips the layer, the correlation of dx_l
with what the connection carries enters B_l.
"""

from collections.abc import Collection, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from noisylearn.chips.interface import Memory
from noisylearn.networks.transfer import Transfer, slope
from noisylearn.rules.estimate import Baseline, reference
from noisylearn.rules.feedback.regression import Regression
from noisylearn.rules.feedback.window import Window


def differences(passes: Float[Tensor, "passes rows ..."], baseline: Baseline) -> Float[Tensor, "samples ..."]:
    """Differences of the passes to the reference, the samples of all passes after each other.

    Args:
        passes: of every pass.
        baseline: of the rule. The differences of two passes to their mean are the same but for the sign: one is given.
    """
    compared = passes if baseline == "mean" and len(passes) > 2 else passes[1:]
    return (compared - reference(passes, baseline)).flatten(0, 1)


def shown(
    memory: Memory,
    window: Window,
    transfers: Mapping[str, Transfer],
    layers: Collection[str],
    regression: Regression,
    horizon: int,
    baseline: Baseline,
) -> Memory:
    """Sums over the rows of a window that `learned` learns from, by layer; none before the first whole horizon.

    Args:
        memory: feedback matrices so far, by layer. It is not changed.
        window: its readings.
        transfers: f of every layer.
        layers: those to learn for.
        regression: how.
        horizon: lags.
        baseline: of the rule.
    """
    batch, n_rows = window.segment.batch, window.n_rows
    last = n_rows - (horizon - 1) * batch
    first = max(0, last - window.n_rows_now)
    if last <= first:
        return {}
    output = window.readings.output.flatten(2)
    later = [output[:, first + k * batch : last + k * batch] for k in range(horizon)]
    dy = differences(torch.cat(later, 2) if horizon > 1 else later[0], baseline)
    found = {}
    for name in layers:
        activity = window.readings.layers[name].activity[:, first:last]
        dx = differences(transfers[name](activity), baseline).flatten(1)
        found[name] = regression.sums(memory.get(name, {}), dx, dy)
    return found


def learned(memory: Memory, shown: Memory, regression: Regression) -> Memory:
    """Feedback matrices after a window: for every layer (horizon x outputs, units), lag after lag.

    Args:
        memory: those before, by layer. It is not changed.
        shown: what the window shows, see `shown`.
        regression: how.
    """
    return memory | {name: regression.taught(memory.get(name, {}), sums) for name, sums in shown.items()}


def signals(
    memory: Memory,
    window: Window,
    transfers: Mapping[str, Transfer],
    error: Float[Tensor, "rows ..."],
    baseline: Baseline,
) -> dict[str, Float[Tensor, "rows ..."]]:
    """Estimates g_l of dL/da for all rows of a window, from the errors of its segment.

    Args:
        memory: feedback matrices by layer.
        window: its readings.
        transfers: f of every layer.
        error: e of the segment.
        baseline: of the rule.
    """
    found = {}
    for name, state in memory.items():
        activity = reference(window.readings.layers[name].activity, baseline)
        back = _back(state["coefficients"], error.flatten(1), window)
        found[name] = slope(transfers[name], activity) * back.reshape(activity.shape)
    return found


def _back(coefficients: Tensor, error: Tensor, window: Window) -> Tensor:
    """sum_k B_k^T e_{t+k} for all rows of the window."""
    n_outputs, n_rows, n_now = error.shape[1], window.n_rows, window.n_rows_now
    if len(coefficients) == n_outputs and n_rows == n_now:
        return error @ coefficients
    found = error.new_zeros(n_rows, coefficients.shape[1])
    for k, matrix in enumerate(coefficients.split(n_outputs)):
        end = n_rows - k * window.segment.batch
        start = max(0, end - n_now)
        if end > start:
            found[start:end].addmm_(error[n_now - (end - start) :], matrix)
    return found
