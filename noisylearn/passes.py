"""Forward passes over a placed network, and the record of what was observed in them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from noisylearn.crossbar import Crossbar, Digital, StraightThrough
from noisylearn.draws import Draws, StreamOf
from noisylearn.effects import Setting
from noisylearn.errors import UserError
from noisylearn.layers import WeightLayer, apply_weights, exact_convolutions

PlacedLayer = Crossbar | Digital | StraightThrough
Placed = Mapping[str, PlacedLayer]


@dataclass(frozen=True)
class Plan:
    """Which passes to run: perturbed[p][l] says whether pass p has injected noise in layer l; pass 0 is the baseline.

    Noise that cannot be switched off is in every pass, whatever the plan says.
    """

    perturbed: tuple[tuple[bool, ...], ...]

    @property
    def n_passes(self) -> int:
        return len(self.perturbed)

    def passes_of(self, layer: int) -> list[int]:
        """The passes that perturb a layer, the baseline apart."""
        return [p for p in range(1, self.n_passes) if self.perturbed[p][layer]]


@dataclass
class LayerReading:
    """What was observed of one layer (`layer`: the module itself).

    input: (1 or passes, batch, ...), 1 where every pass sees the same.  activity: pre-activations (passes, batch,
    ...).  noise: injected into them, same shape, or None where it cannot be read out.  weight_noise: one dict of
    parameter name -> noise per pass (empty where the pass had none).  node_variance, weight_variance: of the injected
    noise of one unit, of one weight.
    """

    layer: WeightLayer
    input: Tensor
    activity: Tensor
    noise: Tensor | None = None
    weight_noise: list[dict[str, Tensor]] = field(default_factory=list)
    node_variance: float = 0.0
    weight_variance: float = 0.0


@dataclass
class Readings:
    """Output (passes, batch, ...), the readings of every layer, by name, in order of definition, and who ran last."""

    output: Tensor
    layers: dict[str, LayerReading]
    last: str


class PassRunner:
    """Runs all passes of a plan over a model at once, stacked along the batch.

    Up to the first weight layer all passes are the same, so its products are computed once and the passes part
    there ("fork"); for models where that is not so (a probe finds out) the input itself is stacked.
    others: what runs in the place of the forward of other modules than weight layers.
    """

    def __init__(
        self, model: nn.Module, draws: Draws, others: Mapping[nn.Module, Callable[..., Any]] | None = None
    ) -> None:
        self._model = model
        self._others = others or {}
        self._draws = draws
        self._forks: bool | None = None

    def run(self, placed: Placed, x: Tensor, plan: Plan, purpose: str) -> Readings:
        """One forward of `model` for all passes of `plan` over the samples x (batch, ...).

        `purpose` names the random streams, so that looking at the chip draws other numbers than training on it.
        Raises UserError for an input that the model does not take.
        """
        try:
            if self._forks is None:
                self._forks = self._probe_fork(placed, x)
            return self._run(placed, x, plan, purpose, fork=self._forks)
        except RuntimeError as error:
            if "shape" not in str(error) and "size" not in str(error):
                raise
            reason = str(error).splitlines()[0]
            raise UserError(f"the model does not take an input of shape {tuple(x.shape)}: {reason}") from error

    def _run(self, placed: Placed, x: Tensor, plan: Plan, purpose: str, fork: bool) -> Readings:
        batch = x.shape[0]
        forward = _Forward(placed, plan, batch, self._draws, purpose, forked=not fork or plan.n_passes == 1)
        stacks = forward.forked and plan.n_passes > 1
        stacked = x.repeat(plan.n_passes, *[1] * (x.dim() - 1)) if stacks else x
        with _executed_by(self._executions(placed, forward)), exact_convolutions(x):
            output = self._model(stacked)
        return forward.read(output)

    def step(self, placed: Placed, x: Tensor, state: Any, plan: Plan, purpose: str) -> tuple[Readings, Any]:
        """One step of a network in time: its inputs x (batch, ...), the state that its last step left (None at first).

        Every pass goes its own way from the first step on. Raises UserError for a network that is none in time, or an
        input that it does not take.
        """
        forward = _Forward(placed, plan, x.shape[0], self._draws, purpose, forked=True)
        stacked = x.repeat(plan.n_passes, *[1] * (x.dim() - 1)) if plan.n_passes > 1 else x
        try:
            with _executed_by(self._executions(placed, forward)), exact_convolutions(x):
                found = self._model(stacked, state)
        except (RuntimeError, TypeError) as error:
            raise _misfit(self._model, x, error) from error
        if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], Tensor)):
            raise UserError(f"{type(self._model).__name__} in time: forward(x_t, state) has to return (y_t, state)")
        output, state = found
        return forward.read(output), state

    def _executions(self, placed: Placed, forward: "_Forward") -> dict[nn.Module, Callable[..., Any]]:
        return {**self._others, **{layer.layer: forward.execution(name) for name, layer in placed.items()}}

    def _probe_fork(self, placed: Placed, x: Tensor) -> bool:
        """Whether passes may part at the first weight layer: both ways must give the same without noise."""
        digital = {name: Digital(layer.layer) for name, layer in placed.items()}
        plan = Plan(((False,) * len(placed),) * 3)
        probe = x[:2] if len(x) > 1 else torch.cat([x, x])  # a single sample would broadcast where more do not
        with torch.no_grad():
            stacked = self._run(digital, probe, plan, "probe", fork=False).output
            try:
                forked = self._run(digital, probe, plan, "probe", fork=True).output
            except Exception:  # whatever the model says of rows that do not match: stacked, it ran
                return False
        return forked.shape == stacked.shape and torch.allclose(forked, stacked, rtol=1e-3, atol=1e-5)


class _Forward:
    """State of one stacked forward: has it forked yet, and what was read so far."""

    def __init__(self, placed: Placed, plan: Plan, batch: int, draws: Draws, purpose: str, forked: bool) -> None:
        self.forked = forked
        self.readings: dict[str, LayerReading] = {}
        self._placed, self._plan, self._batch = placed, plan, batch
        self._draws, self._purpose = draws, purpose
        self._index = {name: i for i, name in enumerate(placed)}

    def execution(self, name: str) -> Callable[[Tensor], Tensor]:
        """What takes the place of the layer's own forward."""
        return lambda inputs: self._execute(name, inputs)

    def read(self, output: Tensor) -> Readings:
        """All readings, after the model gave its output."""
        unused = [name for name in self._placed if name not in self.readings]
        if unused:
            raise UserError(f"layer '{unused[0]}' was not used in the forward pass; remove it from the model")
        readings = {name: self.readings[name] for name in self._placed}
        output = output.reshape(self._plan.n_passes, self._batch, *output.shape[1:])
        return Readings(output, readings, last=next(reversed(self.readings)))

    def _execute(self, name: str, inputs: Tensor) -> Tensor:
        if name in self.readings:
            raise UserError(f"layer '{name}' is used twice in one forward pass; give each use a layer of its own")
        seen = self._plan.n_passes if self.forked else 1
        inputs = inputs.reshape(seen, self._batch, *inputs.shape[1:])
        self.forked = True
        placed = self._placed[name]
        activity = placed.read(inputs, self._plan.n_passes, self._purpose)
        if activity.shape[0] != self._plan.n_passes:
            activity = activity.expand(self._plan.n_passes, *activity.shape[1:])
        activity, weight_noise = self._add_weight_noise(name, inputs, activity)
        activity, noise = self._add_node_noise(name, activity)
        self.readings[name] = LayerReading(
            placed.layer, inputs, activity, noise, weight_noise, placed.node_variance, placed.weight_variance
        )
        return activity.flatten(0, 1)

    def _add_weight_noise(self, name: str, inputs: Tensor, activity: Tensor) -> tuple[Tensor, list[dict[str, Tensor]]]:
        """Noise on the weights that is the same for all samples of a pass."""
        placed = self._placed[name]
        if not placed.pass_effects:
            return activity, []
        drawn: list[dict[str, Tensor]] = []
        rows = []
        for p, row in enumerate(activity):
            noise = self._draw_weight_noise(name) if self._plan.perturbed[p][self._index[name]] else {}
            if noise:
                x = inputs[min(p, inputs.shape[0] - 1)]
                row = row + apply_weights(placed.layer, noise["weight"], noise.get("bias"), x)
            drawn.append(noise)
            rows.append(row)
        return torch.stack(rows), drawn

    def _draw_weight_noise(self, name: str) -> dict[str, Tensor]:
        """Noise of one pass on the weight and the bias of a layer."""
        noise = {key: torch.zeros_like(p.detach()) for key, p in self._placed[name].layer.named_parameters()}
        for effect in self._placed[name].pass_effects:
            for key, so_far in noise.items():
                draw = StreamOf(self._draws, name, effect.kind, key, self._purpose)
                noise[key] = effect.apply(so_far, Setting(), draw, {})
        return noise

    def _add_node_noise(self, name: str, activity: Tensor) -> tuple[Tensor, Tensor | None]:
        """Additive noise on the pre-activations of the passes that the plan perturbs."""
        effects = self._placed[name].node_effects
        on = [p for p in range(self._plan.n_passes) if self._plan.perturbed[p][self._index[name]]]
        if not effects or not on:
            return activity, None
        noise = activity.new_zeros(len(on), *activity.shape[1:])
        setting = self._placed[name].setting
        for effect, state in zip(effects, self._placed[name].node_memory, strict=True):
            if not state:
                effect.fabricate(noise[0, 0], setting, StreamOf(self._draws, name, effect.kind), state)
            noise = effect.apply(noise, setting, StreamOf(self._draws, name, effect.kind, self._purpose), state)
        if len(on) < self._plan.n_passes:
            perturbed_only, noise = noise, torch.zeros_like(activity)
            noise[on] = perturbed_only
        return activity + noise, noise


def _misfit(model: nn.Module, x: Tensor, error: Exception) -> Exception:
    """What is wrong with a step, in the user's terms; other errors as they are."""
    reason = str(error).splitlines()[0]
    if isinstance(error, TypeError) and "positional argument" in reason:
        return UserError(f"{type(model).__name__} is no network in time: it needs forward(x_t, state) -> (y_t, state)")
    if isinstance(error, RuntimeError) and ("shape" in reason or "size" in reason):
        return UserError(f"the model does not take steps of shape {tuple(x.shape)}: {reason}")
    return error


@contextmanager
def _executed_by(executions: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Let other functions do the forward of some modules; hooks of the user's still run around them."""
    own = {module: vars(module).get("forward") for module in executions}
    try:
        for module, execution in executions.items():
            vars(module)["forward"] = execution
        yield
    finally:
        for module, forward in own.items():
            del vars(module)["forward"]
            if forward is not None:
                vars(module)["forward"] = forward
