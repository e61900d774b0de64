"""A NIR graph as a torch network: with exactly the file's values, or refused by an error that names the node."""

from typing import Any, cast

import numpy as np
import torch
from torch import nn

from noisylearn.backends.netlist.rate import Decorrelator
from noisylearn.backends.netlist.spiking import SpikingLayer, SpikingNetlist, Weights, put_weights, to_spiking
from noisylearn.backends.nir.library import nir_library
from noisylearn.ground.errors import UserError
from noisylearn.networks import RNN, mlp
from noisylearn.networks.spiking import Reset

WEIGHTS, NEURONS = ("Affine", "Linear"), ("LIF", "CubaLIF")
WHAT_IS_READ = (
    "noisylearn reads chains of Affine or Linear nodes, with LIF or CubaLIF behind each and LI at the end, or without "
    "neurons"
)


def to_model(graph: Any, dt_s: float) -> nn.Module:
    """The network of a NIR graph.

    Args:
        graph: a nir.NIRGraph.
        dt_s: time step that its time constants are advanced by, s; `noisylearn.backends.nir.graph` has the equations.

    Raises:
        UserError: no network of this package corresponds to the graph; the message names the node.
    """
    chain, loops = _chain(graph)
    kinds = {_kind(graph.nodes[name]) for name in chain}
    if kinds & set(NEURONS):
        return to_spiking(_spiking(graph, chain, loops, dt_s))
    return _rnn(graph, chain, loops, dt_s) if loops else _layers(graph, chain)


def _chain(graph: Any) -> tuple[list[str], dict[str, list[str]]]:
    """Names of the nodes from Input to Output, and of those on a feedback path: where it ends -> names in order."""
    nir = nir_library()
    ends = [[name for name, node in graph.nodes.items() if isinstance(node, kind)] for kind in (nir.Input, nir.Output)]
    if len(ends[0]) != 1 or len(ends[1]) != 1:
        raise UserError(f"the graph has {len(ends[0])} inputs and {len(ends[1])} outputs; give one of each")
    (start,), (end,) = ends
    targets: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for source, target in graph.edges:
        targets[source].append(target)
    chain, loops, here = [start], {}, start
    while here != end:
        onward = []
        for target in targets[here]:
            path = _feedback_path(target, targets, chain)
            if path is None:
                onward.append(target)
            else:
                loops[path.pop()] = path
        if len(onward) != 1:
            raise UserError(f"node '{here}' leads to {', '.join(onward) or 'nothing'}; {WHAT_IS_READ}")
        (here,) = onward
        chain.append(here)
    unused = set(graph.nodes) - set(chain) - {name for path in loops.values() for name in path}
    if unused:
        raise UserError(f"node '{sorted(unused)[0]}' is on no path from the input to the output; {WHAT_IS_READ}")
    return chain[1:-1], loops


def _feedback_path(first: str, targets: dict[str, list[str]], chain: list[str]) -> list[str] | None:
    """Names from `first` to a node that the chain has passed, that node last; None if the path leads elsewhere."""
    path = [first]
    while path[-1] not in chain:
        onward = targets[path[-1]]
        if len(onward) != 1 or onward[0] in path:
            return None
        path.append(onward[0])
    return path


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
        if name.endswith(".decorrelation") and _kind(graph.nodes[name]) == "Linear":
            before = _decorrelator(graph, name)
        else:
            found.append(_weights(graph, name, before))
            before = None
    if before is not None or not found:
        raise UserError(f"the graph has no weights at its end; {WHAT_IS_READ}")
    return found


def _decorrelator(graph: Any, name: str) -> Decorrelator:
    """A Linear node as a decorrelation."""
    matrix, rate = _array(graph, name, "weight", 2), graph.nodes[name].metadata.get("decorrelation_rate")
    if matrix.shape[0] != matrix.shape[1] or not isinstance(rate, int | float) or not 0 < rate < float("inf"):
        raise UserError(
            f"node '{name}' is no decorrelation of noisylearn: it needs a square matrix and a decorrelation_rate"
        )
    return Decorrelator(matrix.astype(np.float64), float(rate))


