"""A rule that learns on a chip: what it remembers, and its steps."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_map

from noisylearn.chips.interface import AnyChip, Memory
from noisylearn.chips.segments import as_segment
from noisylearn.ground.errors import UserError
from noisylearn.networks.decorrelation import update_decorrelations
from noisylearn.networks.neurons import watch_firing
from noisylearn.profiles import Machine
from noisylearn.rules.estimate import Estimate
from noisylearn.rules.guard import check_losses
from noisylearn.rules.in_time import InTime
from noisylearn.rules.observation import LossFn, Observation, StepLoss
from noisylearn.rules.sequences import Sequences, Sum, checked


class Learns(Protocol):
    """What a learner needs of a rule; see `noisylearn.rules.base.Rule`."""

    def init(self, chip: AnyChip) -> Memory: ...
    def step(self, state: Memory, seen: Observation, layers: list[str]) -> tuple[Estimate, Memory]: ...
    def check(self, profile: Machine) -> None: ...
    def describe(self) -> str: ...
    def in_time(self) -> InTime: ...
    @property
    def on_chip(self) -> bool: ...


@dataclass
class Learner:
    """A rule on a chip, with what it remembers.

    The memory is kept with the chip: two learners of one rule on one chip share it.

    Args:
        rule: the rule.
        chip: the chip that it learns on.
        norms_before: norm of every layer's weights at the start of the training, for the message when a loss diverges.
        where: the step of the training, such as " at step 3 of 10", for the same message.

    Raises:
        UserError: the machine does not show what the rule needs, all parameters are frozen, or torch is in inference
            mode.
    """

    rule: Learns
    chip: AnyChip
    norms_before: Mapping[str, float] = field(default_factory=dict)
    where: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.chip, nn.Module):
            raise UserError("a rule learns on a chip, not on a model: place it with nl.Chip(model, profile)")
        self.rule.check(self.chip.profile)
        if not any(p.requires_grad for layer in self.chip.layers.values() for p in layer.parameters()):
            raise UserError("all weights of the chip are frozen: unfreeze those to learn, layer.requires_grad_(True)")
        if torch.is_inference_mode_enabled():
            raise UserError("torch.inference_mode is on, which keeps no gradients: learn outside of it")

    @property
    def state(self) -> Memory:
        """What the rule remembers, for a checkpoint: a tree of tensors; empty if it remembers nothing."""
        kept = self.chip.memories.get(self.rule.describe()) if self.chip.memories else None
        return self.rule.init(self.chip) if kept is None else kept

    @state.setter
    def state(self, state: Memory) -> None:
        if state:
            device = next(iter(self.chip.layers.values())).weight.device
            self.chip.memories[self.rule.describe()] = tree_map(lambda leaf: _moved(leaf, device), state)
        elif self.chip.memories:
            self.chip.memories.pop(self.rule.describe(), None)

    def estimate(self, x: Shaped[Tensor, "..."], loss_fn: LossFn) -> Float[Tensor, ""]:
        """Run the rule's passes over samples and fill `.grad`; see `noisylearn.rules.base.Rule.estimate`.

        Args:
            x: samples, (batch, ...).
            loss_fn: outputs (batch, ...) -> loss of every sample, (batch,).

        Returns:
            Mean loss of the reference pass.
        """
        if not callable(loss_fn):
            raise UserError(
                "the loss is a function, outputs -> loss of every sample, such as lambda y: loss(y, targets)"
            )
        segment = as_segment(x)
        seen = Observation(self.chip, segment.with_inputs(segment.inputs.detach()), loss_fn)
        found, state = self.rule.step(self.state, seen, list(self.chip.layers))
        check_losses(found.loss, self.chip.layers, self.norms_before, where=self.where)
        self.state = state
        fill_gradients(self.chip, found)
        return found.loss

    def run(
        self,
        inputs: Shaped[Tensor, "..."],
        targets: Shaped[Tensor, "..."],
        loss_fn: StepLoss,
        optimizer: Optimizer | None = None,
        mask: Shaped[Tensor, "..."] | None = None,
        in_time: bool = True,
    ) -> Float[Tensor, " time"]:
        """Run the rule's passes along sequences; see `noisylearn.rules.base.Rule.run`.

        Args:
            inputs: (time, batch, ...).
            targets: (time, batch, ...).
            loss_fn: (outputs, targets) -> loss of every row.
            optimizer: needed for online updates.
            mask: (time, batch), 0 where the loss of a step does not count; None where every step counts.
            in_time: whether the network is one in time; otherwise samples are sequences of one step, time = 1.

        Returns:
            Mean loss of every step, of the reference pass.
        """
        time = self.rule.in_time()
        sequences = checked(inputs.detach(), targets, mask, loss_fn, time, optimizer, in_time)
        with watch_firing(getattr(self.chip, "neurons", {})):
            losses = self._along(sequences, optimizer if time.update == "online" else None)
        return losses.to(sequences.mask.dtype)

    def look(self, *segments: Observation) -> Estimate:
        """Estimate without learning: `.grad`, decorrelations and the memory of the rule stay as they are.

        Args:
            segments: consecutive segments of one batch.

        Returns:
            Sum of the estimates of the segments.
        """
        state, total = self.state, Sum()
        for seen in segments:
            estimate, state = self.rule.step(state, seen, list(self.chip.layers))
            total.add(estimate)
        return total.take()

    def _along(self, sequences: Sequences, online: Optimizer | None) -> Tensor:
        """Losses of every step, (steps,). Fills `.grad`, or steps the optimizer after every segment that counts."""
        mask, total, state, layers = sequences.mask, Sum(), self.state, list(self.chip.layers)
        shares = mask / mask.sum(1, keepdim=True).clamp(min=torch.finfo(mask.dtype).tiny)
        losses = torch.zeros(len(mask), dtype=torch.float64, device=mask.device)
        counting, skipping = sequences.counting(), sequences.skipping()
        for i, (part, seen) in enumerate(sequences.segments(self.chip)):
            estimate, state = self.rule.step(state, seen, layers)
            losses[part] = self._checked_losses(seen, shares[part], part.start)
            if online is None or counting[i]:
                total.add(estimate, mask[part] != 0 if skipping[i] else None)
            if online is not None and counting[i]:
                fill_gradients(self.chip, total.take())
                online.step()
                if self.rule.on_chip:
                    self.chip.program()
        self.state = state
        if online is None:
            fill_gradients(self.chip, total.take())
        return losses

    def _checked_losses(self, seen: Observation, shares: Tensor, start: int) -> Tensor:
        """Mean loss of every step of a segment, (steps,), of the reference pass."""
        assert seen.losses is not None
        losses = (seen.losses[0].reshape(shares.shape) * shares).sum(1)
        if not math.isfinite(float(losses.sum())):
            step = start + int((~torch.isfinite(losses)).long().argmax()) + 1
            at = f" at step {step} of the sequence" if seen.segment.in_time else ""
            check_losses(losses, self.chip.layers, self.norms_before, at, self.where)
        return losses


def fill_gradients(chip: AnyChip, found: Estimate) -> None:
    """Fill `.grad` of the model's parameters, and let its decorrelations take a step.

    Args:
        chip: holds the model.
        found: the estimate.

    Raises:
        UserError: a parameter is computed from others.
    """
    for name, gradients in found.gradients.items():
        for key, gradient in gradients.items():
            parameter = chip.layers[name]._parameters.get(key)
            if parameter is None:
                raise UserError(
                    f"layer '{name}': its {key} is computed from other parameters (pruning, weight normalisation), "
                    "which backprop alone can train; make it a plain parameter first, as "
                    "torch.nn.utils.prune.remove does"
                )
            if parameter.requires_grad:
                parameter.grad = gradient
    update_decorrelations(chip.model, found.inputs)


def _moved(leaf: object, device: torch.device) -> object:
    return leaf.to(device) if isinstance(leaf, Tensor) else leaf
