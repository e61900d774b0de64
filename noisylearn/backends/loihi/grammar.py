"""Sums of products, the language of the learning engine: parsed, checked and written.

A rule reads like `-4*2^-7*x0*x1*y1 + 4*2^-7*x0*x1*y2`. Each product has an optional mantissa and power of two, exactly
one dependency (x0: the source spiked; y0: the target spiked; u0..u9: every 2^k-th epoch) and factors: the traces x1 x2
y1 y2 y3, the weight w, delay d and tag t, `(factor + constant)` of any of them, sgn() of w, d or t.
"""

import re
from dataclasses import dataclass

from noisylearn.ground.errors import UserError

TRACES = ("x1", "x2", "y1", "y2", "y3")
SYNAPTIC = ("w", "d", "t")
_NAME = "|".join(TRACES + SYNAPTIC)
_SCALE = re.compile(r"2\^([+-]?\d+)|(\d+)(?:\*2\^([+-]?\d+))?")
_FACTOR = re.compile(rf"({_NAME})|\(({_NAME})([+-]\d+)\)|sgn\(({'|'.join(SYNAPTIC)})([+-]\d+)?\)")
_DEPENDENCY = re.compile(r"x0|y0|u\d")


@dataclass(frozen=True)
class Factor:
    """A trace or synaptic variable plus a constant, or the sign of that sum.

    Args:
        variable: x1, x2, y1, y2, y3, w, d or t.
        constant: added to it.
        is_sign: whether only the sign of the sum counts.
    """

    variable: str
    constant: int = 0
    is_sign: bool = False

    def __str__(self) -> str:
        inner = f"{self.variable}{self.constant:+d}" if self.constant else self.variable
        if self.is_sign:
            return f"sgn({inner})"
        return f"({inner})" if self.constant else inner


@dataclass(frozen=True)
class Product:
    """mantissa 2^exponent x dependency x factors.

    Args:
        mantissa: an integer with sign.
        exponent: power of two.
        dependency: x0, y0 or u0 to u9.
        factors: multiplied with one another.
    """

    mantissa: int
    exponent: int
    dependency: str
    factors: tuple[Factor, ...]

    def __str__(self) -> str:
        scale = f"{abs(self.mantissa)}*2^{self.exponent}"
        return f"{'-' if self.mantissa < 0 else ''}{'*'.join([scale, self.dependency, *map(str, self.factors)])}"


def written(products: tuple[Product, ...]) -> str:
    """The products as a rule's text, which `parsed` reads back."""
    first, *others = map(str, products)
    return " ".join([first, *(f"- {text[1:]}" if text.startswith("-") else f"+ {text}" for text in others)])


def parsed(rule: str, mantissa_bits: int = 4, scale_exponent: tuple[int, int] = (-7, 8)) -> tuple[Product, ...]:
    """The products of a rule's text.

    Args:
        rule: the text; white space does not matter.
        mantissa_bits: width of a mantissa, including the sign.
        scale_exponent: smallest and largest power of two.

    Raises:
        UserError: the engine would refuse a part of the text or change it silently, such as a number that is no
            mantissa times a power of two, or a mantissa that does not fit; the message names the part and says what is
            allowed.
    """
    terms = _terms(re.sub(r"\s", "", rule))
    products = tuple(_product(rule, sign, term) for sign, term in terms)
    for product in products:
        _check_scale(rule, product, mantissa_bits, scale_exponent)
    if len({p.dependency for p in products if p.dependency.startswith("u")}) > 1:
        raise _wrong(rule, "several decimations u<k>", "use one k in a rule")
    return products


def _terms(text: str) -> list[tuple[int, str]]:
    """(sign, product) at the top level: not inside brackets, not the sign of an exponent."""
    if not text:
        raise UserError("a learning rule is empty; state at least one product such as 2^-7*x0*x1*y1")
    found, depth, start, sign = [], 0, 0, 1
    for i, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character not in "+-" or depth or (i and text[i - 1] == "^"):
            continue
        if i > start:
            found.append((sign, text[start:i]))
        elif i:
            raise _wrong(text, f"'{text[i - 1 : i + 1]}'", "put one sign between two products")
        start, sign = i + 1, -1 if character == "-" else 1
    return [*found, (sign, text[start:])]


def _product(rule: str, sign: int, term: str) -> Product:
    """One product of a rule's text."""
    scale = _SCALE.match(term)
    mantissa, exponent, rest = 1, 0, term
    if scale is not None and term[scale.end() : scale.end() + 1] in ("*", ""):
        mantissa, exponent = int(scale[2] or 1), int(scale[1] or scale[3] or 0)
        rest = term[scale.end() + 1 :]
    dependencies, factors = [], []
    for part in rest.split("*"):
        match = _FACTOR.fullmatch(part)
        if _DEPENDENCY.fullmatch(part):
            dependencies.append(part)
        elif match is not None:
            variable, constant = match[1] or match[2] or match[4], match[3] or match[5] or "0"
            factors.append(Factor(variable, int(constant), match[4] is not None))
        else:
            raise _wrong(rule, f"'{part}' in '{term}'", f"factors are {_NAME.replace('|', ' ')} or (factor + constant)")
    if len(dependencies) != 1:
        raise _wrong(rule, f"product '{term}' with {len(dependencies)} dependencies", "give each one of x0, y0 or u<k>")
    return Product(sign * mantissa, exponent, dependencies[0], tuple(factors))


def _check_scale(rule: str, product: Product, mantissa_bits: int, scale_exponent: tuple[int, int]) -> None:
    """Refuse a mantissa or a power of two that the engine does not have."""
    largest = 2 ** (mantissa_bits - 1) - 1
    if not 1 <= abs(product.mantissa) <= largest:
        raise _wrong(rule, f"mantissa {product.mantissa}", f"the engine keeps 1 to {largest} unchanged")
    low, high = scale_exponent
    if not low <= product.exponent <= high:
        raise _wrong(rule, f"power of two {product.exponent}", f"the engine has {low} to {high}")


def _wrong(rule: str, what: str, remedy: str) -> UserError:
    """The error for a part of a rule that is not in the language."""
    return UserError(f"learning rule '{rule}': {what} is not in the engine's language; {remedy}")
