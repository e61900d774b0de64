"""A network as populations of rate neurons and the connections between them, all numpy in float64.

`from_model` takes a torch model apart; nothing here knows of rules or backends.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from noisylearn.ground.errors import UserError
from noisylearn.networks import RNN
from noisylearn.networks.decorrelation import Decorrelation

Array = NDArray[np.float64]
INPUT = "input"


@dataclass(frozen=True, eq=False)
class Connection:
    """Weights from one population, or the input, to another.

    Args:
        source: population where it starts.
        target: population where it ends.
        weight: (target units, source units).
        bias: of the target's units, (target units,), or None.
        delayed: whether it carries the activities of the step before.
        layer: name of the torch layer that it is, or is a part of.
        columns: which columns of that layer's weight it is.
    """

    source: str
    target: str
    weight: Array
    bias: Array | None
    delayed: bool
    layer: str
    columns: slice

    @property
    def name(self) -> str:
        """Both ends, as in "input to hidden1"."""
        return f"{self.source} to {self.target}"


@dataclass(frozen=True, eq=False)
class Decorrelator:
    """x* = R x of a population's activities, before any connection takes them.

    Args:
        matrix: R, (units, units).
        rate: learning rate of R.
    """

    matrix: Array
    rate: float


@dataclass(frozen=True, eq=False)
class Population:
    """Neurons f(a).

    Args:
        name: of the population.
        size: number of neurons.
        activation: name of f in `ACTIVATIONS`.
        decorrelation: of their activities, or None.
    """

    name: str
    size: int
    activation: str = "identity"
    decorrelation: Decorrelator | None = None


@dataclass(frozen=True, eq=False)
class Netlist:
    """Populations and the connections between them.

    Args:
        populations: from the input (first; it has no weights) to the readout (last).
        connections: in order.
    """

    populations: tuple[Population, ...]
    connections: tuple[Connection, ...]

    @property
    def is_recurrent(self) -> bool:
        """Whether a connection is delayed."""
        return any(connection.delayed for connection in self.connections)

    @property
    def neurons(self) -> tuple[Population, ...]:
        """Every population except the input."""
        return self.populations[1:]

    def into(self, population: str) -> list[Connection]:
        """The connections that end at a population."""
        return [connection for connection in self.connections if connection.target == population]

    def population(self, name: str) -> Population:
        """The population of this name."""
        return next(p for p in self.populations if p.name == name)

    def tree(self) -> dict[str, Any]:
        """As a tree of numbers, strings and arrays, for a file; `stored.StoredNetlist` reads it."""
        return {"populations": _trees(self.populations), "connections": _trees(self.connections)}


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "identity": lambda a: a,
    "tanh": np.tanh,
    "relu": lambda a: np.maximum(a, 0.0),
    "leaky-relu": lambda a: np.where(a > 0, a, 0.01 * a),
}
_NAMES: dict[type[nn.Module], str] = {
    nn.Identity: "identity", nn.Tanh: "tanh", nn.ReLU: "relu", nn.LeakyReLU: "leaky-relu",
}  # fmt: skip
SLOPES: dict[str, Callable[[Array], Array]] = {
    "identity": np.ones_like,
    "tanh": lambda a: 1 - np.tanh(a) ** 2,
    "relu": lambda a: np.where(a > 0, 1.0, 0.0),
    "leaky-relu": lambda a: np.where(a > 0, 1.0, 0.01),
}


def _trees(records: Sequence[Any]) -> dict[str, Any]:
    """Records by their number, without what is None."""
    return {str(i): _tree(record) for i, record in enumerate(records)}


def _tree(record: Any) -> dict[str, Any]:
    """A record as a tree."""
    tree: dict[str, Any] = {}
    for key, value in vars(record).items():
        if isinstance(value, slice):
            tree |= {"first_column": value.start, "end_column": value.stop}
        elif value is not None:
            tree[key] = _tree(value) if isinstance(value, Decorrelator) else value
    return tree


def from_model(model: nn.Module) -> Netlist:
    """The netlist of an nn.Sequential of Linear layers and element-wise functions, or of an nl.networks.RNN.

    Args:
        model: the network.

    Raises:
        UserError: a module has no form as populations and connections; the message names it.
    """
    refuse_own_forward(model, RNN, nn.Sequential)
    if isinstance(model, RNN):
        return _of_rnn(model)
    if isinstance(model, nn.Sequential):
        return _of_sequence(model)
    raise UserError(
        f"{type(model).__name__} cannot be expressed as populations and connections: only nn.Sequential of Linear "
        "layers and activations, and nl.networks.RNN can; a chain of them goes into one with its weights, as in "
        "nn.Sequential(model.hidden, nn.ReLU(), model.readout)"
    )


def refuse_own_forward(model: nn.Module, *kinds: type[nn.Module]) -> None:
    """Check that modules compute what their class computes, which is what can be taken apart.

    Args:
        model: the network.
        kinds: classes of modules to check.

    Raises:
        UserError: a module of one of these classes has a forward of its own.
    """
    for name, module in model.named_modules():
        for kind in kinds:
            if isinstance(module, kind) and type(module).forward is not kind.forward:
                raise UserError(
                    f"module '{name or 'model'}' ({type(module).__name__}) has a forward of its own, which cannot be "
                    f"expressed as populations and connections; use a plain {kind.__name__}"
                )


def _of_sequence(model: nn.Sequential) -> Netlist:
    """The netlist of a chain of layers."""
    every = model.named_modules(remove_duplicate=False)  # an activation may occur in several places
    modules = [(name, module) for name, module in every if not list(module.children())]
    linear = [module for _, module in modules if isinstance(module, nn.Linear)]
    if not linear:
        raise UserError("the model has no Linear layer: there is nothing to connect")
    if len(set(linear)) < len(linear):
        raise UserError("a Linear layer occurs twice in the model: give each occurrence a layer of its own")
    populations, connections = [Population(INPUT, linear[0].in_features)], []
    for name, module in modules:
        last = populations[-1]
        if isinstance(module, nn.Linear):
            connections.append(_connection(name, module, last.name, name))
            populations.append(Population(name, module.out_features))
        elif isinstance(module, Decorrelation) and not module.channels_first:
            populations[-1] = replace(last, decorrelation=_decorrelator(module))
        elif isinstance(module, nn.Flatten) and not connections:
            continue
        elif type(module) in _NAMES and connections and last.activation == "identity" and not last.decorrelation:
            populations[-1] = replace(last, activation=_activation(name, module))
        else:
            raise UserError(
                f"layer '{name}' ({type(module).__name__}) cannot be expressed as populations and connections; use "
                f"Linear, each followed by one of {', '.join(kind.__name__ for kind in _NAMES)}"
            )
    return Netlist(tuple(populations), tuple(connections))


def _of_rnn(model: RNN) -> Netlist:
    """The netlist of a recurrent network."""
    populations, connections, below = [], [], INPUT
    n_below = model.get_submodule("hidden1").get_parameter("weight").shape[1] - model.sizes[0]
    populations.append(Population(INPUT, n_below))
    activation = _activation("activation", model.activation)
    for i, size in enumerate(model.sizes, start=1):
        name = f"hidden{i}"
        layer, decorrelation = getattr(model, name), getattr(model, f"decorrelation{i}", None)
        for source, delayed, columns in (
            (below, False, slice(0, n_below)),
            (name, True, slice(n_below, n_below + size)),
        ):
            whole = _connection(name, layer, source, name)
            part = replace(whole, weight=whole.weight[:, columns].copy(), delayed=delayed, columns=columns)
            connections.append(replace(part, bias=None) if delayed else part)
        decorrelator = None if decorrelation is None else _decorrelator(decorrelation)
        populations.append(Population(name, size, activation, decorrelator))
        below, n_below = name, size
    connections.append(_connection("readout", model.readout, below, "readout"))
    populations.append(Population("readout", model.readout.out_features))
    return Netlist(tuple(populations), tuple(connections))


def _connection(layer: str, module: nn.Linear, source: str, target: str) -> Connection:
    """A Linear layer as a connection."""
    weight = module.weight.detach().cpu().double().numpy().copy()
    bias = None if module.bias is None else module.bias.detach().cpu().double().numpy().copy()
    return Connection(source, target, weight, bias, False, layer, slice(0, weight.shape[1]))


def _decorrelator(module: Decorrelation) -> Decorrelator:
    """A torch decorrelation as arrays."""
    return Decorrelator(module.matrix.detach().cpu().double().numpy().copy(), module.rate)


def _activation(name: str, module: nn.Module) -> str:
    """Name of an activation."""
    if isinstance(module, nn.LeakyReLU) and module.negative_slope != 0.01:
        raise UserError(f"layer '{name}': LeakyReLU({module.negative_slope:g}) has no counterpart; use a slope of 0.01")
    if type(module) not in _NAMES:
        kind = type(module).__name__
        raise UserError(f"layer '{name}' ({kind}) has no counterpart; use {', '.join(_NAMES.values())}")
    return _NAMES[type(module)]
