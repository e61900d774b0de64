"""What a rule sees: all passes over a segment, with their losses and the error at the output."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from noisylearn.chips.interface import AnyChip
from noisylearn.chips.readings import Plan, Readings
from noisylearn.chips.segments import START, Segment, Trajectory
from noisylearn.ground.errors import UserError
from noisylearn.rules.in_time import InTime

LossFn = Callable[[Tensor], Tensor]
StepLoss = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Trajectories:
    """Where passes stand along a sequence: of every plan that is run, and of the pass that autograd goes through."""

    of: dict[Plan, Trajectory] = field(default_factory=dict)
    digital: Trajectory = START


@dataclass
class Observation:
    """The passes over one segment: readings and losses by plan, each run once.

    Args:
        chip: what they run on.
        segment: inputs of T >= 1 steps; where it starts is kept in `along`.
        loss_fn: losses (rows,) of outputs (rows, ...), rows = steps x batch.
        targets: (steps, batch, ...), where they are known.
        weights: of the losses of every step, (steps, batch); None where every sample counts alike.
        time: how the losses of the steps are credited.
        along: where the passes of earlier segments ended; carried on by this one.
        starts: whether a sequence starts here, so that eligibility traces of an earlier one are void.
        ends: whether it ends here.
        purpose: names the random streams.
    """

    chip: AnyChip
    segment: Segment
    loss_fn: LossFn
    targets: Tensor | None = None
    weights: Tensor | None = None
    time: InTime = field(default_factory=InTime)
    along: Trajectories = field(default_factory=Trajectories)
    starts: bool = True
    ends: bool = True
    purpose: str = "pass"
    losses: Tensor | None = field(default=None, init=False)  # unweighted, (passes, rows), of the plan that ran first
    _seen: dict[Plan, tuple[Readings, Tensor]] = field(default_factory=dict, init=False)

    def of(self, plan: Plan) -> tuple[Readings, Tensor]:
        """Readings of the passes of a plan, and the losses that they are credited with, (passes, rows)."""
        if plan not in self._seen:
            readings = self.chip.passes(self._from(self.along.of.get(plan, START)), plan, self.purpose)
            self.along.of[plan] = readings.end
            losses = self._losses(readings.output)
            if self.weights is not None:
                by_step = losses.unflatten(1, self.weights.shape) * self.weights
                losses = self.time.credited(by_step).flatten(1)
            self._seen[plan] = readings, losses
        return self._seen[plan]

    def of_any(self) -> tuple[Readings, Tensor]:
        """Passes that were run already, or else one single pass."""
        if not self._seen:
            return self.of(Plan(((False,) * len(self.chip.layers),)))
        return next(iter(self._seen.values()))

    def digital(self, on_devices: bool = False) -> tuple[Readings, Tensor]:
        """A pass that autograd can go back through, to the start of the segment, and its weighted losses, (rows,)."""
        readings = self.chip.digital_pass(self._from(self.along.digital), on_devices)
        self.along.digital = readings.end.detached()
        losses = self._losses(readings.output)[0]
        return readings, losses if self.weights is None else losses * self.weights.flatten()

    def error(self, output: Tensor) -> Tensor:
        """dL/dy of every row of outputs y (rows, ...), weighted as the losses are: what a teacher shows."""
        with torch.enable_grad():
            y = output.detach().requires_grad_()
            losses = self.loss_fn(y)
            total = losses.sum() if self.weights is None else (losses * self.weights.flatten()).sum()
            return torch.autograd.grad(total, y)[0]

    def _from(self, start: Trajectory) -> Segment:
        return Segment(self.segment.inputs, self.segment.in_time, start)

    def _losses(self, output: Tensor) -> Tensor:
        losses = sample_losses(self.loss_fn, output)
        if self.losses is None:
            self.losses = losses.detach()
        return losses


def sample_losses(loss_fn: LossFn, outputs: Tensor) -> Tensor:
    """Losses (passes, rows) of outputs (passes, rows, ...).

    Raises:
        UserError: `loss_fn` does not give one loss per sample.
    """
    losses = torch.stack([loss_fn(output) for output in outputs])
    if losses.shape != outputs.shape[:2]:
        raise UserError(
            f"loss_fn gave shape {tuple(losses.shape[1:])} for a batch of {outputs.shape[1]}: a perturbation rule "
            'needs one loss per sample, shape (batch,); for torch losses say reduction="none"'
        )
    return losses
