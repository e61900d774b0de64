"""Range of the axis of scores, alike in pictures and on pages."""

import math
from collections.abc import Mapping, Sequence

LOWER_IS_BETTER = ("mse",)  # which has a logarithmic axis


def limits(metric: str, curves: Sequence[Sequence[float]], baselines: Mapping[str, float]) -> tuple[float, float]:
    """Ends of an axis that shows what is reached, and not how far away a run began or diverged.

    For accuracies: from just below the lowest final value, or the best baseline, to just above the highest value. For
    errors, on a logarithmic axis: around all values of the curves.

    Args:
        metric: its name.
        curves: medians along the epochs, one for every row.
        baselines: metric of trivial predictors by name.

    Returns:
        The lower and the upper end.
    """
    if metric in LOWER_IS_BETTER:
        values = [value for curve in curves for value in curve if 0 < value < math.inf] or [1.0]
        return min(values) / 2, max(values) * 2
    reached = [curve[-1] for curve in curves if len(curve)] + sorted(baselines.values())[-1:]
    reached = [value for value in reached if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(reached), max(reached + [value for curve in curves for value in curve if math.isfinite(value)])
    margin = max(0.08 * (high - low), 0.005)
    return max(low - margin, 0.0), min(high + margin, 1.0)
