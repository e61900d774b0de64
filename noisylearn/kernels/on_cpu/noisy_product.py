"""Products with weights that are noisy at every read: both products by torch, all noise added in one pass."""

import math

import numpy as np
from jaxtyping import Float32, Int64
from torch import Tensor, nn

from noisylearn.kernels.on_cpu.elementary import F, U, compiled
from noisylearn.kernels.on_cpu.normals import normals_into, words_into


def noisy_product(
    x: Float32[Tensor, "_ batch n_in"],
    weight: Float32[Tensor, "n_out n_in"],
    bias: Float32[Tensor, " n_out"] | None,
    variance: Float32[Tensor, "n_out n_in"],
    keys: Int64[Tensor, " passes"],
) -> Float32[Tensor, "passes batch n_out"]:
    """See `noisylearn.kernels.on_gpu.noisy_product.noisy_product`."""
    mean, spread = nn.functional.linear(x, weight, bias), nn.functional.linear(x.square(), variance)
    out = mean.new_empty(x.shape[1], len(keys), len(weight))
    if out.numel():
        _add_noise(mean.contiguous().numpy(), spread.contiguous().numpy(), keys.numpy(), out.numpy())
    return out.transpose(0, 1)


@compiled
def _add_noise(mean, spread, keys, out):  # type: ignore[no-untyped-def]
    """out[sample, pass] = mean + sqrt(max(spread, 0)) z of the pass; rows of a draw are the samples."""
    batch, n_passes, n_out = out.shape
    n_blocks = -(-n_out // 4)
    row, block, words = np.empty(n_blocks, U), np.empty(n_blocks, U), np.empty((4, n_blocks), U)
    numbers, z = np.empty((4, n_blocks), F), np.empty(4 * n_blocks, F)
    for j in range(n_blocks):
        block[j] = U(j)
    for sample in range(batch):
        row[:] = U(sample)
        for k in range(n_passes):
            seen = min(k, mean.shape[0] - 1)
            words_into(words, row, block, keys[k], n_blocks)
            normals_into(z, words, numbers, n_blocks)
            for j in range(n_out):
                deviation = F(math.sqrt(max(spread[seen, sample, j], F(0))))
                out[sample, k, j] = mean[seen, sample, j] + deviation * z[j]
