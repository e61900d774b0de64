"""Eligibility traces of nodes: what perturbed them in the steps before, for the losses of the steps to come."""

from dataclasses import replace

import torch
from torch import Tensor

from noisylearn.chips.interface import Memory
from noisylearn.chips.readings import Readings
from noisylearn.rules.in_time import InTime

TRACED = ("input", "activity", "noise")


def traced(past: Memory, readings: Readings, time: InTime, batch: int) -> Memory:
    """The readings of this step behind those of the steps before, as far back as anything is left of them.

    Args:
        past: what this function gave at the step before; empty at the first.
        readings: of one step.
        time: whose decay says how far back.
        batch: samples of a step.

    Returns:
        Name of a layer -> "input", "activity" and "noise" of its steps, each (passes, steps x batch, ...).
    """
    kept = (time.trace_window - 1) * batch
    found: Memory = {}
    for name, reading in readings.layers.items():
        now = {key: getattr(reading, key) for key in TRACED if getattr(reading, key) is not None}
        before = past.get(name)
        found[name] = now if before is None else {k: torch.cat([before[k][:, -kept:], now[k]], 1) for k in now}
    return found


def with_trace(readings: Readings, past: Memory) -> Readings:
    """The readings of all steps of a trace in the place of those of one step."""
    layers = {name: replace(reading, **past[name], weight_noise=[]) for name, reading in readings.layers.items()}
    return replace(readings, layers=layers)


def credited_now(losses: Tensor, time: InTime, past: Memory) -> Tensor:
    """What the perturbations of all steps of a trace are credited with by the losses of this one.

    dl_t to the perturbations of step t - k: decay^k dl_t, times the number of steps, since estimates are means.

    Args:
        losses: of this step, (passes, batch).
        time: whose decay it is.
        past: the trace, this step included.

    Returns:
        (passes, steps of the trace x batch).
    """
    n_steps = next(iter(past.values()))["activity"].shape[1] // losses.shape[1]
    ages = torch.arange(n_steps - 1, -1, -1, device=losses.device, dtype=losses.dtype)
    shares = (time.decay**ages).repeat_interleave(losses.shape[1]) * n_steps
    return losses.repeat(1, n_steps) * shares
