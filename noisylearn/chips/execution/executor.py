"""Passes over a placed network, all of a plan at once: stacked along the batch, step by step through a segment."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from noisylearn.chips.crossbar import Digital
from noisylearn.chips.execution.calls import Step, misfit, one_sample_each, step_by_step
from noisylearn.chips.execution.cuda_graphs import Capture
from noisylearn.chips.execution.one_launch import OneLaunch
from noisylearn.chips.execution.purity import check_pure, two_samples
from noisylearn.chips.execution.replay import ReplayedSteps
from noisylearn.chips.execution.stack import StackedForward, joined
from noisylearn.chips.execution.substitution import substituted
from noisylearn.chips.interface import Placed
from noisylearn.chips.readings import Plan, Readings
from noisylearn.chips.segments import Segment
from noisylearn.ground.draws import Draws
from noisylearn.ground.errors import UserError
from noisylearn.networks.layers import check_still, exact_convolutions, is_still, still_modules
from noisylearn.networks.read_afterwards import parts_of
from noisylearn.networks.recurrent import HIDDEN, is_one_tanh_layer


class StackedExecutor:
    """Runs all passes of a plan over a model at once, stacked along the batch.

    Up to the first weight layer all passes over single samples are the same, so its product is computed once and the
    passes separate there; for models where that is not so (found by a probe) the input itself is stacked. Along
    sequences the passes are separate from the first step on.

    Args:
        model: a plain module; its layers' forwards are replaced while passes run.
        draws: random streams of the noise.
        others: module -> what runs in place of its forward, for modules other than weight layers.
        capture: how steps along sequences are captured, see `noisylearn.chips.execution.cuda_graphs`; None to run each
            anew.
        one_launch: runs all steps along sequences that it serves by a kernel; None for none.
    """

    def __init__(
        self,
        model: nn.Module,
        draws: Draws,
        others: Mapping[nn.Module, Callable[..., Any]] | None = None,
        capture: Capture | None = None,
        one_launch: OneLaunch | None = None,
    ) -> None:
        self._model, self._draws, self._others = model, draws, others or {}
        self._forks: bool | None = None
        self._found_pure: set[tuple[bool, torch.Size, torch.dtype]] = set()  # kinds of input
        self._still = list(still_modules(model).values())
        self._replayed = None if capture is None else ReplayedSteps(model, capture)
        self._one_launch = one_launch

    def run(self, placed: Placed, segment: Segment, plan: Plan, purpose: str) -> Readings:
        """See `noisylearn.chips.interface.Executor`."""
        if torch.is_autocast_enabled(segment.inputs.device.type):
            raise UserError(
                "torch.autocast is on, in whose precision perturbations are lost: run the chip outside of it"
            )
        if not all(is_still(module) for module in self._still):
            check_still(self._model)
        try:
            return self._run(placed, segment, plan, purpose)
        except (RuntimeError, TypeError) as error:
            found = misfit(self._model, segment, error)
            if found is error:
                raise
            raise found from error

    def _run(self, placed: Placed, segment: Segment, plan: Plan, purpose: str) -> Readings:
        kind = segment.in_time, segment.inputs.shape[2:], segment.inputs.dtype
        if kind not in self._found_pure:
            check_pure(self._model, segment.inputs[0], segment.in_time)
            self._found_pure.add(kind)
        if segment.in_time:
            return self._along(placed, segment, plan, purpose)
        if self._forks is None:
            self._forks = self._probe_fork(placed, segment)
        return self._once(placed, segment, plan, purpose, self._forks)

    def _once(self, placed: Placed, segment: Segment, plan: Plan, purpose: str, forks: bool) -> Readings:
        stacks = plan.n_passes > 1 and not forks
        forward = StackedForward(placed, segment, plan, self._draws, purpose, parted=stacks or plan.n_passes == 1)
        x = segment.inputs[0]
        output, _ = self._steps(forward, (x.repeat_interleave(plan.n_passes, 0) if stacks else x).unsqueeze(0), None)
        return forward.read(output, None)

    def _along(self, placed: Placed, segment: Segment, plan: Plan, purpose: str) -> Readings:
        begun = partial(StackedForward, placed, segment, plan, self._draws, purpose, parted=True)
        forward, x = begun(), segment.inputs
        stacked = x.repeat_interleave(plan.n_passes, 1) if plan.n_passes > 1 else x
        if self._one_launch is not None and self._one_launch.serves(forward, stacked):
            output, network = self._one_launch.run(forward, stacked, segment.start.network)
        elif self._replayed is None:
            output, network = self._steps(forward, stacked, segment.start.network)
        else:
            output, network = self._replayed.run(self._steps, forward, begun, stacked, segment.start.network)
        return forward.read(output, network)

    def _steps(self, forward: StackedForward, stacked: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Outputs of all steps, (steps x batch x passes, ...), and the network's state after the last."""
        step, read = self._asked(forward)
        by_layer = read is not None and self._runs_by_layer(forward, stacked)
        with substituted({**self._others, **forward.executions()}), exact_convolutions(stacked):
            if by_layer:
                output, state = forward.tanh_units(HIDDEN, stacked, state)
            else:
                output, state = _one_by_one(step, forward, stacked, state)
            if read is not None:
                forward.stack.step, forward.stack.covered = 0, len(stacked)
                output = read(output)
        return output, state

    def _asked(self, forward: StackedForward) -> tuple[Step, Callable[[Tensor], Tensor] | None]:
        """The function that runs a step, and one for what is left to do for all steps at once."""
        if not forward.stack.in_time:
            return one_sample_each(self._model), None
        parts = parts_of(self._model) if forward.is_fresh_by_sample else None
        run, read = parts or (None, None)
        return step_by_step(self._model, run), read

    def _runs_by_layer(self, forward: StackedForward, stacked: Tensor) -> bool:
        """Whether the hidden layer takes all steps without a call of the network for each: for the same numbers."""
        if len(stacked) == 1 or stacked.dim() != 3 or torch.is_grad_enabled() or not forward.is_known_ahead:
            return False
        return is_one_tanh_layer(self._model) and stacked.dtype == next(self._model.parameters()).dtype

    def _probe_fork(self, placed: Placed, segment: Segment) -> bool:
        """Whether passes may separate at the first weight layer: both ways must give the same without noise."""
        digital = {name: Digital(layer.layer) for name, layer in placed.items()}
        plan = Plan(((False,) * len(placed),) * 3)
        probe = segment.with_inputs(two_samples(segment.inputs[0]).unsqueeze(0))
        with torch.no_grad():
            stacked = self._once(digital, probe, plan, "probe", forks=False).output
            try:
                forked = self._once(digital, probe, plan, "probe", forks=True).output
            except Exception:  # whatever the model says of rows that do not match: stacked, it ran
                return False
        return forked.shape == stacked.shape and torch.allclose(forked, stacked, rtol=1e-3, atol=1e-5)


def _one_by_one(step: Step, forward: StackedForward, stacked: Tensor, state: Any) -> tuple[Tensor, Any]:
    """Outputs of all steps, and the network's state after the last, by a call of the network for each step."""
    outputs: list[Tensor] = []
    for x in stacked.unbind():
        output, state = step(x, state)
        outputs.append(output)
        forward.stack.step += 1
    return joined(outputs), state
