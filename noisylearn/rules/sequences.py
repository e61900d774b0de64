"""Batches of sequences, cut into the segments that a rule observes one after the other."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.optim import Optimizer

from noisylearn.chips.interface import AnyChip
from noisylearn.chips.segments import Segment
from noisylearn.ground.errors import UserError
from noisylearn.rules.estimate import Estimate
from noisylearn.rules.in_time import InTime
from noisylearn.rules.observation import Away, Observation, StepLoss, Trajectories


@dataclass(frozen=True)
class Sequences:
    """A batch of sequences with their losses.

    Args:
        inputs: inputs of every step.
        targets: targets of every step.
        mask: 0 where the loss of a step does not count.
        loss_fn: (outputs, targets) -> loss of every row; rows belong to one step or to several.
        time: how the rule handles sequences.
        in_time: whether the network is one in time; otherwise samples are sequences of one step, time = 1.
        purpose: name of the random streams of the passes.
        draws: which of all draws of the rule are run here; None for all.
        norm: what the sum of the losses is divided by; None for the number of those that count here, or, for online
            updates, of the samples here.
        away: gives the losses of draws that other processes run, where the plans of the rule have all of them.
    """

    inputs: Shaped[Tensor, "time batch ..."]
    targets: Shaped[Tensor, "time batch ..."]
    mask: Float[Tensor, "time batch"]
    loss_fn: StepLoss
    time: InTime
    in_time: bool = True
    purpose: str = "pass"
    draws: tuple[int, ...] | None = None
    norm: float | None = None
    away: Away | None = None

    @property
    def divisor(self) -> float:
        """What the sum of the losses is divided by."""
        if self.norm is not None:
            return self.norm
        return self.inputs.shape[1] if self.time.update == "online" else float(self.mask.sum())

    def rows(self, rows: slice) -> "Sequences":
        """Some rows of the batch; the sum of the estimates of all rows is the estimate for the batch.

        Args:
            rows: which of them.
        """
        inputs, targets, mask = self.inputs[:, rows], self.targets[:, rows], self.mask[:, rows]
        return replace(self, inputs=inputs, targets=targets, mask=mask, norm=self.divisor)

    def segments(self, chip: AnyChip) -> Iterator[tuple[slice, Observation]]:
        """The segments of the sequences, in order. The passes of each continue from the end of the one before.

        The estimate of a segment is a mean over its rows. Weights of the losses make the sum over all segments the
        estimate for the mean over all steps that count. For online updates they make the estimate of a segment that
        for the losses summed over the samples that count and divided by the batch size.

        Args:
            chip: the chip that runs the passes.

        Yields:
            The steps of a segment, and what the rule observes there.
        """
        length = self.time.segment_length(len(self.inputs))
        norm, along = self.divisor, Trajectories()
        for start in range(0, len(self.inputs), length):
            part = slice(start, min(start + length, len(self.inputs)))
            mask, targets = self.mask[part], self.targets[part]
            yield part, Observation(
                chip, Segment(self.inputs[part], self.in_time), self._loss_of(targets), targets,
                mask * (mask.numel() / norm), self.time, along, start == 0, part.stop == len(self.inputs),
                self.purpose, self.draws, self.away,
            )  # fmt: skip

    def counting(self) -> list[bool]:
        """For every segment, whether any loss in it counts; others change no weights."""
        return self._any_of(self.mask != 0)

    def skipping(self) -> list[bool]:
        """For every segment, whether any loss in it does not count."""
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
    """Sum of the estimates of several segments.

    Args:
        gradients: layer -> parameter -> sum of the estimates of dL/dp.
        inputs: layer -> its input in every segment, each (samples, ...).
        loss: mean loss of the last segment.
    """

    gradients: dict[str, dict[str, Float[Tensor, "..."]]] = field(default_factory=dict)
    inputs: dict[str, list[Float[Tensor, "_ ..."]]] = field(default_factory=dict)
    loss: Float[Tensor, ""] | None = None

    def add(self, estimate: Estimate, counts: Bool[Tensor, "steps batch"] | None = None) -> None:
        """Add the estimate of a segment.

        Args:
            estimate: the estimate.
            counts: which samples count, and so change decorrelations; None where all do.
        """
        for name, gradients in estimate.gradients.items():
            into = self.gradients.setdefault(name, {})
            for key, gradient in gradients.items():
                into[key] = into[key] + gradient if key in into else gradient
        for name, x in estimate.inputs.items():
            self.inputs.setdefault(name, []).append(x if counts is None else x[counts.flatten()])
        self.loss = estimate.loss

    def take(self) -> Estimate:
        """Return the sum and start a new one."""
        assert self.loss is not None
        inputs = {name: torch.cat(parts) if len(parts) > 1 else parts[0] for name, parts in self.inputs.items()}
        found = Estimate(self.loss, self.gradients, inputs)
        self.gradients, self.inputs, self.loss = {}, {}, None
        return found


def checked(
    inputs: Shaped[Tensor, "..."],
    targets: Shaped[Tensor, "..."],
    mask: Shaped[Tensor, "..."] | None,
    loss_fn: StepLoss,
    time: InTime,
    optimizer: Optimizer | None,
    in_time: bool = True,
) -> Sequences:
    """Check a batch of sequences.

    Args:
        inputs: (time, batch, features).
        targets: (time, batch, ...).
        mask: (time, batch), 0 where the loss of a step does not count; None where every step counts.
        loss_fn: (outputs, targets) -> loss of every row.
        time: how the rule handles sequences.
        optimizer: needed for online updates.
        in_time: whether the network is one in time.

    Returns:
        The batch, with a mask.

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
