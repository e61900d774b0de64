"""A NIR graph as a torch network: with exactly the file's values, or refused by an error that names the node."""

import re
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from noisylearn.backends.netlist.rate import Decorrelator
from noisylearn.backends.netlist.spiking import SpikingLayer, SpikingNetlist, Weights, put_weights, to_spiking
from noisylearn.backends.nir.graph import ExchangeWarning
from noisylearn.backends.nir.numbers import (
    CONVOLUTIONS,
    FIRING,
    PARAMETERS,
    WEIGHTS,
    WHAT_IS_READ,
    Shape,
    array,
    is_one,
    kind_of,
    neurons_of,
    per_neuron,
    shared,
    weights_of,
)
from noisylearn.backends.nir.shapes import shapes_along
from noisylearn.backends.nir.stages import to_stages
from noisylearn.backends.nir.walk import Feedback, Walk, walk_through
from noisylearn.ground.errors import UserError
from noisylearn.networks import RNN, mlp

# Networks of noisylearn's own, with a letter for each node, see `_letter`.
OF_SPIKING, OF_LAYERS = re.compile("((D?WL)+|(D?WC)+)D?WI"), re.compile("F?(D?W)+")
LETTERS = dict.fromkeys(WEIGHTS, "W") | {"LIF": "L", "CubaLIF": "C", "LI": "I", "Flatten": "F"}
STEPS_OF_OTHER_UNITS = 5e3  # a network so much slower than its step was most likely made for another step


def to_model(graph: Any, dt_s: float) -> nn.Module:
    """The network of a NIR graph: one of noisylearn's own where it is one, else a chain of torch modules.

    Warns (ExchangeWarning) where the time step is far below all time constants.

    Args:
        graph: a nir.NIRGraph.
        dt_s: time step that its time constants are advanced by, s; `noisylearn.backends.nir.graph` has the equations.

    Raises:
        UserError: a node cannot be executed, or does not fit what it is given; the message names it.
    """
    walk = walk_through(graph)
    before = shapes_along(graph, walk)
    if any(kind_of(graph, name) == "Scale" for name in walk.feedback):
        return _rnn(graph, walk, before, dt_s)
    if not any(kind_of(graph, name) in (*WEIGHTS, *CONVOLUTIONS) for name in walk.chain):
        raise UserError(f"the graph has no weights; {WHAT_IS_READ}")
    recurrent = _recurrent_weights(graph, walk.feedback)
    chain = [name for name in walk.chain if not (kind_of(graph, name) == "Flatten" and len(before[name]) == 1)]
    _warn_of_step(graph, {name: before[name] for name in chain}, dt_s)
    letters = "".join(_letter(graph, name) for name in chain)
    same_neurons = not recurrent or ("C" not in letters and len(recurrent) == letters.count("L"))
    if OF_SPIKING.fullmatch(letters) and same_neurons:
        return to_spiking(_spiking(graph, chain, before, recurrent, dt_s))
    if OF_LAYERS.fullmatch(letters):
        return _layers(graph, [name for name in chain if _letter(graph, name) != "F"])
    return to_stages(graph, {name: before[name] for name in chain}, recurrent, dt_s)


def _letter(graph: Any, name: str) -> str:
    """What a node may be in a network of noisylearn's own."""
    kind = kind_of(graph, name)
    if kind == "Linear" and name.endswith(".decorrelation") and "decorrelation_rate" in graph.nodes[name].metadata:
        return "D"
    return LETTERS.get(kind, "?")


def _recurrent_weights(graph: Any, feedback: dict[str, Feedback]) -> dict[str, str]:
    """Name of neurons -> name of the weights from them to themselves, which is all the feedback that is executed."""
    for end, back in feedback.items():
        if kind_of(graph, end) not in FIRING or back.source != end:
            raise UserError(
                f"a feedback path leads from node '{back.source}' to '{end}' ({kind_of(graph, end)}); {WHAT_IS_READ}"
            )
        if len(back.path) != 1:
            raise UserError(f"the feedback path to node '{end}' has {len(back.path)} nodes; give one, of weights")
        weights_of(graph, back.path[0])
    return {end: back.path[0] for end, back in feedback.items()}


