"""The numbers of one NIR node, checked: weights, and what a time step makes of a neuron's constants.

`noisylearn.backends.nir.graph` has the equations.
"""

import reprlib
from dataclasses import dataclass
from typing import Any, cast, get_args

import numpy as np

from noisylearn.backends.netlist.spiking import Weights
from noisylearn.ground.errors import UserError
from noisylearn.networks.spiking import Reset

WEIGHTS, CONVOLUTIONS, POOLS = ("Affine", "Linear"), ("Conv1d", "Conv2d"), ("AvgPool2d", "SumPool2d")
PARAMETERS = {
    "LIF": ("tau", "r", "v_leak", "v_threshold", "v_reset"),
    "CubaLIF": ("tau_mem", "tau_syn", "r", "w_in", "v_leak", "v_threshold", "v_reset"),
    "IF": ("r", "v_threshold", "v_reset"),
    "LI": ("tau", "r", "v_leak"),
    "CubaLI": ("tau_mem", "tau_syn", "r", "w_in", "v_leak"),
    "I": ("r",),
}  # one number per neuron
FIRING = tuple(kind for kind, keys in PARAMETERS.items() if "v_threshold" in keys)
WHAT_IS_READ = (
    "noisylearn reads chains of Affine, Linear, Conv1d, Conv2d, Scale, Flatten, AvgPool2d, SumPool2d and neurons "
    f"({', '.join(PARAMETERS)}), of which those that fire may have recurrent weights"
)

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class NeuronNumbers:
    """Neurons as they are advanced: u_t = alpha u_{t-1} + gain x_t, v_t = beta v_{t-1} + u_t.

    Args:
        beta: decay of the membrane per step, one per neuron.
        alpha: decay of the synaptic current per step; None without one.
        gain: of the inputs.
        threshold: None for neurons that never fire.
        reset: what a spike does.
        time_s: their shortest time constant; of IF, the time in which a constant input of 1 makes the first one fire;
            of I, 0.
    """

    beta: Any
    alpha: Any | None
    gain: Any
    threshold: Any | None
    reset: Reset
    time_s: float


def kind_of(graph: Any, name: str) -> str:
    """Name of a node's class."""
    return type(graph.nodes[name]).__name__


def array(graph: Any, name: str, key: str, n_dims: int | None = None) -> Any:
    """Numbers of a node, if they are finite and have so many dimensions."""
    values = np.asarray(getattr(graph.nodes[name], key))
    numbers = values.dtype.kind in "fiu" and values.size > 0 and np.isfinite(values).all()
    if not numbers or n_dims not in (None, values.ndim):
        what = "finite numbers" if n_dims is None else f"{n_dims} dimensions and finite numbers"
        raise UserError(f"node '{name}': {key} of shape {values.shape} is no array of {what}")
    return values


def integers(graph: Any, name: str, key: str, n: int, least: int) -> Shape:
    """Whole numbers of a node, such as a stride: n of them, or one for all."""
    values = array(graph, name, key)
    if values.shape not in ((), (1,), (n,)) or (values != values.astype(np.int64)).any() or (values < least).any():
        raise UserError(
            f"node '{name}': {key} = {reprlib.repr(values.tolist())}; give {n} whole numbers of at least {least}"
        )
    return tuple(int(value) for value in np.broadcast_to(values, n))


def per_neuron(graph: Any, name: str, key: str, shape: Shape) -> Any:
    """Numbers of a node, one per value; one number stands for all, as in files of snntorch."""
    values = array(graph, name, key)
    if values.shape not in (shape, (), (1,)):
        raise UserError(
            f"node '{name}' is given {shape_in_words(shape)}, and its {key} has the shape {values.shape}: give one "
            "number per value, in the same shape"
        )
    return np.broadcast_to(values, shape)


def shape_in_words(shape: Shape) -> str:
    """The shape of one sample."""
    return f"{shape[0]} values" if len(shape) == 1 else f"values of shape {shape}"


