"""The learning engine: a rule's sum of products applied to the integer weights of one connection."""

from collections.abc import Mapping

import numpy as np

from noisylearn.cores import Cores
from noisylearn.errors import UserError
from noisylearn.loihi.arithmetic import Integers
from noisylearn.loihi.grammar import Factor, Product
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
        for product in rule:
            for factor in product.factors:
                if factor.variable not in ("x1", "y1", "y2", "y3", "w") or factor.is_sign or product.dependency != "x0":
                    raise UserError(f"product {product}: the emulator has x0 with factors of x1, y1, y2, y3 and w only")

    def learn(self, x1: Integers, x0: Integers, y: Mapping[str, Integers], saturation: Saturation) -> None:
        """One learning phase: traces x1 (sources,) where x0 is true, y: "y1".. -> (targets,)."""
        drawn = self._thresholds.next()
        rows = np.flatnonzero(self._acts(y))
        columns = np.flatnonzero(x0 & self._source_acts(x1))
        if not len(rows) or not len(columns):
            return
        block = np.ix_(rows, columns)
        weights = self.weights[block].astype(np.int32)
        accumulator = weights << FRACTION_BITS
        values = {"x1": x1[columns][None, :]} | {name: trace[rows][:, None] for name, trace in y.items()}
        for product in self.rule:
            change = self._change(product, values, weights, saturation)
            accumulator = saturation.clip(self._place("learning accumulator"), accumulator + change, *self._limits())
        threshold = drawn[block] if isinstance(drawn, np.ndarray) else drawn
        fraction = accumulator & (2**FRACTION_BITS - 1)
        rounded = (accumulator >> FRACTION_BITS) + (threshold < fraction)
        bound = 2**self.cores.weight_bits
        self.weights[block] = saturation.clip(self._place("weights"), rounded, -bound, bound - 1)

    def _acts(self, y: Mapping[str, Integers]) -> Integers:
        """Targets whose weights some product may change: one is left out only if a factor of it is zero there."""
        n_targets = self.weights.shape[0]
        acts = np.zeros(n_targets, dtype=bool)
        for product in self.rule:
            here = np.ones(n_targets, dtype=bool)
            for factor in product.factors:
                if factor.variable in y:
                    here &= y[factor.variable] + factor.constant != 0
            acts |= here
        return acts

    def _source_acts(self, x1: Integers) -> Integers:
        """Sources whose weights some product may change."""
        acts = np.zeros(x1.shape, dtype=bool)
        for product in self.rule:
            here = np.ones(x1.shape, dtype=bool)
            for factor in product.factors:
                if factor.variable == "x1":
                    here &= x1 + factor.constant != 0
            acts |= here
        return acts

    def _change(
        self, product: Product, values: Mapping[str, Integers], weights: Integers, saturation: Saturation
    ) -> Integers:
        """What a product adds to the accumulator: (rows, columns), or what broadcasts to it."""
        total, width = np.full((1, 1), product.mantissa, dtype=np.int32), self.cores.mantissa_bits
        for factor in product.factors:
            bits = self._bits(factor)
            value = (weights if factor.variable == "w" else values[factor.variable]) + factor.constant
            total = total * np.clip(value, -(2**bits), 2**bits - 1).astype(np.int32)
            width += bits
        total = total >> max(0, width - self.cores.learning_accumulator_bits)
        up = product.exponent - self.cores.scale_exponent[0]
        raised = total.astype(np.int64) << up if up else total
        return saturation.clip(self._place("products"), raised, *self._limits())

    def _bits(self, factor: Factor) -> int:
        return self.cores.weight_bits + 1 if factor.variable == "w" else self.cores.trace_bits

    def _limits(self) -> tuple[int, int]:
        return -(2**self.cores.learning_accumulator_bits) - 1, 2**self.cores.learning_accumulator_bits - 1

    def _place(self, what: str) -> str:
        return f"{what} of {self.name}"
