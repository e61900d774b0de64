"""Differential pairs: writing weights to them, and the weights that they hold right after, in one pass each."""

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from noisylearn.kernels.curves import LEAST_US, Noise
from noisylearn.kernels.on_cpu.curves import curve_into, terms_of
from noisylearn.kernels.on_cpu.elementary import F, U, compiled
from noisylearn.kernels.on_cpu.normals import normals_into, words_into

AT_ONCE = 1024  # inputs of a row, whose numbers stay in the nearest cache; a multiple of 4


def program(
    weight: Float32[Tensor, "n_out n_in"], scale: Float32[Tensor, "n_out _"], g_min_us: float, noise: Noise
) -> Float32[Tensor, "2 n_out n_in"]:
    """See `noisylearn.kernels.on_gpu.programming.program`."""
    written = weight.new_empty(2, *weight.shape)
    if weight.numel():
        _program(
            weight.contiguous().numpy(), scale.contiguous().numpy(), F(g_min_us), terms_of(noise.curve),
            noise.key.numpy(), written.numpy(),
        )  # fmt: skip
    return written


def as_read(
    written: Float32[Tensor, "2 n_out n_in"],
    scale: Float32[Tensor, "n_out _"],
    noise: Noise,
    in_us: bool,
    slow_size: float,
    fresh: float,
) -> tuple[Float32[Tensor, "n_out n_in"], Float32[Tensor, "n_out n_in"]]:
    """See `noisylearn.kernels.on_gpu.programming.as_read`."""
    weight, variance = torch.empty_like(written[0]), torch.empty_like(written[0])
    if weight.numel():
        _as_read(
            written.contiguous().numpy(), scale.contiguous().numpy(), terms_of(noise.curve), noise.key.numpy(), in_us,
            F(slow_size), F(fresh), weight.numpy(), variance.numpy(),
        )  # fmt: skip
    return weight, variance


@compiled
def _scale_into(out, scale, row, first, n):  # type: ignore[no-untyped-def]
    for j in range(n):
        out[j] = scale[row, 0] if scale.shape[1] == 1 else scale[row, first + j]


@compiled
def _program(weight, scale, g_min, curve, key, written):  # type: ignore[no-untyped-def]
    """Row by row, in parts; rows of a draw are those of G+, then of G-."""
    n_out, n_in = weight.shape
    size = min(AT_ONCE, -(-n_in // 4) * 4)
    scratch, per_us, sigma, z = np.empty((3, size), F), np.empty(size, F), np.empty(size, F), np.empty(size, F)
    row, block = np.empty(size // 4, U), np.empty(size // 4, U)
    words, numbers = np.empty((4, size // 4), U), np.empty((4, size // 4), F)
    for i in range(n_out):
        for first in range(0, n_in, AT_ONCE):
            n = min(AT_ONCE, n_in - first)
            n_blocks = -(-n // 4)
            _scale_into(per_us, scale, i, first, n)
            for j in range(n_blocks):
                block[j] = U(first // 4 + j)
            for side in range(2):
                g, sign = written[side, i, first : first + n], F(1 - 2 * side)
                for j in range(n):
                    g[j] = max(sign * weight[i, first + j] / per_us[j], F(0)) + g_min
                row[:n_blocks] = U(i + side * n_out)
                words_into(words, row, block, key[0], n_blocks)
                normals_into(z, words, numbers, n_blocks)
                curve_into(sigma, g, curve, scratch, n)
                for j in range(n):
                    g[j] = max(g[j] + sigma[j] * z[j], F(0))


@compiled
def _as_read(written, scale, curve, key, in_us, slow_size, fresh, weight, variance):  # type: ignore[no-untyped-def]
    """Row by row, in parts; rows of a draw are those of G+, then of G-."""
    _, n_out, n_in = written.shape
    size = min(AT_ONCE, -(-n_in // 4) * 4)
    scratch, per_us, relative, z = np.empty((3, size), F), np.empty(size, F), np.empty(size, F), np.empty(size, F)
    pair, squares = np.empty(size, F), np.empty(size, F)
    row, block = np.empty(size // 4, U), np.empty(size // 4, U)
    words, numbers = np.empty((4, size // 4), U), np.empty((4, size // 4), F)
    for i in range(n_out):
        for first in range(0, n_in, AT_ONCE):
            n = min(AT_ONCE, n_in - first)
            n_blocks = -(-n // 4)
            _scale_into(per_us, scale, i, first, n)
            for j in range(n_blocks):
                block[j] = U(first // 4 + j)
            for j in range(n):
                pair[j], squares[j] = F(0), F(0)
            for side in range(2):
                g, sign = written[side, i, first : first + n], F(1 - 2 * side)
                row[:n_blocks] = U(i + side * n_out)
                words_into(words, row, block, key[0], n_blocks)
                normals_into(z, words, numbers, n_blocks)
                curve_into(relative, g, curve, scratch, n)
                for j in range(n):
                    amplitude = g[j] * (relative[j] / max(g[j], F(LEAST_US)) if in_us else relative[j])
                    pair[j] += sign * (g[j] + slow_size * amplitude * z[j])
                    squares[j] += amplitude * amplitude
            for j in range(n):
                weight[i, first + j] = pair[j] * per_us[j]
                variance[i, first + j] = squares[j] * fresh * per_us[j] * per_us[j]
