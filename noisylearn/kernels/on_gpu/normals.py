"""Normal numbers by counter, made where a kernel needs them: those of `noisylearn.ground.philox`."""

import triton
import triton.language as tl


@triton.jit
def normals(key: tl.tensor, row: tl.tensor, block: tl.tensor) -> tl.tensor:
    """Independent numbers ~ N(0, 1) of rows and columns; see `noisylearn.ground.philox.normals`.

    Args:
        key: of the draw, int64; one, or one per row, (rows, 1).
        row: numbers of the rows, (rows, 1).
        block: numbers of blocks of four columns, (1, columns / 4).

    Returns:
        (rows, columns).
    """
    zero = tl.zeros_like(row + block)
    a, b, c, d = tl.philox(key, block + zero, row + zero, zero, zero)
    first, second = _box_muller(a, b)
    third, fourth = _box_muller(c, d)
    return tl.interleave(tl.interleave(first, third), tl.interleave(second, fourth))


@triton.jit
def _box_muller(a: tl.tensor, b: tl.tensor) -> tl.tensor:
    radius, angle = tl.sqrt(-2.0 * tl.log(_in_unit_interval(a))), 6.283185307179586 * _in_unit_interval(b)
    return radius * tl.cos(angle), radius * tl.sin(angle)


@triton.jit
def _in_unit_interval(word: tl.tensor) -> tl.tensor:
    """2^-32 word + 2^-33."""
    return word.to(tl.float32) * 2.3283064365386963e-10 + 1.1641532182693481e-10
