"""Steps of a stacked forward, recorded when they come again and played again from then on."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from noisylearn.graphs import Recorder, Recording, Tree, shape_of
from noisylearn.read_afterwards import has_hooks
from noisylearn.stacked import Forward, Units

KEPT = 4  # kinds of sequences, by plan and shape, whose recordings are held: each holds the readings of all its steps
Steps = Callable[[Forward, Tensor, Any], tuple[Tensor, Any]]  # outputs of all steps, and the state after the last


@dataclass
class _Kind:
    """Sequences that one recording serves: what their first run taught, and, from the second on, the recording."""

    units: Units
    last: str
    recording: Recording | None = None


class RecordedSteps:
    """Runs `steps` plainly at first, records them when they come again, and then plays the recording.

    Noise is drawn before, from the same streams as plainly, and weights are copied to where the recording finds them.
    Steps stay plain where an output has to be known first: with noise that depends on what is read, hooks, spread
    neurons, or a state that holds more than tensors.
    """

    def __init__(self, model: nn.Module, steps: Steps, record: Recorder) -> None:
        self._model, self._steps, self._record = model, steps, record
        self._kinds: OrderedDict[Hashable, _Kind] = OrderedDict()

    def run(self, forward: Forward, twin: Callable[[], Forward], x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """`steps` of a forward, or what they would give. twin: makes another such forward, to be recorded."""
        key = self._key(forward, x, state)
        kind = self._kinds.get(key)
        if key is None or kind is None:
            found = self._steps(forward, x, state)
            if key is not None:
                self._kinds[key] = _Kind(forward.units(), forward.progress.last)
                if len(self._kinds) > KEPT:
                    self._kinds.popitem(last=False)
            return found
        self._kinds.move_to_end(key)
        given = {"x": x, "state": state, "ahead": forward.ahead(kind.units, x)}
        if kind.recording is None:
            kind.recording = Recording(lambda held: self._traced(twin(), held), given, self._record)
        seen = kind.recording(given)
        forward.ran(seen["rows"], kind.last)
        return seen["output"], seen["state"]

    def _traced(self, forward: Forward, given: Tree) -> Tree:
        forward.hold(given["ahead"])
        output, state = self._steps(forward, given["x"], given["state"])
        return {"output": output, "state": state, "rows": forward.rows()}

    def _key(self, forward: Forward, x: Tensor, state: Any) -> Hashable:
        """What tells kinds of sequences apart, None for those that cannot be recorded.

        With the addresses of all tensors of the model: a recording reads them where they were.
        """
        shapes = shape_of((x, state))
        if len(x) == 1 or shapes is None or torch.is_grad_enabled() or not forward.is_known_ahead:
            return None
        if any(has_hooks(module) for module in self._model.modules()):
            return None
        held = chain(self._model.parameters(), self._model.buffers())
        return forward.plan, shapes, self._model.training, tuple((t.data_ptr(), t.shape, t.stride()) for t in held)
