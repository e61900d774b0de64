"""Forward passes over a placed network."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from noisylearn.chips.crossbar import Digital
from noisylearn.chips.execution.cuda_graphs import Recorder
from noisylearn.chips.execution.replay import RecordedSteps
from noisylearn.chips.execution.stacked import Forward, Placed, joined
from noisylearn.chips.readings import Plan, Readings
from noisylearn.ground.draws import Draws
from noisylearn.ground.errors import UserError
from noisylearn.networks.layers import exact_convolutions
from noisylearn.networks.read_afterwards import parts_of

ALONG_SEQUENCES = "a network in time goes along sequences: rule.run, chip.follow, or calibrate(x, in_time=True)"


class PassRunner:
    """Runs all passes of a plan over a model at once, stacked along the batch.

    Up to the first weight layer all passes are the same, so its products are computed once and the passes part
    there ("fork"); for models where that is not so (a probe finds out) the input itself is stacked.
    others: what runs in the place of the forward of other modules than weight layers.
    record: of steps along sequences, see `noisylearn.chips.execution.cuda_graphs`; None to run every one of them anew.
    """

    def __init__(
        self,
        model: nn.Module,
        draws: Draws,
        others: Mapping[nn.Module, Callable[..., Any]] | None = None,
        record: Recorder | None = None,
    ) -> None:
        self._model = model
        self._others = others or {}
        self._draws = draws
        self._forks: bool | None = None
        self._probed_in_time = False
        self._recorded = None if record is None else RecordedSteps(model, record)

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
            reason = str(error).splitlines()[0]
            if not _is_misfit(reason):
                raise
            raise UserError(
                f"the model does not take an input of shape {tuple(x.shape)}, {x.dtype}: {reason}"
            ) from error

    def _run(self, placed: Placed, x: Tensor, plan: Plan, purpose: str, fork: bool) -> Readings:
        forward = Forward(placed, plan, x.shape[0], self._draws, purpose, forked=not fork or plan.n_passes == 1)
        stacks = forward.progress.forked and plan.n_passes > 1
        stacked = x.repeat_interleave(plan.n_passes, 0) if stacks else x
        with _executed_by({**self._others, **forward.executions()}), exact_convolutions(x):
            output = self._model(stacked)
        if not isinstance(output, Tensor):
            raise UserError(
                f"{type(self._model).__name__} gave {type(output).__name__}, not a tensor; {ALONG_SEQUENCES}"
            )
        return forward.read(output)

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
        stacked = x.repeat_interleave(plan.n_passes, 1) if plan.n_passes > 1 else x

        def begun() -> Forward:
            return Forward(placed, plan, batch, self._draws, purpose, forked=True, n_steps=steps)

        forward = begun()
        if self._recorded is None:
            output, state = self._steps(forward, stacked, state)
        else:
            output, state = self._recorded.run(self._steps, forward, begun, stacked, state)
        return forward.read(output), state

    def _steps(self, forward: Forward, stacked: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Outputs of all steps, (steps x batch x passes, ...), and the state after the last."""
        parts = parts_of(self._model) if forward.is_fresh_by_sample else None
        run, read = parts or (self._model, None)
        outputs: list[Tensor] = []
        with _executed_by({**self._others, **forward.executions()}), exact_convolutions(stacked):
            for step in stacked.unbind():
                output, state = _one_step(self._model, run, step, state)
                outputs.append(output)
                forward.progress.step += 1
            output = joined(outputs)
            if read is not None:
                forward.progress.step, forward.progress.covered = 0, len(stacked)
                output = read(output)
        return output, state

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


def _misfit(model: nn.Module, x: Tensor, error: Exception) -> Exception:
    """What is wrong with a step, in the user's terms; other errors as they are."""
    reason = str(error).splitlines()[0]
    if isinstance(error, TypeError) and "positional argument" in reason:
        return UserError(f"{type(model).__name__} is no network in time: it needs forward(x_t, state) -> (y_t, state)")
    if isinstance(error, RuntimeError) and _is_misfit(reason):
        return UserError(f"the model does not take steps of shape {tuple(x.shape)}, {x.dtype}: {reason}")
    return error


def _is_misfit(reason: str) -> bool:
    """Whether torch says of tensors that they do not go together."""
    return any(word in reason for word in ("shape", "size", "dtype"))


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
