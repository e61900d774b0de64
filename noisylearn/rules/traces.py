"""Eligibility traces of nodes: perturbations of earlier steps, to which the losses of later steps are credited."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from noisylearn.chips.interface import Memory
from noisylearn.chips.readings import Readings
from noisylearn.rules.in_time import InTime

TRACED = ("input", "activity", "noise")


def traced(past: Memory, readings: Readings, window: int, batch: int) -> Memory:
    """Append the readings of a segment to a trace, and drop those that are forgotten.

    Args:
        past: trace of the steps before; empty at the first step.
        readings: of one step, or of several.
        window: length of the trace, the first step of the segment included.
        batch: samples in a step.

    Returns:
        Name of a layer -> "input", "activity" and "noise" of its steps, each (passes, steps x batch, ...), in order of
        time.
    """
    kept = (window - 1) * batch
    found: Memory = {}
    for name, reading in readings.layers.items():
        now = {key: getattr(reading, key) for key in TRACED if getattr(reading, key) is not None}
        before = past.get(name)
        found[name] = now if before is None else {k: torch.cat([_last(before[k], kept), now[k]], 1) for k in now}
    return found


def _last(rows: Tensor, n: int) -> Tensor:
    """The last n rows of every pass, or all if there are fewer."""
    return rows[:, max(rows.shape[1] - n, 0) :]


def with_trace(readings: Readings, past: Memory) -> Readings:
    """Replace the readings of one step by those of all steps of a trace.

    Args:
        readings: of the last step.
        past: the trace, this step included.

    Returns:
        Readings with steps x batch rows.
    """
    layers = {name: replace(reading, **past[name], weight_noise=[]) for name, reading in readings.layers.items()}
    return replace(readings, layers=layers)


def credited_now(losses: Float[Tensor, "passes batch"], time: InTime, past: Memory) -> Float[Tensor, "passes rows"]:
    """Credit the losses of a step to the perturbations of all steps of a trace.

    The perturbations of step t - k get n_steps decay^k l_t; the factor n_steps makes up for the mean over the rows of
    an estimate.

    Args:
        losses: of step t.
        time: gives the decay.
        past: the trace, this step included.

    Returns:
        Losses for the rows of the trace, in order of time.
    """
    n_steps = next(iter(past.values()))["activity"].shape[1] // losses.shape[1]
    ages = torch.arange(n_steps - 1, -1, -1, device=losses.device, dtype=losses.dtype)
    shares = (time.decay**ages).repeat_interleave(losses.shape[1]) * n_steps
    return losses.repeat(1, n_steps) * shares
