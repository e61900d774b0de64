"""A recurrent layer along all steps of a sequence in one launch; its weights are read once and stay in the cache."""

import torch
import triton
import triton.language as tl
from jaxtyping import Float32
from torch import Tensor

ROWS, SOURCES = 16, 16  # of a block, and of one product: the fewest that a product takes
OPTIONS = {"num_warps": 8, "num_stages": 1}


def recurrent(
    drive: Float32[Tensor, "time rows units"],
    weight: Float32[Tensor, "units units"],
    start: Float32[Tensor, "rows units"],
) -> tuple[Float32[Tensor, "time rows units"], Float32[Tensor, "time rows units"]]:
    """Tanh units along a sequence.

        a_t = drive_t + R x_{t-1},   x_t = tanh(a_t)

    Products are taken in float32, no tf32. Every row is one trajectory: a sample in one pass.

    Args:
        drive: what the units get from outside, with their noise.
        weight: R.
        start: x_0.

    Returns:
        Pre-activations a_t and states x_t of all steps.
    """
    n_steps, n_rows, n_units = drive.shape
    activities, states = (torch.empty_like(drive, memory_format=torch.contiguous_format) for _ in range(2))
    if drive.numel():
        _recurrent[(triton.cdiv(n_rows, ROWS),)](
            drive.contiguous(), weight, start.contiguous(), activities, states, n_steps, n_rows, n_units,
            *weight.stride(), ROWS, max(SOURCES, triton.next_power_of_2(n_units)), SOURCES, **OPTIONS,
        )  # fmt: skip
    return activities, states


@triton.jit
def _recurrent(
    drive: tl.tensor, weight: tl.tensor, start: tl.tensor, activities: tl.tensor, states: tl.tensor,
    n_steps: tl.tensor, n_rows: tl.tensor, n_units: tl.tensor, w_out: tl.tensor, w_in: tl.tensor,
    BLOCK_ROWS: tl.constexpr, BLOCK_UNITS: tl.constexpr, BLOCK_SOURCES: tl.constexpr,
) -> None:  # fmt: skip
    """Some rows, all units, all steps; a step reads the states that the one before left in memory."""
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)[:, None]
    unit = tl.arange(0, BLOCK_UNITS)[None, :]
    line, inside = row.to(tl.int64) * n_units, (row < n_rows) & (unit < n_units)
    before = start
    for _ in range(n_steps):
        activity = tl.load(drive + line + unit, inside, 0.0)
        for first in range(0, n_units, BLOCK_SOURCES):
            across, down = first + tl.arange(0, BLOCK_SOURCES)[None, :], first + tl.arange(0, BLOCK_SOURCES)[:, None]
            seen = tl.load(before + line + across, (row < n_rows) & (across < n_units), 0.0)
            held = tl.load(weight + unit * w_out + down * w_in, (unit < n_units) & (down < n_units), 0.0)
            activity = tl.dot(seen, held, activity, input_precision="ieee")
        tl.store(activities + line + unit, activity, inside)
        tl.store(states + line + unit, _tanh(activity), inside)
        tl.debug_barrier()  # all threads of the block have stored before any of them reads
        before = states
        drive, activities, states = drive + n_rows * n_units, activities + n_rows * n_units, states + n_rows * n_units


@triton.jit
def _tanh(x: tl.tensor) -> tl.tensor:
    """By an exponential; near zero, where that loses digits, by the series, to a relative 5e-8."""
    square = x * x
    series = 1.0 + square * (-0.33333334 + square * (0.13333334 + square * (-0.053968254 + square * 0.021869488)))
    size = tl.minimum(tl.abs(x), 20.0)
    far = 1.0 - 2.0 / (tl.exp(2.0 * size) + 1.0)
    return tl.where(size < 0.3, x * series, tl.where(x < 0, -far, far))
