"""A rate network in a file: populations and connections by their numbers, checked against one another on reading."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, Self

from pydantic import Field, PlainValidator, model_validator

from noisylearn.backends.netlist.rate import ACTIVATIONS, INPUT, Array, Connection, Decorrelator, Netlist, Population
from noisylearn.ground.stored import Name, Stored, must, numbers

Size = Annotated[int, Field(ge=1)]
Matrix = Annotated[Array, PlainValidator(numbers(dims=2))]
Vector = Annotated[Array, PlainValidator(numbers(dims=1))]


class _Decorrelation(Stored):
    matrix: Matrix
    rate: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Population(Stored):
    name: Name
    size: Size
    activation: Annotated[str, must(lambda name: name in ACTIVATIONS, f"none of {', '.join(ACTIVATIONS)}")]
    decorrelation: _Decorrelation | None = None

    @model_validator(mode="after")
    def _has_its_size(self) -> Self:
        if self.decorrelation is not None and self.decorrelation.matrix.shape != (self.size, self.size):
            raise ValueError(f"decorrelation of another size than {self.size}")
        return self


class _Connection(Stored):
    source: Name
    target: Name
    weight: Matrix
    bias: Vector | None = None
    delayed: bool
    layer: Name
    first_column: Annotated[int, Field(ge=0)]
    end_column: Size


class StoredNetlist(Stored):
    """A chain of populations, each fed by the one before and, where it recurs, by itself one step later."""

    populations: dict[str, _Population]
    connections: dict[str, _Connection]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        populations, connections = _in_order(self.populations), _in_order(self.connections)
        if (
            len(populations) < 2
            or populations[0].name != INPUT
            or len({p.name for p in populations}) < len(populations)
        ):
            raise ValueError("the populations are no input with others after it, each with a name of its own")
        for below, population in pairwise(populations):
            _check_connections(below, population, [c for c in connections if c.target == population.name])
        if len({c.layer for c in connections if not c.delayed}) < len(populations) - 1:
            raise ValueError("a layer is there twice")
        if any(c.target not in {p.name for p in populations[1:]} for c in connections):
            raise ValueError("a connection ends nowhere")
        return self

    def netlist(self) -> Netlist:
        """The netlist, as `Netlist.tree` wrote it."""
        populations = [
            Population(p.name, p.size, p.activation, p.decorrelation and Decorrelator(**vars(p.decorrelation)))
            for p in _in_order(self.populations)
        ]
        connections = [
            Connection(c.source, c.target, c.weight, c.bias, c.delayed, c.layer, slice(c.first_column, c.end_column))
            for c in _in_order(self.connections)
        ]
        return Netlist(tuple(populations), tuple(connections))


def _in_order(numbered: dict[str, Any]) -> list[Any]:
    """Records in the order of their numbers. Raises ValueError where one is missing."""
    if set(numbered) != {str(i) for i in range(len(numbered))}:
        raise ValueError("the numbers have a gap")
    return [numbered[str(i)] for i in range(len(numbered))]


def _check_connections(below: _Population, population: _Population, found: Sequence[_Connection]) -> None:
    """Raises ValueError unless a population is fed by the one below, and by itself after that where it recurs."""
    ends = [(below.name, population.name, False, below.size, 0)]
    if len(found) > 1:
        ends.append((population.name, population.name, True, population.size, below.size))
    if len(found) != len(ends) or len({c.layer for c in found}) > 1:
        raise ValueError(f"population {population.name} is not fed by one layer")
    for c, (source, target, delayed, size, first) in zip(found, ends, strict=True):
        if (c.source, c.target, c.delayed) != (source, target, delayed):
            raise ValueError(f"connection {c.source} to {c.target} in the place of {source} to {target}")
        fits = c.weight.shape == (population.size, size) and (c.first_column, c.end_column) == (first, first + size)
        if not fits or (c.bias is not None and (delayed or c.bias.shape != (population.size,))):
            raise ValueError(f"connection {c.source} to {c.target} does not have the sizes of its ends")
