"""Forward passes over a placed network, and the record of what was observed in them."""

import copy
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
from noisylearn.layers import WeightLayer, apply_weights, columns_in_a_row, exact_convolutions
from noisylearn.read_afterwards import parts_of

PlacedLayer = Crossbar | Digital | StraightThrough
Placed = Mapping[str, PlacedLayer]
ALONG_SEQUENCES = "a network in time goes along sequences: rule.run, chip.follow, or calibrate(x, in_time=True)"


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
        self._probed_in_time = False

    def run(self, placed: Placed, x: Tensor, plan: Plan, purpose: str) -> Readings:
        """One forward of `model` for all passes of `plan` over the samples x (batch, ...).

        `purpose` names the random streams, so that looking at the chip draws other numbers than training on it.
        Raises UserError for an input that the model does not take.
        """
        try:
            if self._forks is None:
                _check_pure(_unwatched(self._model), x)
                self._forks = self._probe_fork(placed, x)
            return self._run(placed, x, plan, purpose, fork=self._forks)
        except TypeError as error:
            if "positional argument" not in str(error):
                raise
            raise UserError(f"{type(self._model).__name__} takes more than an input; {ALONG_SEQUENCES}") from error
        except RuntimeError as error:
            if "shape" not in str(error) and "size" not in str(error):
                raise
            reason = str(error).splitlines()[0]
            raise UserError(f"the model does not take an input of shape {tuple(x.shape)}: {reason}") from error

    def _run(self, placed: Placed, x: Tensor, plan: Plan, purpose: str, fork: bool) -> Readings:
        forward = _Forward(placed, plan, x.shape[0], self._draws, purpose, forked=not fork or plan.n_passes == 1)
        stacks = forward.progress.forked and plan.n_passes > 1
        stacked = x.repeat_interleave(plan.n_passes, 0) if stacks else x
        with _executed_by({**self._others, **forward.executions()}), exact_convolutions(x):
            output = self._model(stacked)
        if not isinstance(output, Tensor):
            raise UserError(
                f"{type(self._model).__name__} gave {type(output).__name__}, not a tensor; {ALONG_SEQUENCES}"
            )
        return forward.read([output])

    def along(self, placed: Placed, x: Tensor, state: Any, plan: Plan, purpose: str) -> tuple[Readings, Any]:
        """Steps x (time, batch, ...) of a network in time, from the state that its last step left (None at first).

        Every pass goes its own way from the first step on. In the readings the steps are merged along the batch.
        Raises UserError for a network that is none in time, or an input that it does not take.
        """
        steps, batch = x.shape[:2]
        if not self._probed_in_time:
            twin = _unwatched(self._model)
            _check_pure(lambda step: _one_step(twin, twin, step, None)[0], x[0])
            self._probed_in_time = True
        forward = _Forward(placed, plan, batch, self._draws, purpose, forked=True, n_steps=steps)
        stacked = x.repeat_interleave(plan.n_passes, 1) if plan.n_passes > 1 else x
        parts = parts_of(self._model) if forward.is_fresh_by_sample else None
        run, read = parts or (self._model, None)
        outputs = []
        with _executed_by({**self._others, **forward.executions()}), exact_convolutions(x):
            for step in stacked.unbind():
                output, state = _one_step(self._model, run, step, state)
                outputs.append(output)
                forward.progress.step += 1
            if read is not None:
                forward.progress.step, forward.progress.covered = 0, steps
                outputs = [read(torch.cat(outputs))]
        return forward.read(outputs), state

    def _probe_fork(self, placed: Placed, x: Tensor) -> bool:
        """Whether passes may part at the first weight layer: both ways must give the same without noise."""
        digital = {name: Digital(layer.layer) for name, layer in placed.items()}
        plan = Plan(((False,) * len(placed),) * 3)
        probe = _two_samples(x)
        with torch.no_grad():
            stacked = self._run(digital, probe, plan, "probe", fork=False).output
            try:
                forked = self._run(digital, probe, plan, "probe", fork=True).output
            except Exception:  # whatever the model says of rows that do not match: stacked, it ran
                return False
        return forked.shape == stacked.shape and torch.allclose(forked, stacked, rtol=1e-3, atol=1e-5)


@dataclass
class _Progress:
    """What the layers of one stacked forward, of one step or of several, share: has it forked, and where it is.

    step: the first one that runs now.  covered: how many run at once.

    In the stack the passes of a sample are neighbours: rows (steps x batch x passes, ...) are readings by pass as they
    stand, without a copy.
    """

    n_passes: int
    batch: int
    n_steps: int
    draws: Draws
    purpose: str
    forked: bool
    step: int = 0
    covered: int = 1
    last: str = ""

    def by_pass(self, steps: list[Tensor], n_passes: int) -> Tensor:
        """Rows of every step, (batch x passes, ...), as (passes, steps x batch, ...)."""
        rows = torch.cat(steps) if len(steps) > 1 else steps[0]
        return rows.unflatten(0, (-1, n_passes)).transpose(0, 1)


