"""How a rule goes through time: which losses a perturbation is credited with, and when the weights change."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from noisylearn.ground.errors import UserError

Credit = Literal["local", "sequence", "reward-to-go", "trace"]
Update = Literal["online", "sequence"]
OF_LATER_LOSSES: tuple[Credit, ...] = ("sequence", "reward-to-go")
UPDATE_HELP = "In time, when weights change: online (every step) or sequence."
FORGOTTEN = 1e-3  # share of an eligibility below which it is dropped


@dataclass(frozen=True)
class InTime:
    """How a rule goes through time.

    Args:
        credit: losses that the perturbation of step t is credited with: "local" l_t; "sequence" the sum over all steps;
            "reward-to-go" sum over s >= t; "trace" sum over s >= t of decay^(s - t) l_s.
        decay: of an eligibility trace, per step.
        update: of the weights: "online", after every step; "sequence", once.
        truncate: of backpropagation, the state is cut off its past every so many steps.
        stepwise: whether the rule has to see every step alone.

    Raises:
        UserError: a value is not allowed, or an online update would need losses of later steps.
    """

    credit: Credit = "local"
    decay: float = 0.9
    update: Update = "sequence"
    truncate: int | None = None
    stepwise: bool = False

    def __post_init__(self) -> None:
        for name, kind in (("credit", Credit), ("update", Update)):
            if getattr(self, name) not in get_args(kind):
                raise UserError(f"{name} '{getattr(self, name)}'; choose {', '.join(get_args(kind))}")
        if not 0 < self.decay < 1:
            raise UserError(f"decay {self.decay}: give a share between 0 and 1, for example 0.9")
        if self.truncate is not None and self.truncate < 1:
            raise UserError(f"truncate {self.truncate}: give at least 1 step")
        if self.update == "online" and self.credit in OF_LATER_LOSSES:
            raise UserError(
                f"credit '{self.credit}' needs the losses of later steps, which an online update does not know: use "
                "credit 'local' or 'trace', or update 'sequence'"
            )

    def segment_length(self, n_steps: int) -> int:
        """How many steps of a sequence of `n_steps` are seen at once."""
        if self.truncate is not None:
            return min(self.truncate, n_steps)
        return 1 if self.stepwise or self.update == "online" else n_steps

    @property
    def leaves_traces(self) -> bool:
        """Whether the losses of a step are credited to perturbations that were seen in the steps before."""
        return self.credit == "trace" and self.update == "online"

    @property
    def trace_window(self) -> int:
        """Steps after which an eligibility is forgotten."""
        return math.ceil(math.log(FORGOTTEN) / math.log(self.decay)) + 1

    def credited(self, losses: Tensor) -> Tensor:
        """What the perturbations of every step are credited with, from losses (passes, steps, batch)."""
        if self.credit == "local":
            return losses
        if self.credit == "sequence":
            return losses.sum(1, keepdim=True).expand_as(losses)
        later, decay = torch.zeros_like(losses[:, 0]), self.decay if self.credit == "trace" else 1.0
        found = torch.empty_like(losses)
        for t in reversed(range(losses.shape[1])):
            later = losses[:, t] + decay * later
            found[:, t] = later
        return found
