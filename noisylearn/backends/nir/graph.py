"""A torch network as a NIR graph: nodes with their equations, and edges.

NIR states differential equations. Advanced by time steps dt (forward Euler), its neurons are

    LIF      v_t = (1 - dt/tau) v_{t-1} + (dt/tau) r I_t,   spike where v_t > v_threshold, then v_t = v_reset
    CubaLIF  I_t = (1 - dt/tau_syn) I_{t-1} + (dt/tau_syn) w_in S_t,   v_t as LIF with tau_mem
    LI       LIF without spikes

so that a decay per step beta is tau = dt / (1 - beta), with r = 1 / (1 - beta) so that inputs enter unscaled,
and alpha likewise with tau_syn and w_in.

Source: Pedersen et al. 2024, doi:10.1038/s41467-024-52259-9.
"""

import warnings
from typing import Any

import numpy as np
from torch import nn

from noisylearn.backends.netlist.rate import Decorrelator, Netlist, from_model
from noisylearn.backends.netlist.spiking import SpikingLayer, SpikingNetlist, Weights, from_spiking
from noisylearn.backends.nir.library import nir_library
from noisylearn.ground.errors import UserError
from noisylearn.networks import Spiking

DT_S = 1e-4  # the step that snntorch assumes


class ExchangeWarning(UserWarning):
    """A file means something else than the network that was written, or was made for another time step than is used."""


class _Graph:
    """Nodes and edges, added along a chain."""

    def __init__(self, n_in: int) -> None:
        self.nodes: dict[str, Any] = {"input": nir_library().Input(input_type=np.array([n_in]))}
        self.edges: list[tuple[str, str]] = []
        self.last = "input"

    def add(self, name: str, node: Any) -> None:
        """Add a node behind the last one."""
        self.edges.append((self.last, name))
        self.nodes[name] = node
        self.last = name

    def loop(self, start: str, end: str, *path: tuple[str, Any]) -> None:
        """Add nodes that lead from `start` to `end`."""
        for name, node in path:
            self.nodes[name] = node
            self.edges.append((start, name))
            start = name
        self.edges.append((start, end))

    def finish(self, n_out: int, metadata: dict[str, Any]) -> Any:
        """The NIR graph."""
        self.add("output", nir_library().Output(output_type=np.array([n_out])))
        return nir_library().NIRGraph(self.nodes, self.edges, metadata=metadata)


def to_graph(model: nn.Module, metadata: dict[str, Any], dt_s: float = DT_S) -> Any:
    """The NIR graph of a network; warns (ExchangeWarning) where it says less than the network does.

    Args:
        model: nl.networks.Spiking, an nn.Sequential of Linear layers, or an nl.networks.RNN without activation.
        metadata: of the graph.
        dt_s: time step of the time constants, s.

    Returns:
        A nir.NIRGraph.

    Raises:
        UserError: NIR has no node for a part of the network.
    """
    if isinstance(model, Spiking):
        return _spiking(from_spiking(model), metadata, dt_s)
    netlist = from_model(model)
    for population in netlist.populations:
        if population.activation != "identity":
            raise UserError(
                f"layer '{population.name}' has the activation {population.activation}, and NIR has no such node (its "
                "only nonlinear nodes are spiking neurons and a step); use a spiking network, or layers with "
                "activation 'identity'"
            )
    return _affine(netlist, metadata, dt_s)


def _affine(netlist: Netlist, metadata: dict[str, Any], dt_s: float) -> Any:
    """The graph of a network without spikes."""
    nir = nir_library()
    graph = _Graph(netlist.populations[0].size)
    _decorrelated(graph, "input", netlist.populations[0].decorrelation)
    for population in netlist.neurons:
        connections = netlist.into(population.name)
        for connection in (c for c in connections if not c.delayed):
            graph.add(population.name, _weights_node(Weights(_single(connection.weight), _single(connection.bias))))
        if any(c.delayed for c in connections):
            graph.add(f"{population.name}.sum", nir.Scale(np.ones(population.size, dtype=np.float32)))
        _decorrelated(graph, population.name, population.decorrelation)
        for connection in (c for c in connections if c.delayed):
            delay = nir.Delay(np.full(population.size, dt_s))
            back = nir.Linear(weight=_single(connection.weight))
            name = population.name
            graph.loop(graph.last, f"{name}.sum", (f"{name}.delay", delay), (f"{name}.recurrent", back))
    return graph.finish(netlist.populations[-1].size, metadata)


