"""Differential pairs: writing weights to them, and the weights that they hold right after, in one pass each."""

import triton
import triton.language as tl
from jaxtyping import Float32
from torch import Tensor

from noisylearn.kernels import curves
from noisylearn.kernels.curves import Noise
from noisylearn.kernels.on_gpu.curves import value_at
from noisylearn.kernels.on_gpu.normals import normals

Blocks = tuple[int, int]  # outputs, inputs; powers of two, 4 inputs or more
BLOCKS: Blocks = (8, 64)
LEAST_US = tl.constexpr(curves.LEAST_US)


def program(
    weight: Float32[Tensor, "n_out n_in"],
    scale: Float32[Tensor, "n_out _"],
    g_min_us: float,
    noise: Noise,
    blocks: Blocks = BLOCKS,
) -> Float32[Tensor, "2 n_out n_in"]:
    """Conductances of differential pairs as they are written, in microsiemens.

        G+- = max(T+- + sigma(T+-) z, 0),   T+- = max(+-w / scale, 0) + g_min,   z ~ N(0, 1)

    Args:
        weight: to be written.
        scale: weight per microsiemens, of every weight or of a row of them.
        g_min_us: smallest conductance.
        noise: error of the written conductance, sigma in microsiemens.
        blocks: sizes of the tiles; any give the same numbers.
    """
    n_out, n_in = weight.shape
    scale = scale.expand(n_out, n_in)
    written = weight.new_empty(2, n_out, n_in)
    if weight.numel():
        curve = noise.curve
        _program[(triton.cdiv(n_out, blocks[0]), triton.cdiv(n_in, blocks[1]))](
            weight, scale, written, noise.key, curve.numbers, curve.per_us, curve.largest, curve.gain,
            n_out, n_in, *weight.stride(), *scale.stride(), g_min_us, curve.shape, *blocks,
        )  # fmt: skip
    return written


def as_read(
    written: Float32[Tensor, "2 n_out n_in"],
    scale: Float32[Tensor, "n_out _"],
    noise: Noise,
    in_us: bool,
    slow_size: float,
    fresh: float,
    blocks: Blocks = BLOCKS,
) -> tuple[Float32[Tensor, "n_out n_in"], Float32[Tensor, "n_out n_in"]]:
    """Weights of differential pairs that did not drift, and their variance at every read.

        w = scale (I+ - I-),   I = G + s A z,   z ~ N(0, 1),   variance = scale^2 f (A+^2 + A-^2)

    Args:
        written: conductances G, in microsiemens.
        scale: weight per microsiemens, of every weight or of a row of them.
        noise: 1/f noise: A / G as a curve, and the key of its slow part z.
        in_us: whether the curve is A itself, in microsiemens.
        slow_size: s, of the slow part in units of A.
        fresh: f, variance of the part that is fresh at every read, in units of A^2.
        blocks: sizes of the tiles; any give the same numbers.
    """
    _, n_out, n_in = written.shape
    scale = scale.expand(n_out, n_in)
    weight, variance = written.new_empty(n_out, n_in), written.new_empty(n_out, n_in)
    if weight.numel():
        curve = noise.curve
        _as_read[(triton.cdiv(n_out, blocks[0]), triton.cdiv(n_in, blocks[1]))](
            written, scale, weight, variance, noise.key, curve.numbers, curve.per_us, curve.largest, curve.gain,
            n_out, n_in, *written.stride(), *scale.stride(), slow_size, fresh, curve.shape, in_us, *blocks,
        )  # fmt: skip
    return weight, variance


@triton.jit
def _program(
    weight: tl.tensor, scale: tl.tensor, written: tl.tensor,
    key: tl.tensor, numbers: tl.tensor, per_us: tl.tensor, largest: tl.tensor, gain: tl.tensor,
    n_out: tl.tensor, n_in: tl.tensor, w_out: tl.tensor, w_in: tl.tensor, c_out: tl.tensor, c_in: tl.tensor,
    g_min_us: tl.tensor, shape: tl.constexpr, BLOCK_OUT: tl.constexpr, BLOCK_IN: tl.constexpr,
) -> None:  # fmt: skip
    """One tile of weights; rows of a draw are those of G+, then of G-."""
    row = tl.program_id(0) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)[:, None]
    column = tl.program_id(1) * BLOCK_IN + tl.arange(0, BLOCK_IN)[None, :]
    block = tl.program_id(1) * (BLOCK_IN // 4) + tl.arange(0, BLOCK_IN // 4)[None, :]
    inside, long_row = (row < n_out) & (column < n_in), row.to(tl.int64)
    signed = tl.load(weight + long_row * w_out + column * w_in, inside, 0.0)
    signed = signed / tl.load(scale + long_row * c_out + column * c_in, inside, 1.0)
    for side in tl.static_range(2):
        target = tl.maximum(signed if side == 0 else -signed, 0.0) + g_min_us
        of_draw = row + side * n_out
        sigma = value_at(target, numbers, per_us, largest, gain, shape)
        conductance = tl.maximum(target + sigma * normals(tl.load(key), of_draw, block), 0.0)
        tl.store(written + of_draw.to(tl.int64) * n_in + column, conductance, inside)


@triton.jit
def _as_read(
    written: tl.tensor, scale: tl.tensor, weight: tl.tensor, variance: tl.tensor,
    key: tl.tensor, numbers: tl.tensor, per_us: tl.tensor, largest: tl.tensor, gain: tl.tensor,
    n_out: tl.tensor, n_in: tl.tensor, g_side: tl.tensor, g_out: tl.tensor, g_in: tl.tensor,
    c_out: tl.tensor, c_in: tl.tensor, slow_size: tl.tensor, fresh: tl.tensor,
    shape: tl.constexpr, in_us: tl.constexpr, BLOCK_OUT: tl.constexpr, BLOCK_IN: tl.constexpr,
) -> None:  # fmt: skip
    """One tile of weights; rows of a draw are those of G+, then of G-."""
    row = tl.program_id(0) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)[:, None]
    column = tl.program_id(1) * BLOCK_IN + tl.arange(0, BLOCK_IN)[None, :]
    block = tl.program_id(1) * (BLOCK_IN // 4) + tl.arange(0, BLOCK_IN // 4)[None, :]
    inside, long_row = (row < n_out) & (column < n_in), row.to(tl.int64)
    pair = tl.zeros((BLOCK_OUT, BLOCK_IN), tl.float32)
    squares = tl.zeros((BLOCK_OUT, BLOCK_IN), tl.float32)
    for side in tl.static_range(2):
        g = tl.load(written + side * g_side + long_row * g_out + column * g_in, inside, 0.0)
        relative = value_at(g, numbers, per_us, largest, gain, shape)
        if in_us:
            relative = relative / tl.maximum(g, LEAST_US)
        amplitude = g * relative
        now = g + slow_size * amplitude * normals(tl.load(key), row + side * n_out, block)
        pair += now if side == 0 else -now
        squares += amplitude * amplitude
    per_us_of_weight = tl.load(scale + long_row * c_out + column * c_in, inside, 1.0)
    place = long_row * n_in + column
    tl.store(weight + place, pair * per_us_of_weight, inside)
    tl.store(variance + place, squares * fresh * per_us_of_weight * per_us_of_weight, inside)
