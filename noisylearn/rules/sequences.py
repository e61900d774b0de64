"""A rule along sequences, segment by segment, with updates of the weights online or at the end."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim import Optimizer

from noisylearn.chips.interface import AnyChip
from noisylearn.chips.segments import Segment
from noisylearn.ground.errors import UserError
from noisylearn.rules.estimate import Estimate
from noisylearn.rules.in_time import InTime
from noisylearn.rules.observation import Observation, StepLoss, Trajectories


@dataclass(frozen=True)
class Sequences:
    """A batch of sequences with their losses, as a rule goes along it.

    Args:
        inputs: (time, batch, ...).
        targets: (time, batch, ...).
        mask: (time, batch), 0 where the loss of a step does not count.
        loss_fn: (outputs, targets) of rows, of one step or several -> loss of every row.
        time: how the rule goes along.
        in_time: whether the network is one in time; otherwise T = 1.
        purpose: names the random streams of the passes.
    """

    inputs: Tensor
    targets: Tensor
    mask: Tensor
    loss_fn: StepLoss
    time: InTime
    in_time: bool = True
    purpose: str = "pass"

    def segments(self, chip: AnyChip) -> Iterator[tuple[slice, Observation]]:
        """What a rule sees at once, one segment after the other, each going on where the one before ended.

        Losses are weighted so that the estimates of segments, which are means over their rows, add up to that of the
        mean over all steps that count; for online updates, of the sum over the samples of a step through the batch.
        """
        length = self.time.segment_length(len(self.inputs))
        norm = self.inputs.shape[1] if self.time.update == "online" else float(self.mask.sum())
        along = Trajectories()
        for start in range(0, len(self.inputs), length):
            part = slice(start, min(start + length, len(self.inputs)))
            mask, targets = self.mask[part], self.targets[part]
            yield part, Observation(
                chip, Segment(self.inputs[part], self.in_time), self._loss_of(targets), targets,
                mask * (mask.numel() / norm), self.time, along, start == 0, part.stop == len(self.inputs), self.purpose,
            )  # fmt: skip

    def counting(self) -> list[bool]:
        """Of every segment, whether any loss in it counts: elsewhere nothing learns."""
        return self._any_of(self.mask != 0)

    def skipping(self) -> list[bool]:
        """Of every segment, whether any loss in it does not count."""
        return self._any_of(self.mask == 0)

    def _any_of(self, flags: Tensor) -> list[bool]:
        by_step = flags.any(1).tolist()
        length = self.time.segment_length(len(by_step))
        return [any(by_step[start : start + length]) for start in range(0, len(by_step), length)]

    def _loss_of(self, targets: Tensor) -> Callable[[Tensor], Tensor]:
        rows = targets.flatten(0, 1)
        return lambda output: self.loss_fn(output, rows)


@dataclass
class Sum:
    """Estimates of several segments, added up."""

    gradients: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    inputs: dict[str, list[Tensor]] = field(default_factory=dict)
    loss: Tensor | None = None

    def add(self, estimate: Estimate, counts: Tensor | None = None) -> None:
        """Add one.

        Args:
            estimate: of a segment.
            counts: (steps, batch), which of its samples count, where not all do: decorrelations learn from these alone.
        """
        for name, gradients in estimate.gradients.items():
            into = self.gradients.setdefault(name, {})
            for key, gradient in gradients.items():
                into[key] = into[key] + gradient if key in into else gradient
        for name, x in estimate.inputs.items():
            self.inputs.setdefault(name, []).append(x if counts is None else x[counts.flatten()])
        self.loss = estimate.loss

    def take(self) -> Estimate:
        """The sum, which is empty from now on."""
        assert self.loss is not None
        inputs = {name: torch.cat(parts) if len(parts) > 1 else parts[0] for name, parts in self.inputs.items()}
        found = Estimate(self.loss, self.gradients, inputs)
        self.gradients, self.inputs, self.loss = {}, {}, None
        return found


def checked(
    inputs: Tensor,
    targets: Tensor,
    mask: Tensor | None,
    loss_fn: StepLoss,
    time: InTime,
    optimizer: Optimizer | None,
    in_time: bool = True,
) -> Sequences:
    """Sequences whose parts fit; the mask is ones where none is given.

    Raises:
        UserError: shapes do not fit, no step counts, or an online update has no optimizer.
    """
    if inputs.dim() < 3 or not inputs.shape[0] or not inputs.shape[1]:
        raise UserError(
            f"inputs of shape {tuple(inputs.shape)}: give sequences as (time, batch, features), at least one step "
            "and one sample"
        )
    if targets.shape[:2] != inputs.shape[:2]:
        raise UserError(
            f"targets of shape {tuple(targets.shape)} for inputs of shape {tuple(inputs.shape)}: both start with "
            "(time, batch)"
        )
    if mask is None:
        mask = inputs.new_ones(inputs.shape[:2])
    if mask.shape != inputs.shape[:2]:
        raise UserError(f"mask of shape {tuple(mask.shape)}: give (time, batch), here {tuple(inputs.shape[:2])}")
    if not bool(((mask >= 0) & (mask < math.inf)).all()):
        raise UserError("mask: negative or not finite; give 0 where a step does not count and 1 where it does")
    if not mask.any():
        raise UserError("mask: no step of any sample counts; give at least one that is not 0")
    if time.update == "online" and optimizer is None:
        raise UserError('update="online" steps the optimizer itself: give run(..., optimizer=...)')
    mask = mask.to(inputs.dtype if inputs.is_floating_point() else torch.get_default_dtype())
    return Sequences(inputs, targets, mask, loss_fn, time, in_time)