class _Forward:
    """One stacked forward: executes the layers, and gives what was read of them."""

    def __init__(
        self, placed: Placed, plan: Plan, batch: int, draws: Draws, purpose: str, forked: bool, n_steps: int = 1
    ) -> None:
        self.progress = _Progress(plan.n_passes, batch, n_steps, draws, purpose, forked)
        self._layers = {
            name: _LayerSteps(name, layer, self.progress, [p for p in range(plan.n_passes) if plan.perturbed[p][i]])
            for i, (name, layer) in enumerate(placed.items())
        }

    @property
    def is_fresh_by_sample(self) -> bool:
        """Whether all noise is independent from sample to sample, so that steps may be taken as more of a batch."""
        return not any(steps.placed.pass_effects for steps in self._layers.values())

    def executions(self) -> dict[nn.Module, Callable[..., Any]]:
        """What takes the place of the layers' own forwards."""
        return {steps.placed.layer: steps for steps in self._layers.values()}

    def read(self, outputs: list[Tensor]) -> Readings:
        """All readings, after the model gave its outputs, (batch x passes, ...) of every step."""
        readings = {name: steps.reading() for name, steps in self._layers.items()}
        return Readings(self.progress.by_pass(outputs, self.progress.n_passes), readings, self.progress.last)


class _LayerSteps:
    """One layer in a stacked forward: executes it, and keeps what was seen of it, step by step."""

    def __init__(self, name: str, placed: PlacedLayer, progress: _Progress, perturbed: list[int]) -> None:
        self.placed = placed
        self._name, self._progress, self._perturbed = name, progress, perturbed
        self._is_noisy = bool(placed.node_effects and perturbed)
        self._inputs: list[Tensor] = []
        self._activities: list[Tensor] = []
        self._weight_noise: list[dict[str, Tensor]] = []
        self._noise: Tensor | None = None
        self._noise_of_step: tuple[Tensor, ...] = ()
        self._exact: tuple[Tensor, Tensor | None] | None = None
        self._transposed: Tensor | None = None
        self._seen = 1
        self._done = 0

    def __call__(self, inputs: Tensor) -> Tensor:
        progress = self._progress
        if self._done > progress.step:
            raise UserError(f"layer '{self._name}' is used twice in one forward pass; give each use a layer of its own")
        if not self._inputs:
            self._begin()
        if self._transposed is not None and self._noise_of_step and inputs.dim() == 2:
            activity = torch.addmm(self._noise_of_step[progress.step], inputs, self._transposed)
        else:
            activity = self._with_noise(self._linear(inputs))
        progress.last = self._name
        self._done += progress.covered
        self._inputs.append(inputs)
        self._activities.append(activity)
        return activity

    def reading(self) -> LayerReading:
        """What was seen of all steps, merged along the batch. Raises UserError if a step did not use the layer."""
        progress = self._progress
        if self._done != progress.n_steps:
            raise UserError(f"layer '{self._name}' was not used in the forward pass; remove it from the model")
        return LayerReading(
            self.placed.layer,
            progress.by_pass(self._inputs, self._seen),
            progress.by_pass(self._activities, progress.n_passes),
            self._noise,
            self._weight_noise if progress.n_steps == 1 else [],
            self.placed.node_variance,
            self.placed.weight_variance,
        )

    def _begin(self) -> None:
        exact = None if self.placed.pass_effects else self.placed.exact()
        if exact is not None and self._progress.n_steps > 1:
            weight, bias = columns_in_a_row(exact[0]), exact[1]
            self._transposed = weight.T if bias is None and weight.dim() == 2 else None
            exact = weight, bias
        self._exact = exact
        self._seen = self._progress.n_passes if self._progress.forked else 1

    def _linear(self, inputs: Tensor) -> Tensor:
        """Pre-activations of rows (steps x batch x passes, ...) without noise on the nodes."""
        if self._exact is None or not self._progress.forked:
            return self._read(inputs)
        return apply_weights(self.placed.layer, *self._exact, inputs)

    def _with_noise(self, activity: Tensor) -> Tensor:
        if not self._is_noisy:
            return activity
        if not self._noise_of_step:
            self._draw_node_noise(activity)
        return activity + self._noise_of_step[self._progress.step]

    def _read(self, inputs: Tensor) -> Tensor:
        """Pre-activations (batch x passes, ...) with the noise of devices and weights."""
        progress = self._progress
        inputs = progress.by_pass([inputs], self._seen)
        activity = self.placed.read(inputs, progress.n_passes, progress.purpose)
        progress.forked = True
        if activity.shape[0] != progress.n_passes:
            activity = activity.expand(progress.n_passes, *activity.shape[1:])
        if self.placed.pass_effects:
            activity = self._add_weight_noise(inputs, activity)
        return _stacked(activity)

    def _add_weight_noise(self, inputs: Tensor, activity: Tensor) -> Tensor:
        """Noise on the weights that is the same for all samples of a pass."""
        drawn: list[dict[str, Tensor]] = []
        rows, draws, purpose = [], self._progress.draws, self._progress.purpose
        for p, row in enumerate(activity):
            noise = weight_noise(self.placed, self._name, draws, purpose) if p in self._perturbed else {}
            if noise:
                x = inputs[min(p, inputs.shape[0] - 1)]
                row = row + apply_weights(self.placed.layer, noise["weight"], noise.get("bias"), x)
            drawn.append(noise)
            rows.append(row)
        self._weight_noise = drawn
        return torch.stack(rows)

    def _draw_node_noise(self, activity: Tensor) -> None:
        """Additive noise on the pre-activations of all steps at once, zero in passes that are not perturbed.

        Independent from sample to sample, and so from step to step: the steps are more of a batch.
        """
        progress = self._progress
        shape = (progress.n_passes, progress.n_steps * progress.batch, *activity.shape[1:])
        zeros = activity.new_zeros(()).expand(shape)
        noise = node_noise(self.placed, self._name, zeros, self._perturbed, progress.draws, progress.purpose)
        self._noise, rows = noise, _stacked(noise)
        n_rows = progress.covered * progress.batch * progress.n_passes
        self._noise_of_step = rows.split(n_rows) if len(rows) > n_rows else (rows,)


