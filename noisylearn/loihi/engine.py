"""The learning engine: a rule's sum of products applied to the integer weights of one connection."""

from collections.abc import Mapping

import numpy as np

from noisylearn.cores import Cores
from noisylearn.errors import UserError
from noisylearn.loihi.arithmetic import Integers
from noisylearn.loihi.grammar import Product
from noisylearn.loihi.rounding import FRACTION_BITS, Thresholds
from noisylearn.loihi.saturation import Saturation


class Engine:
    """Weights w (targets, sources) of one connection, changed once an epoch by a sum of products.

    In units of 2^-7 of a weight's LSB, A = 2^7 w + sum over products of clip(((m prod f) >> s) << (e + 7)), where every
    factor f is clipped to its width, s is what the widths of all factors and of the mantissa exceed 15 bits by, and A is
    clipped to 16 bits after each product; then w = floor(A / 2^7) + (threshold < A mod 2^7), clipped to 9 bits.

    Weights are kept as float64, in which they and every sum over them are exact, for the speed of products.
    Raises UserError for a factor that this engine has not: traces other than x1 and y1..y3, delays and tags.
    """

    def __init__(
        self, name: str, weights: Integers, rule: tuple[Product, ...], cores: Cores, thresholds: Thresholds
    ) -> None:
        self.name, self.rule, self.cores = name, rule, cores
        self.weights = weights.astype(np.float64)
        self._thresholds = thresholds
        self._merges = len({_all_but_post(product) for product in rule}) == 1
        for product in rule:
            for factor in product.factors:
                if factor.variable not in ("x1", "y1", "y2", "y3", "w") or factor.is_sign or product.dependency != "x0":
                    raise UserError(f"product {product}: the emulator has x0 with factors of x1, y1, y2, y3 and w only")

    def learn(self, x1: Integers, x0: Integers, y: Mapping[str, Integers], saturation: Saturation) -> None:
        """One learning phase: traces x1 (sources,) where x0 is true, y: "y1".. -> (targets,)."""
        drawn = self._thresholds.next()
        pre = [self._factors(product, {"x1": x1}) * x0 for product in self.rule]
        post = [self._factors(product, y) * product.mantissa for product in self.rule]
        rows, columns = _indices(post), _indices(pre)
        if not len(rows) or not len(columns):
            return
        block = rows if 2 * len(columns) > len(x0) else np.ix_(rows, columns)  # whole rows are copied faster
        chosen = slice(None) if block is rows else columns
        weights = self.weights[block].astype(np.int32)
        accumulator = self._accumulated(weights, [p[rows] for p in post], [p[chosen] for p in pre], saturation)
        threshold = drawn[block] if isinstance(drawn, np.ndarray) else drawn
        fraction = accumulator & (2**FRACTION_BITS - 1)
        accumulator >>= FRACTION_BITS
        accumulator += threshold < fraction
        bound = 2**self.cores.weight_bits
        self.weights[block] = saturation.clip(self._place("weights"), accumulator, -bound, bound - 1)

    def _accumulated(
        self, weights: Integers, post: list[Integers], pre: list[Integers], saturation: Saturation
    ) -> Integers:
        """A, before it is rounded.

        Where no two products act on the same weight their sum is one product of vectors, and no accumulator is clipped
        that the clipping of the weight would not bring to the same value.
        """
        accumulator = weights << FRACTION_BITS
        if self._merges and (np.count_nonzero(post, axis=0) <= 1).all():
            accumulator += self._change(self.rule[0], weights, sum(post[1:], post[0]), pre[0], saturation)
            return accumulator
        for product, post_factor, pre_factor in zip(self.rule, post, pre, strict=True):
            accumulator = accumulator + self._change(product, weights, post_factor, pre_factor, saturation)
            accumulator = saturation.clip(self._place("learning accumulator"), accumulator, *self._limits)
        return accumulator

    def _factors(self, product: Product, traces: Mapping[str, Integers]) -> Integers | int:
        """The factors of a product that are among these traces, each clipped to its width."""
        bound = 2**self.cores.trace_bits
        found: Integers | int = 1
        for f in product.factors:
            if f.variable in traces:
                trace = traces[f.variable] + f.constant if f.constant else traces[f.variable]
                found = found * np.minimum(np.maximum(trace, -bound), bound - 1)
        return found if isinstance(found, np.ndarray) else np.ones_like(next(iter(traces.values())))

    def _change(
        self, product: Product, weights: Integers, post: Integers, pre: Integers, saturation: Saturation
    ) -> Integers:
        """What a product adds to the accumulator, (targets, sources)."""
        width = self.cores.mantissa_bits
        total = np.multiply.outer(post.astype(np.int32), pre.astype(np.int32))
        for f in product.factors:
            if f.variable == "w":
                bound = 2 ** (self.cores.weight_bits + 1)
                total *= np.clip(weights + f.constant, -bound, bound - 1)
            width += self.cores.weight_bits + 1 if f.variable == "w" else self.cores.trace_bits
        total >>= max(0, width - self.cores.learning_accumulator_bits)
        up = product.exponent - self.cores.scale_exponent[0]
        raised = total.astype(np.int64) << up if up else total
        return saturation.clip(self._place("products"), raised, *self._limits).astype(np.int32, copy=False)

    @property
    def _limits(self) -> tuple[int, int]:
        return -(2**self.cores.learning_accumulator_bits) - 1, 2**self.cores.learning_accumulator_bits - 1

    def _place(self, what: str) -> str:
        return f"{what} of {self.name}"


def _all_but_post(product: Product) -> tuple[object, ...]:
    """What a product has besides its mantissa and the factors of its target."""
    factors = tuple(f for f in product.factors if f.variable in ("x1", "w"))
    return product.exponent, len(product.factors), factors


def _indices(factors: list[Integers]) -> Integers:
    """Where some factor is not zero."""
    acts = factors[0] != 0
    for factor in factors[1:]:
        acts |= factor != 0
    return np.flatnonzero(acts)
