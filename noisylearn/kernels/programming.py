"""Writing weights to differential pairs, with all effects of a write, in one pass over the weights."""

from typing import NamedTuple

import triton
import triton.language as tl
from jaxtyping import Float32, Int64
from torch import Tensor

from noisylearn.kernels.curves import CurveNumbers, value_at
from noisylearn.kernels.normals import normals

Blocks = tuple[int, int]  # outputs, inputs; powers of two, 4 inputs or more
BLOCKS: Blocks = (8, 64)
LEAST_US = tl.constexpr(1e-6)  # conductance that an amplitude in microsiemens is divided by


class Noise(NamedTuple):
    """Gaussian noise of every device, made in the kernel.

    Args:
        curve: its size, as a curve of the conductance.
        key: of the draw, (1,).
    """

    curve: CurveNumbers
    key: Int64[Tensor, " 1"]


class Written(NamedTuple):
    """What the devices of a layer hold after a write, each for both devices of a pair.

    Args:
        conductance_us: as it was written.
        relative: amplitude of the slow noise relative to the conductance; None without such noise.
        slow: the slow noise, N(0, 1); None likewise.
    """

    conductance_us: Float32[Tensor, "2 n_out n_in"]
    relative: Float32[Tensor, "2 n_out n_in"] | None
    slow: Float32[Tensor, "1 2 n_out n_in"] | None


def program(
    weight: Float32[Tensor, "n_out n_in"],
    scale: Float32[Tensor, "n_out _"],
    g_min_us: float,
    write: Noise | None,
    slow: Noise | None,
    in_us: bool = False,
    blocks: Blocks = BLOCKS,
) -> Written:
    """Conductances of differential pairs as they are written.

        G+- = max(T+- + sigma(T+-) z, 0),   T+- = max(+-w / scale, 0) + g_min,   z ~ N(0, 1)

    Args:
        weight: to be written.
        scale: weight per microsiemens, of every weight or of a row of them.
        g_min_us: smallest conductance.
        write: error of the written conductance, sigma in microsiemens; None to write the target itself.
        slow: slow noise whose amplitude depends on what was written; None for none.
        in_us: whether the curve of the slow noise gives its amplitude in microsiemens, not relative to the conductance.
        blocks: sizes of the tiles; any give the same numbers.
    """
    n_out, n_in = weight.shape
    scale = scale.expand(n_out, n_in)
    written = weight.new_empty(2, n_out, n_in)
    relative, fixed = (weight.new_empty(shape) if slow else None for shape in ((2, n_out, n_in), (1, 2, n_out, n_in)))
    if weight.numel():
        _program[(triton.cdiv(n_out, blocks[0]), triton.cdiv(n_in, blocks[1]))](
            weight, scale, written, *(written if one is None else one for one in (relative, fixed)),
            *_arguments(write, written), *_arguments(slow, written),
            n_out, n_in, *weight.stride(), *scale.stride(), g_min_us,
            *((noise.curve.shape if noise else ()) for noise in (write, slow)), in_us, *blocks,
        )  # fmt: skip
    return Written(written, relative, fixed)


def _arguments(noise: Noise | None, unused: Tensor) -> tuple[Tensor, Tensor, float, float, float]:
    if noise is None:
        return unused, unused, 0.0, 0.0, 0.0
    return noise.key, noise.curve.numbers, noise.curve.per_us, noise.curve.largest, noise.curve.gain


@triton.jit
def _program(
    weight: tl.tensor, scale: tl.tensor, written: tl.tensor, relative: tl.tensor, slow: tl.tensor,
    w_key: tl.tensor, w_numbers: tl.tensor, w_per_us: tl.tensor, w_largest: tl.tensor, w_gain: tl.tensor,
    s_key: tl.tensor, s_numbers: tl.tensor, s_per_us: tl.tensor, s_largest: tl.tensor, s_gain: tl.tensor,
    n_out: tl.tensor, n_in: tl.tensor, w_out: tl.tensor, w_in: tl.tensor, c_out: tl.tensor, c_in: tl.tensor,
    g_min_us: tl.tensor,
    write_shape: tl.constexpr, slow_shape: tl.constexpr, in_us: tl.constexpr,
    BLOCK_OUT: tl.constexpr, BLOCK_IN: tl.constexpr,
) -> None:  # fmt: skip
    """One tile of weights; a curve without pieces stands for no noise. Rows of a draw are those of G+, then of G-."""
    row = tl.program_id(0) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)[:, None]
    column = tl.program_id(1) * BLOCK_IN + tl.arange(0, BLOCK_IN)[None, :]
    block = tl.program_id(1) * (BLOCK_IN // 4) + tl.arange(0, BLOCK_IN // 4)[None, :]
    inside, long_row = (row < n_out) & (column < n_in), row.to(tl.int64)
    signed = tl.load(weight + long_row * w_out + column * w_in, inside, 0.0)
    signed = signed / tl.load(scale + long_row * c_out + column * c_in, inside, 1.0)
    for side in tl.static_range(2):
        target = tl.maximum(signed if side == 0 else -signed, 0.0) + g_min_us
        of_draw = row + side * n_out
        place = of_draw.to(tl.int64) * n_in + column
        if len(write_shape) > 0:
            sigma = value_at(target, w_numbers, w_per_us, w_largest, w_gain, write_shape)
            target = tl.maximum(target + sigma * normals(tl.load(w_key), of_draw, block), 0.0)
        tl.store(written + place, target, inside)
        if len(slow_shape) > 0:
            amplitude = value_at(target, s_numbers, s_per_us, s_largest, s_gain, slow_shape)
            if in_us:
                amplitude = amplitude / tl.maximum(target, LEAST_US)
            tl.store(relative + place, amplitude, inside)
            tl.store(slow + place, normals(tl.load(s_key), of_draw, block), inside)