def weights_of(graph: Any, name: str) -> Weights:
    """Weights of an Affine or Linear node."""
    kind = kind_of(graph, name)
    if kind not in WEIGHTS:
        raise UserError(f"node '{name}' ({kind}) stands where weights were expected; {WHAT_IS_READ}")
    weight = array(graph, name, "weight", 2)
    return Weights(weight, biases_of(graph, name, len(weight)) if kind == "Affine" else None)


def biases_of(graph: Any, name: str, n: int) -> Any:
    """The n biases of a node."""
    bias = array(graph, name, "bias", 1)
    if len(bias) != n:
        raise UserError(f"node '{name}': {len(bias)} biases for {n} units")
    return bias


def neurons_of(graph: Any, name: str, shape: Shape, dt_s: float) -> NeuronNumbers:
    """A node of neurons as a step of dt_s advances them.

    Raises:
        UserError: they do not rest at zero or do not return to it, fire at rest, or are faster than the step.
    """
    kind = kind_of(graph, name)
    values = {key: per_neuron(graph, name, key, shape) for key in PARAMETERS[kind]}
    _check_rest(name, values)
    threshold, tau = values.get("v_threshold"), values.get("tau", values.get("tau_mem"))
    if tau is None:
        beta, gain, shortest = np.ones(shape), dt_s * values["r"], 0.0
        if threshold is not None and values["r"].any():
            driven = values["r"] != 0
            shortest = float((threshold[driven] / np.abs(values["r"][driven])).min())
    else:
        beta, share = _decay(name, "tau_mem" if "tau_mem" in values else "tau", tau, dt_s)
        gain, shortest = share * values["r"], float(tau.min())
    alpha = None
    if "tau_syn" in values:
        alpha, share = _decay(name, "tau_syn", values["tau_syn"], dt_s)
        gain, shortest = gain * share * values["w_in"], min(shortest, float(values["tau_syn"].min()))
    return NeuronNumbers(beta, alpha, gain, threshold, _reset(name, graph.nodes[name].metadata), shortest)


def _reset(name: str, metadata: dict[str, Any]) -> Reset:
    """What a spike does to the potential: NIR sets it back to zero, unless the file says that it is lowered."""
    stated = metadata.get("reset", "zero")
    if not isinstance(stated, str) or stated not in get_args(Reset):
        raise UserError(
            f"node '{name}': metadata 'reset' is {reprlib.repr(stated)}, not {' or '.join(get_args(Reset))}"
        )
    return cast(Reset, stated)


def _check_rest(name: str, values: dict[str, Any]) -> None:
    """Refuse neurons that rest at, or return to, anything but zero, or fire there."""
    for key in ("v_leak", "v_reset"):
        if key in values and values[key].any():
            raise UserError(f"node '{name}': {key} is not zero; neurons of noisylearn rest at zero and return to it")
    if "v_threshold" in values and (values["v_threshold"] < 0).any():
        raise UserError(f"node '{name}': a v_threshold is negative, so that neurons at rest would fire")


def _decay(name: str, key: str, times: Any, dt_s: float) -> tuple[Any, Any]:
    """(1 - dt / tau, dt / tau) of time constants."""
    if (times < dt_s * (1 - 1e-6)).any():
        raise UserError(
            f"node '{name}': {key} = {times.min():g} s is shorter than the step of {dt_s:g} s; give dt_s, the step "
            "that the network was made for"
        )
    return np.clip(1 - dt_s / times, 0.0, 1.0), dt_s / times


def is_one(gain: Any) -> bool:
    """Whether a gain differs from 1 by no more than rounding."""
    return bool(np.allclose(gain, 1.0, rtol=1e-6, atol=0))


def shared(values: Any) -> Any:
    """One number where all values are the same, as in torch; in float32."""
    single = np.asarray(values, dtype=np.float32)
    return single.ravel()[0] if len(np.unique(single)) == 1 else single
