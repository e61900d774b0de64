"""Uniform and normal numbers by counter, those of `noisylearn.ground.philox`, many at a time."""

import math

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from noisylearn.ground import philox
from noisylearn.kernels.on_cpu.elementary import F, U, as_float, compiled, cos_sin_of_turns, inlined, log2_32

AT_ONCE = 256  # blocks of four numbers, which stay in the nearest cache
_M0, _M1 = (np.uint64(multiplier) for multiplier in philox.MULTIPLIERS)
_W0, _W1 = (U(increment) for increment in philox.INCREMENTS)
_HALF = np.uint64(32)
_MINUS_2_LN2 = F(-2 * math.log(2))


def normals(
    keys: Int64[Tensor, " keys"], n_rows: int, n_columns: int, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "keys n_rows n_columns"]:
    """See `noisylearn.ground.philox.normals`; what is not float32 is made there."""
    if dtype != torch.float32:
        return philox.normals(keys, n_rows, n_columns, dtype)
    return _drawn(_normals, keys, n_rows, n_columns)


def uniforms(
    keys: Int64[Tensor, " keys"], n_rows: int, n_columns: int, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "keys n_rows n_columns"]:
    """See `noisylearn.ground.philox.uniforms`; what is not float32 is made there."""
    if dtype != torch.float32:
        return philox.uniforms(keys, n_rows, n_columns, dtype)
    return _drawn(_uniforms, keys, n_rows, n_columns)


def _drawn(make, keys: Tensor, n_rows: int, n_columns: int) -> Tensor:  # type: ignore[no-untyped-def]
    n_blocks = -(-n_columns // philox.WORDS)
    out = torch.empty(len(keys), n_rows, philox.WORDS * n_blocks)
    if out.numel():
        make(out.flatten(1).numpy(), keys.numpy(), n_blocks)
    return out if out.shape[2] == n_columns else out[:, :, :n_columns].contiguous()


@compiled
def words_into(words, row, block, key, n):  # type: ignore[no-untyped-def]
    """Ten rounds for n counters (block, row, 0, 0) under one key; `words` is (4, n or more)."""
    low, high = U(key & 0xFFFFFFFF), U((key >> 32) & 0xFFFFFFFF)
    for i in range(n):
        c0, c1, c2, c3 = block[i], row[i], U(0), U(0)
        k0, k1 = low, high
        for _ in range(10):
            first, second = np.uint64(c0) * _M0, np.uint64(c2) * _M1
            c0, c1, c2, c3 = U(U(second >> _HALF) ^ c1 ^ k0), U(second), U(U(first >> _HALF) ^ c3 ^ k1), U(first)
            k0, k1 = U(k0 + _W0), U(k1 + _W1)
        words[0, i], words[1, i], words[2, i], words[3, i] = c0, c1, c2, c3


@inlined
def in_unit_interval(word):  # type: ignore[no-untyped-def]
    """2^-32 word + 2^-33, from both halves of the word: there is no fast conversion of 32 bits without a sign."""
    whole = as_float(U(word >> U(16))) * F(65536) + as_float(U(word & U(0xFFFF)))
    return whole * F(2.0**-32) + F(2.0**-33)


@compiled
def normals_into(out, words, numbers, n):  # type: ignore[no-untyped-def]
    """Normal numbers (4 n) of n counters, by the transform of Box and Muller; `numbers` is memory to work in."""
    for pair in range(0, 4, 2):
        for i in range(n):
            radius = F(math.sqrt(_MINUS_2_LN2 * log2_32(in_unit_interval(words[pair, i]))))
            # The angle less a turn where the word counts as negative.
            cosine, sine = cos_sin_of_turns(as_float(words[pair + 1, i]) * F(2.0**-32) + F(2.0**-33))
            numbers[pair, i], numbers[pair + 1, i] = radius * cosine, radius * sine
    for i in range(n):
        out[4 * i] = numbers[0, i]
        out[4 * i + 1] = numbers[1, i]
        out[4 * i + 2] = numbers[2, i]
        out[4 * i + 3] = numbers[3, i]


@compiled
def _counters_into(row, block, first, n_blocks, n):  # type: ignore[no-untyped-def]
    """Rows and blocks of n counters from `first` on, of rows of so many blocks."""
    r, b = first // n_blocks, first % n_blocks
    for i in range(n):
        row[i], block[i] = U(r), U(b)
        b += 1
        if b == n_blocks:
            r, b = r + 1, 0


@compiled
def _normals(out, keys, n_blocks):  # type: ignore[no-untyped-def]
    row, block, words = np.empty(AT_ONCE, U), np.empty(AT_ONCE, U), np.empty((4, AT_ONCE), U)
    numbers, n = np.empty((4, AT_ONCE), F), out.shape[1] // 4
    for first in range(0, n, AT_ONCE):
        m = min(AT_ONCE, n - first)
        _counters_into(row, block, first, n_blocks, m)
        for k in range(keys.shape[0]):
            words_into(words, row, block, keys[k], m)
            normals_into(out[k, 4 * first : 4 * (first + m)], words, numbers, m)


@compiled
def _uniforms(out, keys, n_blocks):  # type: ignore[no-untyped-def]
    row, block, words = np.empty(AT_ONCE, U), np.empty(AT_ONCE, U), np.empty((4, AT_ONCE), U)
    n = out.shape[1] // 4
    for first in range(0, n, AT_ONCE):
        m = min(AT_ONCE, n - first)
        _counters_into(row, block, first, n_blocks, m)
        for k in range(keys.shape[0]):
            words_into(words, row, block, keys[k], m)
            for i in range(m):
                for j in range(4):
                    out[k, 4 * (first + i) + j] = as_float(U(words[j, i] >> U(8))) * F(2.0**-24)
