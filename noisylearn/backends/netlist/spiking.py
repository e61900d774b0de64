"""A spiking network as numpy arrays, from which other machines and file formats are made.

`from_spiking` takes an nl.networks.Spiking apart, `to_spiking` builds one.
"""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from noisylearn.backends.netlist.rate import Decorrelator, refuse_own_forward
from noisylearn.ground.errors import UserError
from noisylearn.networks.decorrelation import Decorrelation
from noisylearn.networks.spiking import Neuron, Reset, Spiking

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Weights:
    """W x + b, or W R x + b.

    Args:
        weight: W, (targets, sources).
        bias: b, (targets,), or None.
        decorrelation: R, or None.
    """

    weight: Array
    bias: Array | None
    decorrelation: Decorrelator | None = None

    @property
    def folded(self) -> Array:
        """W R, or W where nothing is decorrelated; (targets, sources)."""
        return self.weight if self.decorrelation is None else self.weight @ self.decorrelation.matrix


@dataclass(frozen=True, eq=False)
class SpikingLayer:
    """Weights, and the neurons at which they end.

        u_t = alpha u_{t-1} + W x_t + b + V s_{t-1} + c,   v_t = beta v_{t-1} + u_t,   s_t = v_t > threshold

    Args:
        name: of the weight layer in torch.
        into: W and b.
        alpha: decay of the synaptic current per step, a number or (n,); None without a synaptic current, as for 0.
        beta: decay of the membrane per step, a number or (n,).
        threshold: a number or (n,).
        reset: "zero": v_t = 0 at a spike; "subtract": threshold is subtracted from v_{t+1}.
        recurrent: V and c, or None.
    """

    name: str
    into: Weights
    alpha: Array | None
    beta: Array
    threshold: Array
    reset: Reset
    recurrent: Weights | None = None

    @property
    def size(self) -> int:
        """Number of neurons."""
        return len(self.into.weight)


@dataclass(frozen=True, eq=False)
class SpikingNetlist:
    """Spiking layers, and a readout y_t = beta y_{t-1} + W s_t + b that never spikes.

    Args:
        layers: in order from the input.
        readout: W and b of the readout.
        readout_beta: decay per step, a number or (n_out,).
    """

    layers: tuple[SpikingLayer, ...]
    readout: Weights
    readout_beta: Array

    @property
    def n_in(self) -> int:
        """Number of inputs."""
        return int(self.layers[0].into.weight.shape[1])


def from_spiking(model: Spiking) -> SpikingNetlist:
    """The arrays of an nl.networks.Spiking, in its own precision.

    Args:
        model: the network.

    Raises:
        UserError: its neurons or layers are set up in a way that has no counterpart here.
    """
    refuse_own_forward(model, Spiking)
    layers = []
    for i in range(1, len(model.sizes) + 1):
        name, neurons = f"hidden{i}", model.get_submodule(f"neurons{i}")
        recurrent = getattr(neurons, "recurrent", None)
        layers.append(
            SpikingLayer(
                name,
                _weights(name, model.get_submodule(name)),
                _numbers(neurons.alpha) if hasattr(neurons, "alpha") else None,
                _numbers(neurons.beta),
                _numbers(neurons.threshold),
                _reset(f"neurons{i}", neurons),
                None if recurrent is None else _weights(f"neurons{i}.recurrent", recurrent),
            )
        )
    return SpikingNetlist(tuple(layers), _weights("readout", model.readout), _numbers(model.integrator.beta))