def _decorrelated(graph: _Graph, name: str, of: Decorrelator | None) -> None:
    """Add the matrix of a decorrelation, if there is one."""
    if of is not None:
        node = nir_library().Linear(weight=_single(of.matrix), metadata={"decorrelation_rate": of.rate})
        graph.add(f"{name}.decorrelation", node)


def _spiking(netlist: SpikingNetlist, metadata: dict[str, Any], dt_s: float) -> Any:
    """The graph of a spiking network."""
    nir = nir_library()
    if any(layer.reset == "subtract" for layer in netlist.layers):
        warnings.warn(
            "these neurons subtract the threshold at a spike, and NIR has no such reset: other programs will set the "
            "membrane to zero and give other spikes (noisylearn reads it back as it is); train with reset='zero' to "
            "exchange the same network",
            ExchangeWarning,
            stacklevel=4,
        )
    graph = _Graph(netlist.n_in)
    for i, layer in enumerate(netlist.layers, start=1):
        neurons = f"neurons{i}"
        _add_weights(graph, layer.name, layer.into, layer.recurrent)
        graph.add(neurons, _neurons_node(layer, dt_s))
        if layer.recurrent is not None:
            if layer.recurrent.decorrelation is not None:
                raise UserError(f"{neurons}: decorrelated recurrent weights have no counterpart in this format")
            back = nir.Linear(weight=layer.recurrent.weight)
            graph.loop(neurons, neurons, (f"{neurons}.recurrent", back))
    _add_weights(graph, "readout", netlist.readout)
    n_out = len(netlist.readout.weight)
    tau, r = _decay("readout", netlist.readout_beta, n_out, dt_s)
    graph.add("integrator", nir.LI(tau=tau, r=r, v_leak=np.zeros(n_out)))
    return graph.finish(n_out, metadata)


def _add_weights(graph: _Graph, name: str, weights: Weights, recurrent: Weights | None = None) -> None:
    """Add the weights of a layer; the bias of recurrent weights is added to theirs, and kept apart in the metadata."""
    _decorrelated(graph, name, weights.decorrelation)
    if recurrent is None or recurrent.bias is None:
        graph.add(name, _weights_node(weights))
        return
    own = np.zeros_like(recurrent.bias) if weights.bias is None else weights.bias
    node = _weights_node(Weights(weights.weight, own + recurrent.bias))
    node.metadata = {"bias_of_input": own, "bias_of_recurrent": recurrent.bias}
    graph.add(name, node)


def _weights_node(weights: Weights) -> Any:
    """Affine, or Linear where there is no bias."""
    if weights.bias is None:
        return nir_library().Linear(weight=weights.weight)
    return nir_library().Affine(weight=weights.weight, bias=weights.bias)


def _neurons_node(layer: SpikingLayer, dt_s: float) -> Any:
    """LIF or CubaLIF of a layer; times in s, float64 so that decays come back exactly."""
    n = layer.size
    threshold = np.broadcast_to(layer.threshold.astype(np.float64), n).copy()
    tau, r = _decay(layer.name, layer.beta, n, dt_s)
    common = {"r": r, "v_leak": np.zeros(n), "v_threshold": threshold, "v_reset": np.zeros(n)}
    metadata = {"reset": layer.reset}
    if layer.alpha is None:
        return nir_library().LIF(tau=tau, **common, metadata=metadata)
    tau_syn, w_in = _decay(layer.name, layer.alpha, n, dt_s)
    return nir_library().CubaLIF(tau_mem=tau, tau_syn=tau_syn, w_in=w_in, **common, metadata=metadata)


def _decay(name: str, per_step: Any, n: int, dt_s: float) -> tuple[Any, Any]:
    """(tau = dt / (1 - beta), 1 / (1 - beta)), each (n,), of decays per step."""
    beta = np.broadcast_to(np.asarray(per_step, dtype=np.float64), n)
    if (beta < 0).any() or (beta >= 1).any():
        wrong = beta.max() if beta.max() >= 1 else beta.min()
        raise UserError(
            f"layer '{name}': a decay per step of {wrong:g} has no time constant; NIR takes decays from 0 to below 1"
        )
    return dt_s / (1 - beta), 1 / (1 - beta)


def _single(values: Any) -> Any:
    """Weights in float32, as torch stores them."""
    return None if values is None else np.asarray(values, dtype=np.float32)
