"""A rule that learns on a chip: what it remembers, and its steps."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, Protocol

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_map

from noisylearn.chips.interface import AnyChip, Memory
from noisylearn.chips.segments import as_segment
from noisylearn.distributed import Ranks
from noisylearn.ground.errors import UserError
from noisylearn.networks.decorrelation import decorrelations, update_decorrelations
from noisylearn.networks.neurons import watch_firing
from noisylearn.profiles import Machine
from noisylearn.rules.estimate import Estimate
from noisylearn.rules.guard import check_losses
from noisylearn.rules.in_time import InTime
from noisylearn.rules.observation import LossFn, Observation, StepLoss
from noisylearn.rules.sequences import Sequences, Sum, checked
from noisylearn.rules.sharing import Divisible, Send, Share, share_of, show_each_other, summed

LOSS_FN = "a function, outputs -> loss of every sample, such as lambda y: loss(y, targets)"
STEP_LOSS = "a function, (outputs, targets) -> loss of every row, such as lambda y, t: (y - t).square().mean(1)"


class Learns(Divisible, Protocol):
    """What a learner needs of a rule; see `noisylearn.rules.base.Rule`."""

    def of_draws(self, n_draws: int) -> "Learns": ...
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
        ranks: the processes that share every estimate; all of them make the same chip and give it the same batches.
        parts: of a batch, each with random streams of its own, which the processes share among them beside the draws.
        send: what they send each other, see `noisylearn.rules.sharing.share_of`.

    Raises:
        UserError: the machine does not show what the rule needs, all parameters are frozen, torch is in inference
            mode, or the estimates cannot be shared like this.
    """

    rule: Learns
    chip: AnyChip
    norms_before: Mapping[str, float] = field(default_factory=dict)
    where: str = ""
    ranks: Ranks = field(default_factory=Ranks)
    parts: int = 1
    send: Send = "gradients"

    def __post_init__(self) -> None:
        if isinstance(self.chip, nn.Module):
            raise UserError("a rule learns on a chip, not on a model: place it with nl.Chip(model, profile)")
        self.rule.check(self.chip.profile)
        self._share, self._here = Share(), self.rule  # what this process computes, and the rule with its draws
        if self.ranks.count > 1 or self.parts != 1 or self.send != "gradients":
            self._share = share_of(self.rule, self.chip.profile, self.ranks, self.parts, self.send)
            if self._share.away is None:
                self._here = self.rule.of_draws(len(self._share.draws))
        self._adds = self.ranks.count > 1 and self._share.away is None  # estimates of several processes
        parameters = (layer._parameters.values() for layer in self.chip.layers.values())  # .parameters() walks modules
        if not any(p is not None and p.requires_grad for of_layer in parameters for p in of_layer):
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

        Raises:
            UserError: the loss takes other arguments, or the batch has parts, whose targets are not known here.
        """
        _check_is_function(loss_fn, LOSS_FN)
        if self.parts > 1:
            raise UserError(f"{self.parts} parts of a batch need its targets: use Learner.run(..., in_time=False)")
        segment = as_segment(x)
        inputs = segment.with_inputs(segment.inputs.detach())
        seen = Observation(self.chip, inputs, loss_fn, draws=self._share.numbers, away=self._share.away)
        try:
            found, state = self._here.step(self.state, seen, list(self.chip.layers))
        except TypeError:
            _check_takes(loss_fn, ["the outputs alone"], LOSS_FN)
            raise
        if self._adds:
            found, _ = summed(self.ranks, self._share, found, found.loss.reshape(1), self.chip.model)
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

        Raises:
            UserError: the loss takes other arguments, or the shapes do not fit.
        """
        _check_is_function(loss_fn, STEP_LOSS)
        time = self.rule.in_time()
        sequences = checked(inputs.detach(), targets, mask, loss_fn, time, optimizer, in_time)
        try:
            with watch_firing(getattr(self.chip, "neurons", {})):
                losses = self._along(sequences, optimizer if time.update == "online" else None)
        except TypeError:
            _check_takes(loss_fn, ["outputs", "targets"], STEP_LOSS)
            raise
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
        parts = self._share.of(sequences)
        total, states, layers, sent = Sum(), [self.state for _ in parts], list(self.chip.layers), 0
        counted = sequences.mask.sum(1, keepdim=True).clamp(min=torch.finfo(sequences.mask.dtype).tiny)
        losses = torch.zeros(len(counted), dtype=torch.float64, device=counted.device)
        counting, skipping = sequences.counting(), sequences.skipping()
        for i, segments in enumerate(zip(*(part.segments(self.chip) for part in parts), strict=True)):
            if self._share.n_parts > 1:
                show_each_other(self.ranks, self._here, states, [seen for _, seen in segments])
            for j, (steps, seen) in enumerate(segments):
                mask = parts[j].mask[steps]
                estimate, states[j] = self._here.step(states[j], seen, layers)
                losses[steps] += self._losses_here(seen, mask / counted[steps], steps.start)
                if online is None or counting[i]:
                    total.add(estimate, mask != 0 if skipping[i] else None)
            if online is not None and counting[i]:
                self._fill(total.take(), losses, slice(sent, steps.stop), sequences.in_time)
                sent = steps.stop
                online.step()
                if self.rule.on_chip:
                    self.chip.program()
        self.state = states[0]
        if online is None:
            self._fill(total.take(), losses, slice(0, len(losses)), sequences.in_time)
        elif sent < len(losses) and self._adds:
            losses[sent:] = self.ranks.sum([losses[sent:]], self._share.weight)[0]
        return losses

    def _fill(self, found: Estimate, losses: Tensor, steps: slice, in_time: bool) -> None:
        """Fill `.grad` from the estimate of all processes, and put the losses of these steps over all of them in place.

        Raises:
            RunawayError: a loss is not finite, on any process.
        """
        if self._adds:
            found, losses[steps] = summed(self.ranks, self._share, found, losses[steps], self.chip.model)
            self._check(losses[steps], steps.start, in_time)
        fill_gradients(self.chip, found)

    def _losses_here(self, seen: Observation, shares: Tensor, start: int) -> Tensor:
        """Mean loss of every step of a segment, (steps,), of the reference pass; of the rows that are computed here."""
        assert seen.losses is not None
        losses = (seen.losses[0].reshape(shares.shape) * shares).sum(1)
        if not self._adds:  # otherwise all stop together, when their losses are added
            self._check(losses, start, seen.segment.in_time)
        return losses

    def _check(self, losses: Tensor, start: int, in_time: bool) -> None:
        """Raises RunawayError where a loss is not finite."""
        if not math.isfinite(float(losses.sum())):
            step = start + int((~torch.isfinite(losses)).long().argmax()) + 1
            at = f" at step {step} of the sequence" if in_time else ""
            check_losses(losses, self.chip.layers, self.norms_before, at, self.where)


def _check_is_function(loss_fn: Any, wanted: str) -> None:
    """Raise UserError for a loss that cannot be called, or a class of losses."""
    if isinstance(loss_fn, type):
        raise UserError(f"the loss is the class {loss_fn.__name__}: give {wanted}")
    if not callable(loss_fn):
        raise UserError(f"the loss is {wanted}")


def _check_takes(loss_fn: Callable[..., Tensor], arguments: list[str], wanted: str) -> None:
    """Raise UserError where a loss cannot be called with these arguments."""
    called = loss_fn.forward if isinstance(loss_fn, nn.Module) else loss_fn
    try:
        signature(called).bind(*arguments)
    except ValueError:  # a builtin that tells nothing of its arguments
        return
    except TypeError as error:
        raise UserError(f"the loss cannot be called with {' and '.join(arguments)} ({error}): give {wanted}") from None


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
    if found.covariances is None:
        update_decorrelations(chip.model, found.inputs)
    else:
        for name, decorrelation in decorrelations(chip.model).items():
            decorrelation.learn(found.covariances[name])


def _moved(leaf: object, device: torch.device) -> object:
    return leaf.to(device) if isinstance(leaf, Tensor) else leaf
