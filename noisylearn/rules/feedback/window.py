"""The steps before a segment, to whose activities the errors of the segment are credited as well."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from noisylearn.chips.interface import Memory
from noisylearn.chips.readings import Plan, Readings
from noisylearn.chips.segments import Segment, Trajectory
from noisylearn.rules.observation import Observation
from noisylearn.rules.traces import traced, with_trace


@dataclass(frozen=True)
class Window:
    """The steps of a segment, and some before it.

    Args:
        readings: of all steps, merged along the batch in order of time.
        losses: of the segment, (passes, rows).
        segment: inputs of all steps, from where the reference pass stood before the first.
    """

    readings: Readings
    losses: Float[Tensor, "passes rows"]
    segment: Segment

    @property
    def n_rows(self) -> int:
        """Rows of all steps."""
        return self.readings.output.shape[1]

    @property
    def n_rows_now(self) -> int:
        """Rows of the segment itself."""
        return self.losses.shape[1]


def observed(past: Memory, seen: Observation, plan: Plan, n_steps: int) -> tuple[Window, Memory]:
    """Run the passes of a plan, and put the steps before in front of what they show.

    Args:
        past: steps before, as the call before returned them; empty at the start of a sequence.
        seen: runs the passes.
        plan: which passes.
        n_steps: steps to keep, with the first of the segment.

    Returns:
        The window, and what is to be kept for the next one.
    """
    readings, losses = seen.of(plan)
    if not seen.segment.in_time or (seen.starts and seen.ends):
        return Window(readings, losses, seen.segment), {}
    past = _appended({} if seen.starts else past, readings, seen, plan, n_steps)
    whole = replace(with_trace(readings, past["layers"]), output=past["output"])
    segment = Segment(past["inputs"], True, Trajectory(_start(past, readings.end.network)))
    return Window(whole, losses, segment), {} if seen.ends else past


def _appended(past: Memory, readings: Readings, seen: Observation, plan: Plan, n_steps: int) -> Memory:
    """The last `n_steps` - 1 steps before, and those of the segment."""
    inputs, batch = seen.segment.inputs, seen.segment.batch
    leaves, _ = tree_flatten(seen.started[plan].network)
    states = {str(i): leaf[:: plan.n_passes].unsqueeze(0) for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)}
    layers = traced(past.get("layers", {}), readings, n_steps, batch)
    if not past:
        return {"output": readings.output, "inputs": inputs, "layers": layers, "states": states}
    last = slice(-(n_steps - 1 + len(inputs)), None)
    rows = slice(-(n_steps - 1 + len(inputs)) * batch, None)
    return {
        "output": torch.cat([past["output"], readings.output], 1)[:, rows],
        "inputs": torch.cat([past["inputs"], inputs])[last],
        "layers": layers,
        "states": {i: torch.cat([past["states"][i], s])[last] if i in past["states"] else s for i, s in states.items()},
    }


def _start(past: Memory, like: Any) -> Any:
    """State of the network before the first of the kept steps; None at rest, where a sequence starts."""
    states = past["states"]
    if not states or len(next(iter(states.values()))) < len(past["inputs"]):
        return None
    leaves, form = tree_flatten(like)
    return tree_unflatten([states[str(i)][0] if str(i) in states else leaf for i, leaf in enumerate(leaves)], form)
