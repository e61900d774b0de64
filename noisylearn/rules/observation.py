"""What a rule observes: all passes over a segment, with their losses and the error at the output."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from noisylearn.chips.interface import AnyChip, Memory
from noisylearn.chips.readings import Plan, Readings
from noisylearn.chips.segments import START, Segment, Trajectory
from noisylearn.ground.errors import UserError
from noisylearn.rules.checks import check_depends
from noisylearn.rules.in_time import InTime

STILL = InTime()  # of single samples, which have no time
LossFn = Callable[[Tensor], Tensor]
StepLoss = Callable[[Tensor, Tensor], Tensor]


class Away(Protocol):
    """Passes of other processes, whose losses are sent and whose noise is drawn here; see `noisylearn.rules.seeds`."""

    def run_here(self, plan: Plan) -> Plan: ...
    def of_all(self, losses: Tensor, own: Plan, plan: Plan) -> Tensor: ...
    def noise_of_all(
        self, chip: AnyChip, readings: Readings, segment: Segment, own: Plan, plan: Plan, purpose: str
    ) -> Readings: ...


@dataclass
class Trajectories:
    """State of the network and its noise between two segments of a sequence.

    Args:
        of: plan -> trajectory of its passes.
        digital: trajectory of the pass that autograd goes through.
        copies: trajectory of a digital pass over several copies of the batch.
    """

    of: dict[Plan, Trajectory] = field(default_factory=dict)
    digital: Trajectory = START
    copies: Trajectory = START


@dataclass
class Observation:
    """The passes over one segment: readings and losses by plan, each run once.

    Args:
        chip: the chip that runs them.
        segment: inputs of T >= 1 steps. Its start is taken from `along`.
        loss_fn: outputs (rows, ...) -> losses (rows,), with rows = steps x batch.
        targets: targets of every step, where they are known.
        weights: weights of the losses; None where every sample counts alike.
        time: how losses are credited to the perturbations of the steps.
        along: trajectories at the end of the segment before; those at the end of this one replace them.
        starts: whether a sequence starts here, so that eligibility traces of the one before are reset.
        ends: whether it ends here.
        purpose: name of the random streams.
        draws: which of all draws those of a plan are, where other processes run the rest; None where it has them all.
        away: where plans have all draws, and other processes run some of them: tells which, and gives their losses.
        shown: what the rule is to learn from of this segment and of those in other places, see `Rule.shows`; None where
            this is the only one.
    """

    chip: AnyChip
    segment: Segment
    loss_fn: LossFn
    targets: Shaped[Tensor, "steps batch ..."] | None = None
    weights: Float[Tensor, "steps batch"] | None = None
    time: InTime = STILL
    along: Trajectories = field(default_factory=Trajectories)
    starts: bool = True
    ends: bool = True
    purpose: str = "pass"
    draws: tuple[int, ...] | None = None
    away: "Away | None" = None
    shown: Memory | None = None
    losses: Float[Tensor, "passes rows"] | None = field(default=None, init=False)  # unweighted, of the first plan run
    started: dict[Plan, Trajectory] = field(default_factory=dict, init=False)  # of the plans run, before the segment
    _seen: dict[Plan, tuple[Readings, Tensor]] = field(default_factory=dict, init=False)

    def of(self, plan: Plan) -> tuple[Readings, Float[Tensor, "passes rows"]]:
        """Run the passes of a plan, unless they were run already.

        Args:
            plan: which passes to run.

        Returns:
            Readings of the passes, and the losses credited to their perturbations.
        """
        if plan not in self._seen:
            self.started[plan] = self.along.of.get(plan, START)
            segment, own = self._from(self.started[plan]), self._run_here(plan)
            readings = self.chip.passes(segment, own, self.purpose)
            self.along.of[plan] = readings.end
            losses = self._losses(readings.output)
            if self.away is not None:
                losses = self.away.of_all(losses, own, plan)
                readings = self.away.noise_of_all(self.chip, readings, segment, own, plan, self.purpose)
            if self.weights is not None:
                by_step = losses.unflatten(1, self.weights.shape) * self.weights
                losses = self.time.credited(by_step).flatten(1)
            self._seen[plan] = readings, losses
        return self._seen[plan]

    def _run_here(self, plan: Plan) -> Plan:
        """The passes of a plan that this process runs."""
        if self.away is not None:
            return self.away.run_here(plan)
        return plan if self.draws is None else plan.of_draws(self.draws)

    def of_any(self) -> tuple[Readings, Float[Tensor, "passes rows"]]:
        """As `of`, for passes that were run already, or else for one pass."""
        if not self._seen:
            return self.of(Plan(((False,) * len(self.chip.layers),)))
        return next(iter(self._seen.values()))

    def digital(self, on_devices: bool = False) -> tuple[Readings, Float[Tensor, " rows"]]:
        """Run a pass that autograd can go back through, to the start of the segment.

        Args:
            on_devices: whether its weights are read from the devices; otherwise they are the digital ones.

        Returns:
            Readings of the pass, and its weighted losses.
        """
        readings = self.chip.digital_pass(self._from(self.along.digital), on_devices)
        self.along.digital = readings.end.detached()
        losses = self._losses(readings.output)[0]
        return readings, losses if self.weights is None else losses * self.weights.flatten()

    def digital_copies(self, copies: int) -> tuple[Readings, Float[Tensor, "copies rows"]]:
        """Run a digital pass over several copies of the batch side by side.

        Args:
            copies: their number.

        Returns:
            Readings of the pass, whose rows are (steps x copies x batch), and the weighted losses of every copy.
        """
        inputs = self.segment.inputs.repeat(1, copies, *[1] * (self.segment.inputs.dim() - 2))
        readings = self.chip.digital_pass(Segment(inputs, self.segment.in_time, self.along.copies))
        self.along.copies = readings.end.detached()
        by_copy = readings.output[0].unflatten(0, (-1, copies, self.segment.batch)).transpose(0, 1).flatten(1, 2)
        losses = self._losses(by_copy)
        return readings, losses if self.weights is None else losses * self.weights.flatten()

    def error(self, output: Float[Tensor, "rows ..."]) -> Float[Tensor, "rows ..."]:
        """Error dL/dy at the output, as a teacher shows it, with the weights of the losses.

        Args:
            output: outputs y of the network.

        Raises:
            UserError: the loss does not depend on the output.
        """
        with torch.enable_grad():
            y = output.detach().requires_grad_()
            losses = self.loss_fn(y)
            check_depends(losses)
            total = losses.sum() if self.weights is None else (losses * self.weights.flatten()).sum()
            return torch.autograd.grad(total, y)[0]

    def _from(self, start: Trajectory) -> Segment:
        if start is self.segment.start:
            return self.segment
        return Segment(self.segment.inputs, self.segment.in_time, start)

    def _losses(self, output: Tensor) -> Tensor:
        losses = sample_losses(self.loss_fn, output)
        if self.losses is None:
            self.losses = losses.detach()
        return losses


def sample_losses(loss_fn: LossFn, outputs: Float[Tensor, "passes rows ..."]) -> Float[Tensor, "passes rows"]:
    """Losses of every pass and sample.

    Args:
        loss_fn: outputs (rows, ...) -> losses (rows,).
        outputs: of every pass.

    Raises:
        UserError: `loss_fn` does not give one loss per sample.
    """
    losses = torch.stack([loss_fn(output) for output in outputs.unbind()])
    if losses.shape != outputs.shape[:2]:
        raise UserError(
            f"loss_fn gave shape {tuple(losses.shape[1:])} for a batch of {outputs.shape[1]}: a perturbation rule "
            'needs one loss per sample, shape (batch,); for torch losses say reduction="none"'
        )
    return losses