def check_samples(x: Tensor) -> None:
    """Raises UserError for an input that is no batch of samples."""
    if not isinstance(x, Tensor):
        raise UserError(f"input of type {type(x).__name__}: give a tensor, for example torch.as_tensor(x)")
    if x.dim() < 2 or x.shape[0] == 0:
        raise UserError(f"input of shape {tuple(x.shape)}: give samples as (batch, ...), at least one")


def _one_step(model: nn.Module, run: Callable[..., Any], x: Tensor, state: Any) -> tuple[Tensor, Any]:
    try:
        found = run(x, state)
    except (RuntimeError, TypeError) as error:
        raise _misfit(model, x, error) from error
    if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], Tensor)):
        call = "forward(x_t, state) has to return (y_t, state)"
        if run is not model:
            call = "hidden(x_t, state) has to return (hidden_t, state), hidden_t one tensor"
        raise UserError(f"{type(model).__name__} in time: {call}")
    return found


def _unwatched(model: nn.Module) -> nn.Module:
    """A copy without hooks, so that looking at what a model does is seen by nobody, and leaves no trace in it."""
    try:
        twin = copy.deepcopy(model)
    except RuntimeError:  # of weights that a hook computes, which torch does not copy
        return model
    for module in twin.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    return twin


def _two_samples(x: Tensor) -> Tensor:
    return x[:2] if len(x) > 1 else torch.cat([x, x])  # a single sample would broadcast where more do not


@torch.no_grad()
def _check_pure(model: Callable[[Tensor], Any], x: Tensor) -> None:
    """Raises UserError for a model whose output is not a function of each sample alone."""
    probe = _two_samples(x)
    found, again, alone = model(probe), model(probe), model(probe[:1])
    if not all(isinstance(output, Tensor) for output in (found, again, alone)):
        return  # what runs the passes says what is wrong
    for other, what in (
        (again, "draws random numbers or keeps a state in its forward"),
        (alone, "mixes the samples of a batch in its forward"),
    ):
        mine = found[: len(other)]
        if mine.shape != other.shape or not torch.allclose(mine, other, rtol=1e-3, atol=1e-5, equal_nan=True):
            raise UserError(
                f"the model {what}, so that passes cannot be compared; noise belongs into the profile, a state into "
                "forward(x_t, state) -> (y_t, state)"
            )


def _stacked(by_pass: Tensor) -> Tensor:
    """Values (passes, samples, ...) as rows of a stack, (samples x passes, ...)."""
    return by_pass.transpose(0, 1).flatten(0, 1)


def weight_noise(placed: PlacedLayer, name: str, draws: Draws, purpose: str) -> dict[str, Tensor]:
    """Noise of one pass on the weight and the bias of a layer."""
    noise = {key: torch.zeros_like(p.detach()) for key, p in placed.layer.named_parameters()}
    for effect in placed.pass_effects:
        for key, so_far in noise.items():
            draw = StreamOf(draws, name, effect.kind, key, purpose)
            noise[key] = effect.apply(so_far, Setting(), draw, {})
    return noise


def node_noise(
    placed: PlacedLayer, name: str, zeros: Tensor, perturbed: list[int], draws: Draws, purpose: str
) -> Tensor:
    """Noise on the pre-activations of the perturbed passes, in the shape of `zeros` (passes, samples, ...)."""
    noise = zeros[: len(perturbed)]
    for effect, state in zip(placed.node_effects, placed.node_memory, strict=True):
        if not state:
            effect.fabricate(noise[0, 0], placed.setting, StreamOf(draws, name, effect.kind), state)
        noise = effect.apply(noise, placed.setting, StreamOf(draws, name, effect.kind, purpose), state)
    if len(perturbed) == len(zeros):
        return noise
    noise_or_zero = zeros.new_zeros(zeros.shape)
    noise_or_zero[perturbed] = noise
    return noise_or_zero


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