def to_spiking(netlist: SpikingNetlist) -> Spiking:
    """The nl.networks.Spiking of a netlist.

    Args:
        netlist: the arrays.

    Raises:
        UserError: layers differ in the kind of their neurons or in their reset, or a layer has both recurrent weights
            and a synaptic current.
    """
    kinds = {_kind(layer) for layer in netlist.layers}
    resets = {layer.reset for layer in netlist.layers}
    if len(kinds) > 1 or len(resets) > 1:
        found = ", ".join(sorted(kinds | resets))
        raise UserError(f"the layers differ ({found}); nl.networks.Spiking has one kind of neuron and one reset in all")
    sizes, n_out = [layer.size for layer in netlist.layers], len(netlist.readout.weight)
    model = Spiking(netlist.n_in, sizes, n_out, neuron=cast(Neuron, kinds.pop()), reset=resets.pop())
    for i, layer in enumerate(netlist.layers, start=1):
        neurons = model.get_submodule(f"neurons{i}")
        put_weights(model, f"hidden{i}", layer.into)
        for key in ("alpha", "beta", "threshold"):
            if getattr(layer, key) is not None:
                setattr(neurons, key, torch.from_numpy(np.array(getattr(layer, key), dtype=np.float32)))
        if layer.recurrent is not None:
            put_weights(neurons, "recurrent", layer.recurrent)
    put_weights(model, "readout", netlist.readout)
    model.integrator.beta = torch.from_numpy(np.array(netlist.readout_beta, dtype=np.float32))
    return model


def _kind(layer: SpikingLayer) -> str:
    """Kind of a layer's neurons, as nl.networks.Spiking names it."""
    if layer.recurrent is not None and layer.alpha is not None:
        raise UserError(
            f"layer '{layer.name}' has recurrent weights and a synaptic current; nl.networks.Spiking has one of them"
        )
    return "rleaky" if layer.recurrent is not None else "leaky" if layer.alpha is None else "synaptic"


def put_weights(parent: nn.Module, name: str, weights: Weights) -> None:
    """Make a submodule a Linear layer of these weights, behind their decorrelation if there is one.

    Args:
        parent: module that gets it.
        name: of the submodule.
        weights: its numbers.
    """
    linear = nn.Linear(weights.weight.shape[1], weights.weight.shape[0], bias=weights.bias is not None)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(np.array(weights.weight)))
        if weights.bias is not None:
            linear.bias.copy_(torch.from_numpy(np.array(weights.bias)))
    if weights.decorrelation is None:
        setattr(parent, name, linear)
        return
    matrix = weights.decorrelation.matrix
    before = Decorrelation(len(matrix), weights.decorrelation.rate)
    before.matrix.copy_(torch.from_numpy(matrix))
    setattr(parent, name, nn.Sequential())
    parent.get_submodule(name).add_module("decorrelation", before)
    parent.get_submodule(name).add_module("layer", linear)


def _weights(name: str, module: nn.Module) -> Weights:
    """Weights of a Linear layer, perhaps behind a decorrelation."""
    modules = list(module) if isinstance(module, nn.Sequential) else [module]
    *before, linear = modules
    if not isinstance(linear, nn.Linear) or len(before) > 1 or not all(isinstance(m, Decorrelation) for m in before):
        raise UserError(f"layer '{name}' ({type(module).__name__}) cannot be expressed as weights; use Linear")
    bias = None if linear.bias is None else _numbers(linear.bias)
    matrices = [
        Decorrelator(_numbers(m.matrix).astype(np.float64), m.rate) for m in before if isinstance(m, Decorrelation)
    ]
    return Weights(_numbers(linear.weight), bias, *matrices)


def _reset(name: str, neurons: Any) -> Reset:
    """Reset of a layer's neurons."""
    if neurons.graded_spikes_factor != 1 or neurons.inhibition or neurons.state_quant:
        raise UserError(f"neurons '{name}': graded spikes, inhibition and state_quant have no counterpart")
    found = neurons.reset_mechanism, neurons.reset_delay
    if found not in (("subtract", True), ("zero", False)):
        raise UserError(
            f"neurons '{name}': reset_mechanism '{found[0]}' with reset_delay={found[1]} has no counterpart; make the "
            "network with reset='zero' or reset='subtract'"
        )
    return cast(Reset, found[0])


def _numbers(values: Tensor | nn.Module) -> Array:
    """A copy of torch's numbers."""
    return cast(Array, cast(Tensor, values).detach().cpu().numpy().copy())
