"""Steps of a stacked forward, captured at their second run and replayed from then on."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from noisylearn.chips.execution.cuda_graphs import Capture, Captured, Tree, shape_of
from noisylearn.chips.execution.stack import StackedForward, Units
from noisylearn.networks.read_afterwards import has_hooks

CAPTURES = 8  # that are held: each holds about twice the readings of all its steps
KINDS = 64  # of sequences, by plan and shape, that are remembered
# Outputs of all steps, and the state after the last.
Steps = Callable[[StackedForward, Tensor, Any], tuple[Tensor, Any]]


@dataclass
class _Kind:
    """Sequences that one capture serves: what their first run showed, and, from the second on, the capture."""

    units: Units
    last: str
    captured: Captured | None = None


class ReplayedSteps:
    """Runs steps without capture at first, captures them when they come again, and replays the capture from then on.

    Noise is drawn before, from the same streams as without capture, and weights are copied to where the capture
    reads them. Steps are never captured where an output must be known first: with noise that depends on what is read,
    hooks, or a state that holds more than tensors. What a module holds beside parameters and buffers keeps the value it
    had when captured.

    Args:
        model: the network.
        capture: how steps are captured.
    """

    def __init__(self, model: nn.Module, capture: Capture) -> None:
        self._model, self._capture = model, capture
        self._kinds: OrderedDict[Hashable, _Kind] = OrderedDict()

    def run(
        self,
        steps: Steps,
        forward: StackedForward,
        twin: Callable[[], StackedForward],
        x: Shaped[Tensor, "time batch ..."],
        state: Any,
    ) -> tuple[Float[Tensor, "_ ..."], Any]:
        """The steps of a forward, or a replay of them.

        Args:
            steps: runs all steps of a forward.
            forward: this forward.
            twin: makes another such forward, to be captured.
            x: stacked inputs, (time, batch x passes, ...).
            state: of the network before the first step.

        Returns:
            Outputs of all steps, (steps x batch x passes, ...), and the state of the network after the last.
        """
        key = self._key(forward, x, state)
        kind = self._kinds.get(key)
        if kind is None:
            output, state = steps(forward, x, state)
            units = forward.units()
            if key is not None and units is not None and shape_of(state) is not None:
                self._kinds[key] = _Kind(units, forward.stack.last)
                self._drop_oldest()
            return output, state
        self._kinds.move_to_end(key)
        given = {"x": x, "state": state, "ahead": forward.ahead(kind.units)}
        if kind.captured is None:
            kind.captured = Captured(lambda held: _traced(steps, twin(), held), given, self._capture)
            self._drop_oldest()
        seen = kind.captured(given)
        forward.ran(seen["rows"], kind.last)
        return seen["output"], seen["state"]

    def _drop_oldest(self) -> None:
        captured = [key for key, kind in self._kinds.items() if kind.captured is not None]
        for key in captured[:-CAPTURES]:
            del self._kinds[key]
        while len(self._kinds) > KINDS:
            self._kinds.popitem(last=False)

    def _key(self, forward: StackedForward, x: Tensor, state: Any) -> Hashable:
        """What tells kinds of sequences apart, None for those that cannot be captured.

        With the modules, and the addresses of all tensors of the model: a capture reads them where they were.
        """
        shapes = shape_of((x, state))
        if len(x) == 1 or shapes is None or torch.is_grad_enabled() or not forward.is_known_ahead:
            return None
        modules = list(self._model.modules())
        if any(has_hooks(module) for module in modules):
            return None
        ways = torch.is_inference_mode_enabled(), torch.is_autocast_enabled(x.device.type)
        made_of = tuple((module, module.training, vars(module).get("forward")) for module in modules)
        held = chain(self._model.parameters(), self._model.buffers())
        return forward.plan, shapes, ways, made_of, tuple((t.data_ptr(), t.shape, t.stride()) for t in held)


def _traced(steps: Steps, forward: StackedForward, given: Tree) -> Tree:
    forward.hold(given["ahead"])
    output, state = steps(forward, given["x"], given["state"])
    return {"output": output, "state": state, "rows": forward.rows()}
