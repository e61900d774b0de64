"""Logarithm, exponential and sine in float32 that a compiler can take eight at a time; calls of a library it cannot."""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

F, U = np.float32, np.uint32
# Multiplications and additions may be joined; nothing else is rearranged, so that one machine gives one result.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}

compiled: Callable[..., Any] = numba.njit(cache=True, **OPTIONS)  # called from Python, kept on disk
inlined: Callable[..., Any] = numba.njit(inline="always", **OPTIONS)


def _converted(result: Any, argument: Any, how: str, to: ir.Type) -> Callable[..., Any]:
    """One instruction of the compiler as a function of Numba, whose own conversions go by way of 64 bits."""

    def of(typing: Any, x: Any) -> tuple[Any, Callable[..., Any]]:
        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, how)(arguments[0], to)

        return result(argument), emit

    return intrinsic(of)


bits_of = _converted(types.uint32, types.float32, "bitcast", ir.IntType(32))
float_of_bits = _converted(types.float32, types.uint32, "bitcast", ir.FloatType())
as_float = _converted(types.float32, types.uint32, "sitofp", ir.FloatType())  # words from 2^31 on as two's complement
as_word = _converted(types.uint32, types.float32, "fptosi", ir.IntType(32))  # negative ones as two's complement

_SQRT_HALF = U(0x3F3504F3)  # bits of sqrt(1/2)
_ONE = U(0x3F800000)
_TO_WHOLE = F(1.5 * 2**23)  # added and subtracted, it rounds to a whole number


@inlined
def log2_32(x):  # type: ignore[no-untyped-def]
    """Binary logarithm of x > 0 that is no subnormal number, to 3e-7 of it or of 1."""
    t = U(bits_of(x) + U(_ONE - _SQRT_HALF))
    m = float_of_bits(U(U(t & U(0x7FFFFF)) + _SQRT_HALF)) - F(1)
    y = F(-0.14580650627613068)
    y = y * m + F(0.23404015600681305)
    y = y * m + F(-0.24887758493423462)
    y = y * m + F(0.2870990037918091)
    y = y * m + F(-0.36023959517478943)
    y = y * m + F(0.48092323541641235)
    y = y * m + F(-0.7213528156280518)
    y = y * m + F(1.4426950216293335)
    return y * m + (as_float(U(t >> U(23))) - F(127))


@inlined
def exp2_32(x):  # type: ignore[no-untyped-def]
    """2^x, to 3e-7 of it; arguments beyond -126 and 127 count as these."""
    x = min(max(x, F(-126)), F(127))
    n = (x + _TO_WHOLE) - _TO_WHOLE
    r = x - n
    y = F(0.0013276457320898771)
    y = y * r + F(0.009675540961325169)
    y = y * r + F(0.05550713464617729)
    y = y * r + F(0.24022120237350464)
    y = y * r + F(0.6931469440460205)
    y = y * r + F(1)
    return y * float_of_bits(U(U(as_word(n) + U(127)) << U(23)))


@inlined
def cos_sin_of_turns(w):  # type: ignore[no-untyped-def]
    """Cosine and sine of 2 pi w, |w| <= 1/2, to 1e-6."""
    z = w * w
    c = F(6.529609203338623)
    c = c * z + F(-25.968311309814453)
    c = c * z + F(60.16783142089844)
    c = c * z + F(-85.45016479492188)
    c = c * z + F(64.93911743164062)
    c = c * z + F(-19.73920440673828)
    c = c * z + F(1)
    s = F(-12.473665237426758)
    s = s * z + F(41.34439468383789)
    s = s * z + F(-76.61480712890625)
    s = s * z + F(81.5999755859375)
    s = s * z + F(-41.341590881347656)
    s = s * z + F(6.283185005187988)
    return c, s * w