def _warn_of_step(graph: Any, before: dict[str, Shape], dt_s: float) -> None:
    """Warn where the step is far below the time constants, as in a file with other units."""
    names = [name for name in before if kind_of(graph, name) in PARAMETERS]
    times = {name: neurons_of(graph, name, before[name], dt_s).time_s for name in names}
    for of_if in (False, True):  # what has no time constant is judged by itself
        here = {name: s for name, s in times.items() if (kind_of(graph, name) == "IF") == of_if}
        if here and (shortest := min(here.values())) > STEPS_OF_OTHER_UNITS * dt_s:
            name = min(here, key=lambda name: here[name])
            what = "needs an input of 1 to fire" if of_if else "has as its shortest time constant"
            warnings.warn(
                f"the step of {dt_s:g} s is far below the {shortest:g} s that node '{name}' {what}, as in a file that "
                f"counts time in other units: give dt_s, the step that the network was made for, in the file's units",
                ExchangeWarning,
                stacklevel=4,
            )


def _layers(graph: Any, chain: list[str]) -> nn.Module:
    """A chain of Linear layers."""
    weights = _all_weights(graph, chain)
    sizes = [len(w.weight) for w in weights]
    model = mlp(weights[0].weight.shape[1], sizes[:-1], sizes[-1], activation="identity")
    for name, of in zip([*(f"hidden{i}" for i in range(1, len(sizes))), "readout"], weights, strict=True):
        put_weights(model, name, of)
    return model


def _all_weights(graph: Any, chain: list[str]) -> list[Weights]:
    """Weights along a chain; a Linear node named `.decorrelation` is the decorrelation before the next."""
    found: list[Weights] = []
    before = None
    for name in chain:
        if _letter(graph, name) == "D":
            before = _decorrelator(graph, name)
        else:
            found.append(replace(weights_of(graph, name), decorrelation=before))
            before = None
    return found


def _decorrelator(graph: Any, name: str) -> Decorrelator:
    """A Linear node as a decorrelation."""
    matrix, rate = array(graph, name, "weight", 2), graph.nodes[name].metadata.get("decorrelation_rate")
    if matrix.shape[0] != matrix.shape[1] or not isinstance(rate, int | float) or not 0 < rate < float("inf"):
        raise UserError(
            f"node '{name}' is no decorrelation of noisylearn: it needs a square matrix and a decorrelation_rate"
        )
    return Decorrelator(matrix.astype(np.float64), float(rate))


def _spiking(
    graph: Any, chain: list[str], before: dict[str, Shape], recurrent: dict[str, str], dt_s: float
) -> SpikingNetlist:
    """A chain of weights and neurons, with a leaky integrator at its end."""
    layers, pending = [], list[str]()
    for name in chain[:-1]:
        if kind_of(graph, name) not in FIRING:
            pending.append(name)
            continue
        layers.append(_spiking_layer(graph, pending, name, before[name], recurrent.get(name), dt_s))
        pending = []
    readout = neurons_of(graph, chain[-1], before[chain[-1]], dt_s)
    return SpikingNetlist(tuple(layers), _scaled(_one_weights(graph, pending), readout.gain), shared(readout.beta))


def _one_weights(graph: Any, pending: list[str]) -> Weights:
    """The one layer of weights before neurons, perhaps behind a decorrelation."""
    (weights,) = _all_weights(graph, pending)
    return weights


def _spiking_layer(
    graph: Any, pending: list[str], name: str, shape: Shape, back: str | None, dt_s: float
) -> SpikingLayer:
    """Weights and the neurons behind them."""
    into, of = _one_weights(graph, pending), neurons_of(graph, name, shape, dt_s)
    recurrent = None
    if back is not None:
        into, recurrent = _biases_apart(graph.nodes[pending[-1]].metadata, into, weights_of(graph, back))
        recurrent = _scaled(recurrent, of.gain)
    return SpikingLayer(
        f"hidden{name}",
        _scaled(into, of.gain),
        None if of.alpha is None else shared(of.alpha),
        shared(of.beta),
        shared(of.threshold),
        of.reset,
        recurrent,
    )