def _weights(graph: Any, name: str, decorrelation: Decorrelator | None = None) -> Weights:
    """An Affine or Linear node."""
    kind = _kind(graph.nodes[name])
    if kind not in WEIGHTS:
        raise UserError(f"node '{name}' ({kind}) stands where weights were expected; {WHAT_IS_READ}")
    bias = _array(graph, name, "bias", 1) if kind == "Affine" else None
    weight = _array(graph, name, "weight", 2)
    if bias is not None and len(bias) != len(weight):
        raise UserError(f"node '{name}': {len(bias)} biases for {len(weight)} units")
    return Weights(weight, bias, decorrelation)


def _spiking(graph: Any, chain: list[str], loops: dict[str, list[str]], dt_s: float) -> SpikingNetlist:
    """A chain of weights and neurons, with a leaky integrator at its end."""
    if _kind(graph.nodes[chain[-1]]) != "LI":
        raise UserError(
            f"the last node, '{chain[-1]}', is {_kind(graph.nodes[chain[-1]])}; spiking networks of noisylearn end in "
            "a leaky integrator: add an LI node behind the readout's weights"
        )
    layers, pending, known = [], list[str](), set(loops)
    for name in chain[:-1]:
        if _kind(graph.nodes[name]) not in NEURONS:
            pending.append(name)
            continue
        layers.append(_spiking_layer(graph, pending, name, loops.get(name), dt_s))
        known.discard(name)
        pending = []
    if known:
        raise UserError(f"a feedback path ends at node '{sorted(known)[0]}'; only neurons may have one; {WHAT_IS_READ}")
    readout, (beta, gain) = _one_weights(graph, pending, chain[-1]), _decay(graph, chain[-1], "tau", "r", dt_s)
    _check_rest(graph, chain[-1])
    return SpikingNetlist(tuple(layers), _scaled(readout, gain), _shared(beta))


def _one_weights(graph: Any, pending: list[str], before: str) -> Weights:
    """The one layer of weights before a node."""
    weights = _all_weights(graph, pending) if pending else []
    if len(weights) != 1:
        raise UserError(f"node '{before}' has {len(weights)} layers of weights before it; give one")
    return weights[0]


