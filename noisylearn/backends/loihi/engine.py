"""The learning engine: a sum of products applied to the integer weights of one connection."""

from collections.abc import Mapping
from typing import final

import numpy as np

from noisylearn.backends.loihi.arithmetic import Integers
from noisylearn.backends.loihi.grammar import Product
from noisylearn.backends.loihi.rounding import FRACTION_BITS, Thresholds
from noisylearn.backends.loihi.saturation import Saturation
from noisylearn.ground.errors import UserError
from noisylearn.profiles.cores import Cores


@final
class Engine:
    """Integer weights w of one connection, changed once an epoch by a sum of products.

    In units of 2^-7 of a weight's LSB,

        A = 2^7 w + sum over products of clip(((m f_1 f_2 ...) >> s) << (e + 7))
        w <- clip(floor(A / 2^7) + (threshold < A mod 2^7))

    Every factor f is clipped to its width, s is the number of bits by which the widths of all factors and of the
    mantissa exceed 15, A is clipped to 16 bits after each product, and w to 9 bits.

    Args:
        name: of the connection, for the counts of what was clipped.
        weights: initial weights, integers (targets, sources).
        rule: the products.
        cores: widths of weights, traces and accumulators, in bits.
        thresholds: what the fraction A mod 2^7 is compared with.

    Attributes:
        weights: present weights, integers (targets, sources).
        as_floats: the same in float64, in which they and every sum over them are exact; products of floats are faster.

    Raises:
        UserError: a product with a factor that this emulator does not implement: traces other than x1 and y1 to y3,
            delays and tags.

    Source: LearningRuleApplierBitApprox of lava-nc 0.10.0 (lava.magma.core.learning), with which the tests compare it.
    """

    def __init__(
        self, name: str, weights: Integers, rule: tuple[Product, ...], cores: Cores, thresholds: Thresholds
    ) -> None:
        self.name, self.rule, self.cores = name, rule, cores
        self._kind = np.int16 if cores.weight_bits <= 12 else np.int32
        self.weights = weights.astype(self._kind)
        self.as_floats = weights.astype(np.float64)
        self._thresholds = thresholds
        self._of_traces = all(f.variable != "w" for product in rule for f in product.factors)
        self._merges = len({_all_but_post(product) for product in rule}) == 1
        for product in rule:
            for factor in product.factors:
                if factor.variable not in ("x1", "y1", "y2", "y3", "w") or factor.is_sign or product.dependency != "x0":
                    raise UserError(f"product {product}: the emulator implements x0 with x1, y1, y2, y3 and w only")

    def learn(self, x1: Integers, x0: Integers, y: Mapping[str, Integers], saturation: Saturation) -> None:
        """One learning phase: change the weights in place.

        Args:
            x1: presynaptic traces, integers (sources,).
            x0: which sources spiked, bool (sources,).
            y: name of a postsynaptic trace, "y1" to "y3" -> integers (targets,).
            saturation: counts what is clipped.
        """
        drawn = self._thresholds.next()
        sources = self.rule[:1] if self._merges else self.rule
        pre = [self._factors(product, {"x1": x1}) * x0 for product in sources]
        post = [self._factors(product, y) * product.mantissa for product in self.rule]
        rows, columns = _indices(post), _indices(pre)
        if not len(rows) or not len(columns):
            return
        block = rows if 10 * len(columns) > len(x0) else np.ix_(rows, columns)  # whole rows are copied faster
        chosen = slice(None) if block is rows else columns
        weights = self.weights[block]
        change = self._change(weights, [p[rows] for p in post], [p[chosen] for p in pre], saturation)
        threshold = drawn[block] if isinstance(drawn, np.ndarray) else drawn
        rounded_up = (change.astype(np.uint8) & (2**FRACTION_BITS - 1)) > threshold
        weights += (change >> FRACTION_BITS).astype(self._kind, copy=False)
        weights += rounded_up
        bound = 2**self.cores.weight_bits
        weights = saturation.clip(self._place("weights"), weights, -bound, bound - 1)
        self.weights[block] = weights
        self.as_floats[block] = weights

    def _change(self, weights: Integers, post: list[Integers], pre: list[Integers], saturation: Saturation) -> Integers:
        """A - 2^7 w.

        Where no two products act on the same weight their sum is one product of vectors, and no accumulator is clipped
        that the clipping of the weight would not bring to the same value.
        """
        if self._merges:
            if sum(p != 0 for p in post).max() <= 1:
                return self._product(self.rule[0], weights, sum(post[1:], post[0]), pre[0], saturation)
            pre = pre * len(post)
        start = weights.astype(np.int32) << FRACTION_BITS
        accumulator = start
        for product, post_factor, pre_factor in zip(self.rule, post, pre, strict=True):
            accumulator = accumulator + self._product(product, weights, post_factor, pre_factor, saturation)
            accumulator = saturation.clip(self._place("learning accumulator"), accumulator, *self._limits)
        return accumulator - start

    def _factors(self, product: Product, traces: Mapping[str, Integers]) -> Integers:
        """Product of the factors that are among these traces, each clipped to its width."""
        bound = 2**self.cores.trace_bits
        found = None
        for f in product.factors:
            if f.variable in traces:
                trace = traces[f.variable]
                if f.constant:
                    trace = np.minimum(np.maximum(trace + f.constant, -bound), bound - 1)
                found = trace if found is None else found * trace
        return np.ones_like(next(iter(traces.values()))) if found is None else found

    def _product(
        self, product: Product, weights: Integers, post: Integers, pre: Integers, saturation: Saturation
    ) -> Integers:
        """What a product adds to the accumulator, (targets, sources)."""
        width = self.cores.mantissa_bits
        up = product.exponent - self.cores.scale_exponent[0]
        largest = int(np.abs(post).max()) * int(np.abs(pre).max())
        kind = np.int16 if largest << up < 2**15 and self._of_traces else np.int64
        total = np.multiply.outer(post.astype(kind), pre.astype(kind))
        for f in product.factors:
            if f.variable == "w":
                bound = 2 ** (self.cores.weight_bits + 1)
                total *= np.clip(weights.astype(kind) + f.constant, -bound, bound - 1)
            width += self.cores.weight_bits + 1 if f.variable == "w" else self.cores.trace_bits
        total >>= max(0, width - self.cores.learning_accumulator_bits)
        total <<= up
        if kind is np.int16:
            return total
        return saturation.clip(self._place("products"), total, *self._limits).astype(np.int32)

    @property
    def _limits(self) -> tuple[int, int]:
        """Smallest and largest number that the accumulator holds."""
        return -(2**self.cores.learning_accumulator_bits) - 1, 2**self.cores.learning_accumulator_bits - 1

    def _place(self, what: str) -> str:
        """Name under which clipped numbers are counted."""
        return f"{what} of {self.name}"


def _all_but_post(product: Product) -> tuple[object, ...]:
    """Everything of a product except its mantissa and the factors of the target neuron."""
    factors = tuple(f for f in product.factors if f.variable in ("x1", "w"))
    return product.exponent, len(product.factors), factors


def _indices(factors: list[Integers]) -> Integers:
    """Where at least one factor is not zero."""
    acts = factors[0] != 0
    for factor in factors[1:]:
        acts |= factor != 0
    return np.flatnonzero(acts)
