"""Rules along sequences: which losses are credited to a perturbation, and when weights change."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from noisylearn.ground.errors import UserError

Credit = Literal["local", "sequence", "reward-to-go", "trace"]
Update = Literal["online", "sequence"]
OF_LATER_LOSSES: tuple[Credit, ...] = ("sequence", "reward-to-go")
CREDIT_HELP = "For sequences, losses credited to a perturbation: local, sequence, reward-to-go or trace."
DECAY_HELP = "Decay of the eligibility per step, with --credit trace."
UPDATE_HELP = "For sequences, when weights change: online (after every step) or sequence (at its end)."
OF_SEQUENCES = "goes with tasks that have sequences"  # said of options that have no effect elsewhere
FORGOTTEN = 1e-3  # an eligibility that has decayed below this share is dropped


@dataclass(frozen=True)
class InTime:
    """How a rule handles sequences.

    Args:
        credit: losses that are credited to the perturbation of step t: "local", l_t; "sequence", the sum over all
            steps; "reward-to-go", the sum over s >= t; "trace", the sum over s >= t of decay^(s - t) l_s.
        decay: of an eligibility trace, per step.
        update: when weights change: "online", after every step; "sequence", once at its end.
        truncate: for backpropagation, number of steps after which the state is detached from its past; None for never.
        stepwise: whether the rule must observe every step by itself.

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
        if self.truncate is not None and (not isinstance(self.truncate, int) or self.truncate < 1):
            raise UserError(f"truncate {self.truncate}: give a whole number of steps, at least 1")
        if self.update == "online" and self.credit in OF_LATER_LOSSES:
            raise UserError(
                f"credit '{self.credit}' needs the losses of later steps, which an online update does not know: use "
                "credit 'local' or 'trace', or update 'sequence'"
            )

    def segment_length(self, n_steps: int) -> int:
        """Number of steps in one segment, which a rule observes together.

        Args:
            n_steps: length of the sequence.
        """
        if self.truncate is not None:
            return min(self.truncate, n_steps)
        return 1 if self.stepwise or self.update == "online" else n_steps

    @property
    def trace_window(self) -> int:
        """Number of steps after which an eligibility is dropped."""
        return math.ceil(math.log(FORGOTTEN) / math.log(self.decay)) + 1

    def credited(self, losses: Float[Tensor, "passes steps batch"]) -> Float[Tensor, "passes steps batch"]:
        """Losses credited to the perturbations of every step.

        Args:
            losses: of every step by itself.
        """
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


def updates_in_words(update: Update) -> str:
    """When weights change along sequences, in words for a table."""
    return f"updates {'every step' if update == 'online' else 'by sequence'}"
