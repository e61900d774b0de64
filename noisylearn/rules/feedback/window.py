"""The steps before a segment, to whose activities the errors of the segment are credited as well."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from noisylearn.chips.interface import Memory
from noisylearn.chips.readings import Plan, Readings
from noisylearn.chips.segments import Segment, Trajectory
from noisylearn.rules.observation import Observation


@dataclass(frozen=True)
class Window:
    """The steps of a segment, and some before it.

    Args:
        readings: of all steps, merged along the batch in order of time.
        losses: of the segment, (passes, rows).
        segment: inputs of all steps, from where the reference pass stood before the first.
        n_before: steps before the segment.
    """

    readings: Readings
    losses: Float[Tensor, "passes rows"]
    segment: Segment
    n_before: int = 0

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
    now = _kept(readings, seen.segment, seen.started[plan].network, plan)
    past = _appended({} if seen.starts else past, now, n_steps)
    layers = {name: replace(r, **past["layers"][name], noise=None) for name, r in readings.layers.items()}
    whole = replace(readings, output=past["output"].flatten(1, 2), layers=_merged(layers))
    n_before = len(past["inputs"]) - seen.segment.n_steps
    segment = Segment(past["inputs"], True, Trajectory(_start(past, readings.end.network)))
    return Window(whole, losses, segment, n_before), {} if seen.ends else past


def _kept(readings: Readings, segment: Segment, before: Any, plan: Plan) -> Memory:
    """What is kept of a segment: everything with an axis of time, the second in readings and the first elsewhere."""
    steps = (segment.n_steps, segment.batch)
    layers = {
        name: {"input": r.input.unflatten(1, steps), "activity": r.activity.unflatten(1, steps)}
        for name, r in readings.layers.items()
    }
    leaves, _ = tree_flatten(before)
    states = {str(i): leaf[:: plan.n_passes].unsqueeze(0) for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)}
    return {"output": readings.output.unflatten(1, steps), "inputs": segment.inputs, "layers": layers, "states": states}


def _appended(past: Memory, now: Memory, n_steps: int) -> Memory:
    """The last steps of both: as many as the segment has, and `n_steps` - 1 before."""
    if not past:
        return now
    n_now = len(now["inputs"])
    last = slice(-(n_steps - 1 + n_now), None)
    return {
        "output": torch.cat([past["output"], now["output"]], 1)[:, last],
        "inputs": torch.cat([past["inputs"], now["inputs"]])[last],
        "layers": tree_map(lambda a, b: torch.cat([a, b], 1)[:, last], past["layers"], now["layers"]),
        "states": {
            i: torch.cat([past["states"][i], s])[last] if i in past["states"] else s for i, s in now["states"].items()
        },
    }


def _start(past: Memory, like: Any) -> Any:
    """State of the network before the first of the kept steps; None at rest, where a sequence starts."""
    states = past["states"]
    if not states or len(next(iter(states.values()))) < len(past["inputs"]):
        return None
    leaves, form = tree_flatten(like)
    return tree_unflatten([states[str(i)][0] if str(i) in states else leaf for i, leaf in enumerate(leaves)], form)


def _merged(layers: Mapping[str, Any]) -> dict[str, Any]:
    """Readings with steps and batch as one axis."""
    return {n: replace(r, input=r.input.flatten(1, 2), activity=r.activity.flatten(1, 2)) for n, r in layers.items()}
