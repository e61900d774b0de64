"""A chain of NIR nodes that is no network of noisylearn's own, as a chain of torch modules with the same values."""

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from noisylearn.backends.netlist.spiking import put_weights
from noisylearn.backends.nir.numbers import (
    CONVOLUTIONS,
    PARAMETERS,
    POOLS,
    WEIGHTS,
    WHAT_IS_READ,
    Shape,
    array,
    biases_of,
    integers,
    is_one,
    kind_of,
    neurons_of,
    per_neuron,
    shared,
    weights_of,
)
from noisylearn.backends.nir.shapes import flattened, padding_of
from noisylearn.ground.errors import UserError
from noisylearn.networks.chain import Chain, Neurons, Scaled


def to_stages(graph: Any, before: dict[str, Shape], recurrent: dict[str, str], dt_s: float) -> nn.Module:
    """The modules of a chain: a Chain where neurons keep a state, else an nn.Sequential.

    Args:
        graph: a nir.NIRGraph.
        before: name of every node in order -> shape of what it is given.
        recurrent: name of neurons -> name of their recurrent weights.
        dt_s: time step, s.

    Raises:
        UserError: a node cannot be executed; the message names it.
    """
    stages = _Stages()
    for name, shape in before.items():
        kind = kind_of(graph, name)
        if kind in PARAMETERS:
            _add_neurons(stages, graph, name, shape, recurrent.get(name), dt_s)
        elif kind == "Scale":
            stages.multiply(name, per_neuron(graph, name, "scale", shape))
        elif kind == "Flatten":
            first, last = flattened(graph, name, shape)
            if first < last:
                stages.add(name, nn.Flatten(first + 1, last + 1))
        elif kind in (*WEIGHTS, *CONVOLUTIONS, *POOLS):
            stages.add(name, _layer(graph, name))
        else:
            raise UserError(f"node '{name}' is {kind}; {WHAT_IS_READ}")
    modules = dict(stages.holder.named_children())
    has_state = any(isinstance(stage, Neurons) for stage in modules.values())
    return Chain(modules) if has_state else stages.holder


class _Stages:
    """Modules along a chain, named after their nodes as far as torch allows it."""

    def __init__(self) -> None:
        self.holder = nn.Sequential()
        self.names: dict[str, str] = {}

    def add(self, node: str, module: nn.Module) -> None:
        """Add a module behind the last one."""
        name = node.replace(".", "_") or "node"
        while hasattr(self.holder, name):  # a name of torch's own, or taken
            name += "_"
        self.holder.add_module(name, module)

    def multiply(self, node: str, factor: Any) -> None:
        """Multiply what the last module gives by a factor per value: in its weights where these allow it."""
        if is_one(factor):
            return
        last = self.holder[-1] if len(self.holder) else None
        rows = np.reshape(factor, (len(factor), -1))
        if isinstance(last, nn.Linear | nn.Conv1d | nn.Conv2d) and (rows == rows[:, :1]).all():
            scale_rows(last, rows[:, 0])
        else:
            self.add(f"{node}_gain", Scaled(_single(factor)))


def scale_rows(layer: nn.Linear | nn.Conv1d | nn.Conv2d, factor: Any) -> None:
    """Multiply the outputs of a layer by a factor each, in its weights and biases.

    Args:
        layer: whose parameters are changed.
        factor: one per output, or per channel.
    """
    with torch.no_grad():
        for parameter in layer.parameters():
            wide = np.reshape(factor, (-1, *[1] * (parameter.ndim - 1)))
            parameter.copy_(torch.from_numpy(parameter.double().numpy() * wide))


def _add_neurons(stages: _Stages, graph: Any, name: str, shape: Shape, back: str | None, dt_s: float) -> None:
    """Add neurons with their gain, and their recurrent weights if they have any."""
    of = neurons_of(graph, name, shape, dt_s)
    stages.multiply(name, of.gain)
    recurrent = None
    if back is not None:
        recurrent = _linear(graph, back)
        scale_rows(recurrent, of.gain)
    alpha, threshold = (None if values is None else _shared(values) for values in (of.alpha, of.threshold))
    stages.add(name, Neurons(_shared(of.beta), threshold, alpha, of.reset, recurrent))


def _layer(graph: Any, name: str) -> nn.Module:
    """A layer of weights, or a pool."""
    kind = kind_of(graph, name)
    if kind in WEIGHTS:
        return _linear(graph, name)
    if kind in CONVOLUTIONS:
        return _convolution(graph, name, 1 if kind == "Conv1d" else 2)
    kernel, stride, padding = (integers(graph, name, key, 2, 0) for key in ("kernel_size", "stride", "padding"))
    pool: Any = nn.AvgPool2d
    return cast(nn.Module, pool(kernel, stride, padding, divisor_override=1 if kind == "SumPool2d" else None))


def _linear(graph: Any, name: str) -> nn.Linear:
    """A Linear layer with the numbers of a node."""
    holder = nn.Module()
    put_weights(holder, "layer", weights_of(graph, name))
    layer = holder.layer
    assert isinstance(layer, nn.Linear)
    return layer


def _convolution(graph: Any, name: str, n_dims: int) -> nn.Module:
    """A convolution with the numbers of a node."""
    weight = array(graph, name, "weight", n_dims + 2)
    (groups,) = integers(graph, name, "groups", 1, 1)
    kind: Any = nn.Conv1d if n_dims == 1 else nn.Conv2d
    layer: nn.Conv1d | nn.Conv2d = kind(
        weight.shape[1] * groups,
        len(weight),
        weight.shape[2:],
        integers(graph, name, "stride", n_dims, 1),
        padding_of(graph, name, n_dims),
        integers(graph, name, "dilation", n_dims, 1),
        groups,
    )
    assert layer.bias is not None
    with torch.no_grad():
        layer.weight.copy_(_single(weight))
        layer.bias.copy_(_single(biases_of(graph, name, len(weight))))
    return layer


def _single(values: Any) -> Tensor:
    """Numbers in float32."""
    return torch.from_numpy(np.array(values, dtype=np.float32))


def _shared(values: Any) -> Tensor:
    """One number where all are the same, else one per neuron."""
    return _single(shared(values))