def _spiking_layer(graph: Any, pending: list[str], name: str, back: list[str] | None, dt_s: float) -> SpikingLayer:
    """Weights and the neurons behind them."""
    into = _one_weights(graph, pending, name)
    cuba = _kind(graph.nodes[name]) == "CubaLIF"
    beta, gain = _decay(graph, name, "tau_mem" if cuba else "tau", "r", dt_s)
    alpha, gain_syn = _decay(graph, name, "tau_syn", "w_in", dt_s) if cuba else (None, 1.0)
    gain = gain * gain_syn
    _check_rest(graph, name)
    recurrent = None
    if back is not None:
        if len(back) != 1:
            raise UserError(f"the feedback path to node '{name}' has {len(back)} nodes; give one, of weights")
        recurrent = _weights(graph, back[0])
        into, recurrent = _biases_apart(graph.nodes[pending[-1]].metadata, into, recurrent)
        recurrent = _scaled(recurrent, gain)
    return SpikingLayer(
        f"hidden{name}",
        _scaled(into, gain),
        None if alpha is None else _shared(alpha),
        _shared(beta),
        _shared(_array(graph, name, "v_threshold", 1)),
        cast(Reset, "subtract" if graph.nodes[name].metadata.get("reset") == "subtract" else "zero"),
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


def _decay(graph: Any, name: str, tau: str, gain: str, dt_s: float) -> tuple[Any, Any]:
    """(beta = 1 - dt / tau, dt / tau times the gain r or w_in), each (n,)."""
    times, gains = _array(graph, name, tau, 1), _array(graph, name, gain, 1)
    if (times < dt_s * (1 - 1e-6)).any():
        raise UserError(
            f"node '{name}': {tau} = {times.min():g} s is shorter than the step of {dt_s:g} s; give dt_s, the step "
            "that the network was made for"
        )
    return np.clip(1 - dt_s / times, 0.0, 1.0), dt_s / times * gains


def _check_rest(graph: Any, name: str) -> None:
    """Refuse neurons that rest at, or return to, anything but zero."""
    for key in ("v_leak", "v_reset"):
        if hasattr(graph.nodes[name], key) and _array(graph, name, key, 1).any():
            raise UserError(f"node '{name}': {key} is not zero; neurons of noisylearn rest at zero and return to it")


def _scaled(weights: Weights, gain: Any) -> Weights:
    """Weights times a factor per unit, where it differs from 1 by more than rounding."""
    if np.allclose(gain, 1.0, rtol=1e-6, atol=0):
        return weights
    scale = np.asarray(gain)
    bias = None if weights.bias is None else weights.bias * scale
    return Weights(weights.weight * scale[:, None], bias, weights.decorrelation)


def _shared(values: Any) -> Any:
    """One number where all values are the same, as in torch; in float32."""
    single = np.asarray(values, dtype=np.float32)
    return single[0] if len(np.unique(single)) == 1 else single


def _rnn(graph: Any, chain: list[str], loops: dict[str, list[str]], dt_s: float) -> nn.Module:
    """Layers x_t = A u_t + R x*_{t-1}: weights, a Scale of ones where the feedback ends, perhaps a decorrelation."""
    hidden, names, rest = [], [n for n in chain if _kind(graph.nodes[n]) == "Scale"], list(chain)
    for name in names:
        if name not in loops or not np.all(_array(graph, name, "scale", 1) == 1):
            raise UserError(f"node '{name}' (Scale) is no sum of ones with feedback; {WHAT_IS_READ}")
        back = _weights_behind_delay(graph, loops[name], dt_s)
        into = _weights(graph, rest[0])
        if rest[1] != name:
            raise UserError(f"node '{name}' (Scale) does not follow weights; {WHAT_IS_READ}")
        rest = rest[2:]
        decorrelation = None
        if rest and rest[0].endswith(".decorrelation"):
            decorrelation, rest = _decorrelator(graph, rest[0]), rest[1:]
        hidden.append((into, back, decorrelation))
    if len(rest) != 1 or not hidden:
        raise UserError(f"the graph has feedback, but is no chain of recurrent layers; {WHAT_IS_READ}")
    return _filled_rnn(hidden, _weights(graph, rest[0]))


def _weights_behind_delay(graph: Any, path: list[str], dt_s: float) -> Weights:
    """Weights on a feedback path of a Delay and a Linear node."""
    if [_kind(graph.nodes[name]) for name in path] != ["Delay", "Linear"]:
        raise UserError(f"a feedback path through {', '.join(path) or 'nothing'}; give a Delay and a Linear node")
    if not np.allclose(_array(graph, path[0], "delay", 1), dt_s, rtol=1e-6, atol=0):
        raise UserError(f"node '{path[0]}' does not delay by one step of {dt_s:g} s")
    return _weights(graph, path[1])


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


def _array(graph: Any, name: str, key: str, n_dims: int) -> Any:
    """Numbers of a node, if they have so many dimensions and are finite."""
    values = np.asarray(getattr(graph.nodes[name], key))
    if values.ndim != n_dims or values.dtype.kind not in "fiu" or not np.isfinite(values).all():
        raise UserError(
            f"node '{name}': {key} of shape {values.shape} is no array of {n_dims} dimensions and finite numbers"
        )
    return values


def _kind(node: Any) -> str:
    """Name of a node's class."""
    return type(node).__name__
