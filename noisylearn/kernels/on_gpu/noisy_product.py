"""Products with weights that are noisy at every read, for all passes of a plan, in one pass over inputs and weights."""

import triton
import triton.language as tl
from jaxtyping import Float32, Int64
from torch import Tensor

from noisylearn.kernels.on_gpu.normals import normals

Blocks = tuple[int, int, int]  # rows, outputs, inputs; 16 or more each, powers of two
BLOCKS: Blocks = (32, 32, 32)


def noisy_product(
    x: Float32[Tensor, "_ batch n_in"],
    weight: Float32[Tensor, "n_out n_in"],
    bias: Float32[Tensor, " n_out"] | None,
    variance: Float32[Tensor, "n_out n_in"],
    keys: Int64[Tensor, " passes"],
    blocks: Blocks = BLOCKS,
) -> Float32[Tensor, "passes batch n_out"]:
    """Pre-activations with independent Gaussian noise of every weight at every read, lumped at the output.

        y_i = sum_j w_ij x_j + b_i + sqrt(max(sum_j v_ij x_j^2, 0)) z_i,   z_i ~ N(0, 1)

    Products are taken in float32 (no tf32, whose rounding drowns differences of losses). The noise is made in the
    kernel and not kept; z is that of `CounterDraws` under these keys.

    Args:
        x: inputs, (1 or passes, batch, inputs); 1 where all passes see the same.
        weight: effective weights.
        bias: added to every read; None for none.
        variance: of every weight; may be expanded.
        keys: of the draws of the passes.
        blocks: sizes of the tiles; any give the same noise.

    Returns:
        Laid out in memory by sample, then by pass.
    """
    (seen, batch, n_in), n_out, n_passes = x.shape, len(weight), len(keys)
    out = x.new_empty(batch, n_passes, n_out).transpose(0, 1)
    n_rows = seen * batch
    if not n_rows or not n_out:
        return out
    _noisy_product[(triton.cdiv(n_rows, blocks[0]), triton.cdiv(n_out, blocks[1]))](
        x, weight, weight if bias is None else bias, variance, keys, out,
        n_rows, batch, n_in, n_out, n_passes // seen,
        *x.stride(), *weight.stride(), *variance.stride(), out.stride(0), out.stride(1),
        bias is not None, *blocks,
    )  # fmt: skip
    return out


@triton.jit
def _noisy_product(
    x: tl.tensor, weight: tl.tensor, bias: tl.tensor, variance: tl.tensor, keys: tl.tensor, out: tl.tensor,
    n_rows: tl.tensor, batch: tl.tensor, n_in: tl.tensor, n_out: tl.tensor, n_draws: tl.tensor,
    x_pass: tl.tensor, x_sample: tl.tensor, x_in: tl.tensor,
    w_out: tl.tensor, w_in: tl.tensor, v_out: tl.tensor, v_in: tl.tensor,
    o_pass: tl.tensor, o_sample: tl.tensor,
    has_bias: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_OUT: tl.constexpr, BLOCK_IN: tl.constexpr,
) -> None:  # fmt: skip
    """One tile of rows (passes x samples that differ in their inputs) and outputs, with all draws for them."""
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)[:, None]
    column = tl.program_id(1) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)[None, :]
    first, sample = (row // batch).to(tl.int64), row % batch
    x_row = x + first * x_pass + sample.to(tl.int64) * x_sample
    mean = tl.zeros((BLOCK_ROWS, BLOCK_OUT), tl.float32)
    spread = tl.zeros((BLOCK_ROWS, BLOCK_OUT), tl.float32)
    for start in range(0, n_in, BLOCK_IN):
        across, down = start + tl.arange(0, BLOCK_IN)[None, :], start + tl.arange(0, BLOCK_IN)[:, None]
        inside = (down < n_in) & (column < n_out)
        xs = tl.load(x_row + across * x_in, (row < n_rows) & (across < n_in), 0.0)
        ws = tl.load(weight + column * w_out + down * w_in, inside, 0.0)
        vs = tl.load(variance + column * v_out + down * v_in, inside, 0.0)
        mean = tl.dot(xs, ws, mean, input_precision="ieee")
        spread = tl.dot(xs * xs, vs, spread, input_precision="ieee")
    if has_bias:
        mean += tl.load(bias + column, column < n_out, 0.0)
    deviation = tl.sqrt(tl.maximum(spread, 0.0))
    block = tl.program_id(1) * (BLOCK_OUT // 4) + tl.arange(0, BLOCK_OUT // 4)[None, :]
    for draw in range(n_draws):
        key = tl.load(keys + first + draw, row < n_rows, 0)
        place = out + (first + draw) * o_pass + sample.to(tl.int64) * o_sample + column
        tl.store(place, mean + deviation * normals(key, sample, block), (row < n_rows) & (column < n_out))
