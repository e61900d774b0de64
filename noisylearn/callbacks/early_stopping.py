"""Early stopping: a run ends when its held-out metric gets no better."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from noisylearn.callbacks.base import Callback, Run
from noisylearn.ground.errors import UserError, unknown_name


@dataclass(frozen=True)
class EarlyStopping(Callback):
    """Ends a run after so many epochs without a better value of a metric.

    It looks at the held-out part: hold out a validation part, so that the end is not chosen by the test part. The run
    keeps the weights of its last epoch.

    Args:
        patience: epochs without a better value, at least 1.
        metric: name in the history of the run; None for the held-out metric of the task. Any other is better the lower
            it is.
        min_delta: by how much a value is to be better.

    Raises:
        UserError: a value is out of range.
    """

    patience: int
    metric: str | None = None
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise UserError(f"patience {self.patience}: give at least 1 epoch")
        if not 0 <= self.min_delta < math.inf:
            raise UserError(f"min_delta {self.min_delta}: give 0 or a positive number")

    def start(self, run: Run) -> None:
        """Stop a run that was interrupted where it would have been stopped."""
        if run.epoch:
            self.epoch(run)

    def epoch(self, run: Run) -> None:
        """Stop the run if its last epochs were no better than those before."""
        name = self.metric or run.metric
        if name not in run.history:
            raise unknown_name("metric of early stopping", name, run.history)
        sign = -1.0 if name == run.metric and run.higher_is_better else 1.0
        best, since = math.inf, 0
        for value in run.history[name]:
            better = sign * value < best - self.min_delta
            best, since = (sign * value, 0) if better else (best, since + 1)
        if since >= self.patience:
            run.stop(f"{name} was no better for {since} epochs than {sign * best:.4g}")

    def settings(self) -> dict[str, Any]:
        """Patience, metric and least improvement."""
        return {"early_stopping": asdict(self)}
