"""Rules through time: passes that carry states of their own, credit over the steps, updates online or at the end.

Along a sequence every step is one more sample: its readings go to the same rule as those of a batch do. What time adds
is which losses a step's perturbation is held against ("credit"), and when the weights change ("update").
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor

from noisylearn.chips.readings import LayerReading, Plan, Readings
from noisylearn.ground.errors import RunawayError, UserError
from noisylearn.networks.neurons import watch_firing
from noisylearn.rules.estimate import AnyChip, Estimate, Observation, sample_losses

Credit = Literal["local", "sequence", "reward-to-go", "trace"]
Update = Literal["online", "sequence"]
OF_LATER_LOSSES: tuple[Credit, ...] = ("sequence", "reward-to-go")
Gradients = dict[str, dict[str, Tensor]]
StepLoss = Callable[[Tensor, Tensor], Tensor]
FORGOTTEN = 1e-3  # share of an eligibility below which it is dropped


@dataclass(frozen=True)
class InTime:
    """How a rule goes through time.

    credit: losses that the perturbation of step t is held against: "local" l_t; "sequence" the sum over all steps;
    "reward-to-go" sum over s >= t; "trace" sum over s >= t of decay^(s - t) l_s.  update: "online", after every step;
    "sequence", once.  truncate: of backpropagation, the state is cut off its past every so many steps.
    """

    credit: Credit = "local"
    decay: float = 0.9
    update: Update = "sequence"
    truncate: int | None = None

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

    def credited(self, losses: Tensor) -> Tensor:
        """What the perturbations of every step are held against, from losses (passes, steps, batch)."""
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


class RuleInTime(Protocol):
    """What `run` needs of a rule."""

    def needs(self) -> frozenset[str]: ...
    @property
    def on_chip(self) -> bool: ...
    def in_time(self) -> InTime: ...
    def gradients(self, seen: Observation, layers: list[str]) -> Estimate: ...


class SequentialChip(AnyChip, Protocol):
    """A chip that runs step by step, with states."""

    def along(self, x: Tensor, state: Any, plan: Plan, purpose: str = "pass") -> tuple[Readings, Any]: ...
    def digital_along(self, x: Tensor, state: Any, on_devices: bool = False) -> tuple[Readings, Any]: ...
    def program(self) -> None: ...


class Span(Observation):
    """Steps of a sequence, as one batch of (steps x batch) samples in order of time.

    x: inputs (steps, batch, ...).  targets: (steps, batch, ...).  weights: of every step's losses, (steps, batch).
    states: plan -> state of its passes at the start of the span, and after it at its end.
    step_losses: as they are, (passes, steps, batch), of whatever plan ran first.
    """

    def __init__(
        self,
        chip: SequentialChip,
        x: Tensor,
        targets: Tensor,
        weights: Tensor,
        step_loss: StepLoss,
        time: InTime,
        states: dict[Any, Any],
        purpose: str = "pass",
    ) -> None:
        flat = targets.flatten(0, 1), weights.flatten()
        super().__init__(chip, x, lambda output: step_loss(output, flat[0]) * flat[1], purpose)
        self.targets, self.weights, self.step_loss = targets, weights, step_loss
        self.time, self.states = time, states
        self.step_losses: Tensor | None = None
        self._sequential = chip
        self._now: Span | None = None

    @property
    def now(self) -> Observation:
        return self._now or self

    def of(self, plan: Plan) -> tuple[Readings, Tensor]:
        if plan not in self._seen:
            readings, self.states[plan] = self._sequential.along(self.x, self.states.get(plan), plan, self.purpose)
            losses = self._losses(readings.output)
            self._seen[plan] = readings, self.time.credited(losses * self.weights).flatten(1)
        return self._seen[plan]

    def digital(self, on_devices: bool = False) -> tuple[Readings, Tensor]:
        stretches, state = [], self.states.get("digital")
        for x in self.x.split(self.time.truncate or len(self.x)):
            readings, state = self._sequential.digital_along(x, detached(state), on_devices)
            stretches.append(readings)
        self.states["digital"] = detached(state)
        merged = _merged(stretches)
        return merged, (self._losses(merged.output)[0] * self.weights).flatten()

    def steps(self) -> Iterator["Span"]:
        """Every step as a span of its own, with the states going on from one to the next."""
        for t in range(len(self.x)):
            part = slice(t, t + 1)
            weights = self.weights[part] / len(self.x)
            yield Span(
                self._sequential, self.x[part], self.targets[part], weights, self.step_loss, InTime(), self.states,
                self.purpose,
            )  # fmt: skip

    def holding(self, plan: Plan, readings: Readings, losses: Tensor) -> "Span":
        """A span in which that was seen already."""
        given = self.x, self.targets, self.weights, self.step_loss, self.time, self.states, self.purpose
        span = Span(self._sequential, *given)
        span._seen[plan], span._now = (readings, losses), self
        return span

    def seen(self) -> tuple[Plan, Readings, Tensor]:
        """The one plan that was run, its readings and credited losses."""
        ((plan, (readings, losses)),) = self._seen.items()
        return plan, readings, losses

    def _losses(self, output: Tensor) -> Tensor:
        """Of outputs (passes, steps x batch, ...), unweighted: (passes, steps, batch)."""
        targets = self.targets.flatten(0, 1)
        losses = sample_losses(lambda y: self.step_loss(y, targets), output).unflatten(1, self.weights.shape)
        if self.step_losses is None:
            self.step_losses = losses.detach()
        return losses


def run(
    rule: RuleInTime,
    chip: SequentialChip,
    inputs: Tensor,
    targets: Tensor,
    loss_fn: StepLoss,
    optimizer: torch.optim.Optimizer | None,
    mask: Tensor | None,
    apply: Callable[[Estimate], None],
) -> Tensor:
    """Take a rule along sequences; `apply(estimate)` fills `.grad`. Returns the loss of every step, (steps,)."""
    time = rule.in_time()
    mask = _checked(inputs, targets, mask, time, optimizer)
    online = time.update == "online"
    length = (time.truncate or 1) if online else len(inputs)
    norm = inputs.shape[1] if online else float(mask.sum())
    states: dict[Any, Any] = {}
    past: deque[Readings] = deque(maxlen=_window(time))
    counts, skips = counting_stretches(mask, length), counting_stretches(mask == 0, length)
    shares = mask / mask.sum(1, keepdim=True).clamp(min=torch.finfo(mask.dtype).tiny)
    losses = torch.full((len(inputs),), math.nan, dtype=torch.float64, device=mask.device)
    with watch_firing(getattr(chip, "neurons", {})):
        for i, start in enumerate(range(0, len(inputs), length)):
            part = slice(start, start + length)
            of_stretch = mask[part]
            weights = of_stretch * (of_stretch.numel() / norm)
            span = Span(chip, inputs[part], targets[part], weights, loss_fn, time, states)
            estimate = _estimate(rule, span, past)
            assert span.step_losses is not None
            found = (span.step_losses[0] * shares[part]).sum(1)
            _check_finite(found, start, span)
            losses[part] = found
            if not counts[i]:
                continue
            apply(_of_counting(estimate, of_stretch) if skips[i] else estimate)
            if online and optimizer is not None:
                optimizer.step()
                if rule.on_chip:
                    chip.program()
    return losses.to(mask.dtype)


def counting_stretches(mask: Tensor, length: int) -> list[bool]:
    """Of every stretch of so many steps, whether the loss of any of them counts: elsewhere nothing learns."""
    counts = mask.flatten(1).any(1).tolist()
    return [any(counts[start : start + length]) for start in range(0, len(counts), length)]


def _of_counting(estimate: Estimate, mask: Tensor) -> Estimate:
    """The estimate, with the inputs of those samples alone that count: decorrelations learn from these."""
    counts = mask.flatten() != 0
    return replace(estimate, inputs={name: x[counts] for name, x in estimate.inputs.items()})


def estimate_along(rule: RuleInTime, span: Span) -> Estimate:
    """What the rule makes of a span, seen once; nothing learns from it."""
    return _estimate(rule, span, deque(maxlen=_window(span.time)))


def detached(state: Any) -> Any:
    """A state (tensors in tuples, lists and dicts) without its history."""
    if isinstance(state, Tensor):
        return state.detach()
    if isinstance(state, dict):
        return {key: detached(value) for key, value in state.items()}
    if isinstance(state, tuple | list):
        parts = [detached(value) for value in state]
        return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)
    if state is None or isinstance(state, int | float | str):
        return state
    raise UserError(
        f"a state of type {type(state).__name__} cannot be cut off its past: give tensors, in tuples, lists or dicts"
    )


def _estimate(rule: RuleInTime, span: Span, past: deque[Readings]) -> Estimate:
    layers = list(span.chip.layers)
    if "injected_weight_noise" in rule.needs():
        return _by_weight_noise(rule, span, layers)
    found = rule.gradients(span, layers)
    if span.time.credit == "trace" and span.time.update == "online":
        plan, readings, losses = span.seen()
        past.append(readings)
        return Estimate(found.loss, _by_trace(rule, span, plan, losses, list(past)), found.inputs)
    return found


def _by_trace(rule: RuleInTime, span: Span, plan: Plan, losses: Tensor, past: list[Readings]) -> Gradients:
    """dl_t against the perturbations of this step and the steps before, each decay times less than the next."""
    ages = torch.arange(len(past) - 1, -1, -1, device=losses.device, dtype=losses.dtype)
    shares = (span.time.decay**ages).repeat_interleave(losses.shape[1]) * len(past)
    held = span.holding(plan, _merged(past), losses.repeat(1, len(past)) * shares)
    return rule.gradients(held, list(span.chip.layers)).gradients


def _by_weight_noise(rule: RuleInTime, span: Span, layers: list[str]) -> Estimate:
    """Step by step: noise on weights is too large to keep, but what it sums to is not.

    E_t = decay E_{t-1} + xi_t,  gradient = sum_t dl_t E_t; held against the whole sequence, (sum_t dl_t) E_T.
    """
    credit = span.time.credit
    decay = {"local": 0.0, "trace": span.time.decay}.get(credit, 1.0)
    kept = span.states.setdefault("eligibility", {})
    gradients: Gradients = {}
    losses_of, total, inputs = [], torch.zeros(()), []
    for t, one in enumerate(span.steps()):
        found = rule.gradients(one, [] if decay else layers)  # with decay, once the noise is remembered
        plan, readings, losses = one.seen()
        assert one.step_losses is not None
        losses_of.append(one.step_losses)
        inputs.append(found.inputs)
        total = total + losses
        if decay:
            _remember(kept, readings, decay)
            losses = total if credit == "sequence" else losses
            found = rule.gradients(one.holding(plan, readings, losses), layers)
        if credit != "sequence" or t == len(span.x) - 1:
            _add(gradients, found.gradients)
    span.step_losses = torch.cat(losses_of, 1)
    merged = {name: torch.cat([step[name] for step in inputs]) for name in inputs[0]}
    return Estimate(found.loss, gradients, merged)


def _remember(kept: dict[Any, Tensor], readings: Readings, decay: float) -> None:
    """Put the eligibility in the place of the noise that a reading holds."""
    for name, reading in readings.layers.items():
        for p, noise in enumerate(reading.weight_noise):
            for key, drawn in noise.items():
                so_far = kept.get((name, p, key))
                noise[key] = kept[name, p, key] = drawn if so_far is None else so_far * decay + drawn


def _add(total: Gradients, more: Gradients) -> None:
    for name, gradients in more.items():
        for key, gradient in gradients.items():
            into = total.setdefault(name, {})
            into[key] = into[key] + gradient if key in into else gradient


def _merged(steps: list[Readings]) -> Readings:
    """Readings of steps, joined along the batch."""
    if len(steps) == 1:
        return steps[0]

    def joined(parts: list[Tensor]) -> Tensor:
        return torch.cat(parts, 1)

    layers = {}
    for name, first in steps[0].layers.items():
        every = [step.layers[name] for step in steps]
        noise = None if first.noise is None else joined([r.noise for r in every if r.noise is not None])
        layers[name] = LayerReading(
            first.layer, joined([r.input for r in every]), joined([r.activity for r in every]), noise, [],
            first.node_variance, first.weight_variance,
        )  # fmt: skip
    return Readings(joined([step.output for step in steps]), layers, steps[0].last)


def _window(time: InTime) -> int:
    """Steps after which an eligibility is forgotten."""
    return math.ceil(math.log(FORGOTTEN) / math.log(time.decay)) + 1 if time.credit == "trace" else 1


def _checked(
    inputs: Tensor, targets: Tensor, mask: Tensor | None, time: InTime, optimizer: torch.optim.Optimizer | None
) -> Tensor:
    """The mask, ones where none is given. Raises UserError for shapes that do not fit."""
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
    return mask.to(inputs.dtype if inputs.is_floating_point() else torch.get_default_dtype())


def _check_finite(losses: Tensor, start: int, span: Span) -> None:
    """Raises RunawayError, naming the layer that grew most, where a loss is not finite."""
    if math.isfinite(float(losses.sum())) or bool(torch.isfinite(losses).all()):
        return
    step = start + int((~torch.isfinite(losses)).nonzero()[0])
    sizes = {name: float(layer.weight.detach().norm()) for name, layer in span.chip.layers.items()}
    name = max(sizes, key=lambda n: sizes[n] if math.isfinite(sizes[n]) else math.inf)
    raise RunawayError(
        f"the loss is not finite at step {step + 1} of the sequence (largest weights: layer '{name}', norm "
        f"{sizes[name]:.3g}): lower the learning rate, or the weights of that layer at the start, if no input or "
        "target is nan"
    )
