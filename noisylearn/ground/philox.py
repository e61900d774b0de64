"""Random numbers by counter: the Philox 4x32-10 bijection in plain torch, and uniform and normal numbers made of it.

Number (row, column) of a draw is word `column mod 4` of the block at counter (column div 4, row, 0, 0), under the key
of the draw. It can be made alone, in any order, on any machine: kernels make the same numbers where they need them.

Source: J. K. Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
INCREMENTS = 0x9E3779B9, 0xBB67AE85  # of the key, from round to round
ROUNDS = 10
LOW = 0xFFFFFFFF
WORDS = 4
Words = tuple[Tensor, Tensor, Tensor, Tensor]


def philox(counter: Words, key: tuple[Tensor, Tensor]) -> Words:
    """Four random words of 32 bits for every counter.

    Args:
        counter: four words, int64 tensors that broadcast with one another and with the key.
        key: two words.

    Returns:
        Four words, as int64 tensors.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        first, second = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]  # int64 keeps all 64 bits of a product
        c0, c1, c2, c3 = _high(second) ^ c1 ^ k0, second & LOW, _high(first) ^ c3 ^ k1, first & LOW
        k0, k1 = (k0 + INCREMENTS[0]) & LOW, (k1 + INCREMENTS[1]) & LOW
    return c0, c1, c2, c3


def blocks(keys: Int64[Tensor, " keys"], n_rows: int, n_columns: int) -> Words:
    """The words of draws of (rows, columns) numbers each.

    Args:
        keys: of the draws, 64 bits each.
        n_rows: rows of a draw.
        n_columns: columns of a draw.

    Returns:
        Four words, each (keys, rows, columns / 4), rounded up.
    """
    row = torch.arange(n_rows, device=keys.device)[:, None]
    block = torch.arange(-(-n_columns // WORDS), device=keys.device)
    key = keys[:, None, None]
    zero = torch.zeros_like(block)
    return philox((block, row, zero, zero), (key & LOW, _high(key)))


def uniforms(
    keys: Int64[Tensor, " keys"], n_rows: int, n_columns: int, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "keys n_rows n_columns"]:
    """Independent numbers ~ U[0, 1), multiples of 2^-24.

    Args:
        keys: of the draws.
        n_rows: rows of a draw.
        n_columns: columns of a draw.
        dtype: of the numbers.
    """
    words = torch.stack(blocks(keys, n_rows, n_columns), -1)
    return ((words >> 8).to(dtype) * 2.0**-24).flatten(2)[:, :, :n_columns]


def normals(
    keys: Int64[Tensor, " keys"], n_rows: int, n_columns: int, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "keys n_rows n_columns"]:
    """Independent numbers ~ N(0, 1), by the transform of Box and Muller.

        z = sqrt(-2 ln u) (cos 2 pi v, sin 2 pi v),   u, v = 2^-32 word + 2^-33

    of the first two words of a block and of the last two; |z| goes up to 6.7.

    Args:
        keys: of the draws.
        n_rows: rows of a draw.
        n_columns: columns of a draw.
        dtype: of the numbers; in another one they are the same to its rounding.
    """
    a, b, c, d = (word.to(dtype).mul_(2.0**-32).add_(2.0**-33) for word in blocks(keys, n_rows, n_columns))
    return torch.stack([*_box_muller(a, b), *_box_muller(c, d)], -1).flatten(2)[:, :, :n_columns]


def _box_muller(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    radius, angle = u.log_().mul_(-2).sqrt_(), v.mul_(2 * math.pi)
    return radius * angle.cos(), radius * angle.sin()


def _high(word: Tensor) -> Tensor:
    return (word >> 32) & LOW