def _biases_apart(metadata: dict[str, Any], into: Weights, recurrent: Weights) -> tuple[Weights, Weights]:
    """The bias of an exported layer as that of its input and that of its recurrent weights, if they still add up."""
    own, other = metadata.get("bias_of_input"), metadata.get("bias_of_recurrent")
    if (
        isinstance(own, np.ndarray)
        and isinstance(other, np.ndarray)
        and own.shape == other.shape
        and into.bias is not None
        and recurrent.bias is None
        and np.array_equal(own + other, into.bias)
    ):
        return Weights(into.weight, own, into.decorrelation), Weights(recurrent.weight, other)
    if recurrent.bias is None:  # nl.networks.Spiking has one
        recurrent = Weights(recurrent.weight, np.zeros(len(recurrent.weight), dtype=np.float32))
    return into, recurrent


def _scaled(weights: Weights, gain: Any) -> Weights:
    """Weights times a factor per unit, where it differs from 1 by more than rounding."""
    if is_one(gain):
        return weights
    scale = np.asarray(gain)
    bias = None if weights.bias is None else weights.bias * scale
    return Weights(weights.weight * scale[:, None], bias, weights.decorrelation)


def _rnn(graph: Any, walk: Walk, before: dict[str, Shape], dt_s: float) -> nn.Module:
    """Layers x_t = A u_t + R x*_{t-1}: weights, a Scale of ones where the feedback ends, perhaps a decorrelation."""
    hidden, rest = [], list(walk.chain)
    for name in [n for n in walk.chain if kind_of(graph, n) == "Scale"]:
        if name not in walk.feedback or not np.all(per_neuron(graph, name, "scale", before[name]) == 1):
            raise UserError(f"node '{name}' (Scale) is no sum of ones with feedback; {WHAT_IS_READ}")
        into = weights_of(graph, rest[0])
        if rest[1] != name:
            raise UserError(f"node '{name}' (Scale) does not follow weights; {WHAT_IS_READ}")
        rest, last, decorrelation = rest[2:], name, None
        if rest and rest[0].endswith(".decorrelation"):
            last, decorrelation, rest = rest[0], _decorrelator(graph, rest[0]), rest[1:]
        if (back := walk.feedback[name]).source != last:
            raise UserError(f"a feedback path leads from node '{back.source}' to '{name}'; {WHAT_IS_READ}")
        hidden.append((into, _weights_behind_delay(graph, back.path, before[name], dt_s), decorrelation))
    if len(rest) != 1 or len(hidden) != len(walk.feedback):
        raise UserError(f"the graph has feedback, but is no chain of recurrent layers; {WHAT_IS_READ}")
    return _filled_rnn(hidden, weights_of(graph, rest[0]))


def _weights_behind_delay(graph: Any, path: list[str], shape: Shape, dt_s: float) -> Weights:
    """Weights on a feedback path of a Delay and a Linear node."""
    if [kind_of(graph, name) for name in path] != ["Delay", "Linear"]:
        raise UserError(f"a feedback path through {', '.join(path) or 'nothing'}; give a Delay and a Linear node")
    if not np.allclose(per_neuron(graph, path[0], "delay", shape), dt_s, rtol=1e-6, atol=0):
        raise UserError(f"node '{path[0]}' does not delay by one step of {dt_s:g} s")
    return weights_of(graph, path[1])


def _filled_rnn(hidden: list[tuple[Weights, Weights, Decorrelator | None]], readout: Weights) -> nn.Module:
    """An nl.networks.RNN with these weights."""
    rates = {0.0 if decorrelator is None else decorrelator.rate for *_, decorrelator in hidden}
    if len(rates) > 1:
        raise UserError("decorrelation_rate differs from layer to layer; nl.networks.RNN has one")
    rate, bias = rates.pop(), readout.bias is not None
    sizes = [len(into.weight) for into, *_ in hidden]
    n_in, n_out = hidden[0][0].weight.shape[1], len(readout.weight)
    model = RNN(n_in, sizes, n_out, "identity", rate, bias)
    for i, (into, back, decorrelator) in enumerate(hidden, start=1):
        put_weights(model, f"hidden{i}", Weights(np.concatenate([into.weight, back.weight], 1), into.bias))
        if decorrelator is not None:
            model.get_submodule(f"decorrelation{i}").get_buffer("matrix").copy_(torch.from_numpy(decorrelator.matrix))
    put_weights(model, "readout", readout)
    return model
