"""Operations that a network takes, counted, and the energy of a neuromorphic chip estimated from the counts.

Counts are of one step in time (of the whole inference where there is no time). For a connection of m source and n
target units with spike rate r of its source (r = 1 for values that are sent at every step):

    synaptic operations  r m n              an event that adds a weight to a target
    neuron updates       n                  a new state of a target
    messages             r m                an event sent along a connection: two where a unit feeds two populations
    learning updates     m n (+ n biases)   a weight that is written, per learning step

A decorrelation x* = R x counts as a connection to units of its own, which send at every step. A learning step of a
perturbation rule runs its forward passes for every sample of a batch, and then writes every weight. The energy is the
sum of counts times energies per operation that were published for another chip: an estimate, never a measurement.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from noisylearn.backends.netlist.rate import Netlist
from noisylearn.backends.netlist.spiking import SpikingNetlist
from noisylearn.ground.errors import UserError
from noisylearn.networks import Spiking
from noisylearn.rules import Rule


@dataclass(frozen=True)
class EnergyModel:
    """Energies per operation, in pJ.

    Args:
        name: of the model.
        source: the publication.
        obtained: how the energies were obtained there.
        synaptic_operation_pj: of one synaptic operation.
        learning_update_pj: of one weight that is written.
        neuron_update_pj: of a neuron that is not idle.
        hop_pj: of one message by one tile.
        hops: tiles that a message crosses.
    """

    name: str
    source: str
    obtained: str
    synaptic_operation_pj: float
    learning_update_pj: float
    neuron_update_pj: float
    hop_pj: float
    hops: float = 1.0


LOIHI_1 = EnergyModel(
    name="loihi-1",
    source="Davies et al. 2018, IEEE Micro 38(1), 82-99, doi:10.1109/MM.2018.112130359",
    obtained="pre-silicon simulation of Loihi 1",
    synaptic_operation_pj=23.6,
    learning_update_pj=120.0,
    neuron_update_pj=81.0,
    hop_pj=4.0,
)


@dataclass(frozen=True)
class Operations:
    """Counts of operations; their sums and multiples are counts again. With measured spike rates they are means.

    Args:
        synaptic_operations: events that add a weight to a target.
        neuron_updates: new states of neurons.
        messages: events sent along connections.
        learning_updates: weights that are written.
    """

    synaptic_operations: float = 0.0
    neuron_updates: float = 0.0
    messages: float = 0.0
    learning_updates: float = 0.0

    def __add__(self, other: "Operations") -> "Operations":
        return Operations(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __mul__(self, times: float) -> "Operations":
        return Operations(*(getattr(self, f.name) * times for f in fields(self)))

    def estimated_energy_pj(self, model: EnergyModel = LOIHI_1) -> float:
        """Sum of counts times energies per operation, in pJ: an estimate.

        Args:
            model: energies per operation.
        """
        return (
            self.synaptic_operations * model.synaptic_operation_pj
            + self.neuron_updates * model.neuron_update_pj
            + self.messages * model.hop_pj * model.hops
            + self.learning_updates * model.learning_update_pj
        )


@dataclass(frozen=True)
class LayerOperations:
    """Operations of everything that ends at one population.

    Args:
        name: of the population.
        per_step: counts of one step in time.
        n_parameters: weights and biases, and elements of R, that learning writes.
        n_layers: weight layers among them.
    """

    name: str
    per_step: Operations
    n_parameters: int
    n_layers: int = 1


def count_netlist(netlist: Netlist) -> list[LayerOperations]:
    """Operations of every population of a netlist, in order; every unit sends its value at every step.

    A decorrelation counts at the layer above.

    Args:
        netlist: the network.
    """
    found = []
    for population in netlist.neurons:
        total, n_parameters = Operations(neuron_updates=population.size), 0
        for connection in netlist.into(population.name):
            n, m = connection.weight.shape
            total = total + Operations(m * n, 0, m)
            n_parameters += m * n + (0 if connection.bias is None else n)
            source = netlist.population(connection.source)
            if source.decorrelation is not None and not connection.delayed:
                total = total + _connected(source.size, source.size, 1.0)
                n_parameters += source.size**2
        found.append(LayerOperations(population.name, total, n_parameters))
    return found


def count_spiking(netlist: SpikingNetlist, rates: Sequence[float]) -> list[LayerOperations]:
    """Operations of every layer and of the readout of a spiking network.

    Args:
        netlist: the network.
        rates: spikes per unit and step, 0 to 1, of the input and then of every layer.

    Raises:
        UserError: another number of rates, or a rate out of range.
    """
    if len(rates) != len(netlist.layers) + 1 or not all(0 <= rate <= 1 for rate in rates):
        raise UserError(
            f"rates {list(rates)}: give spikes per unit and step, 0 to 1, of the input and of "
            f"{len(netlist.layers)} layers"
        )
    parts = [(layer.name, layer.into, layer.recurrent) for layer in netlist.layers]
    parts.append(("readout", netlist.readout, None))
    found = []
    for (name, into, recurrent), below, own in zip(parts, rates, [*rates[1:], 0.0], strict=True):
        n, m = into.weight.shape
        transformed = into.decorrelation is not None
        total = _connected(m, n, 1.0 if transformed else below)
        total = total + (_connected(m, m, below) if transformed else Operations())
        n_parameters = m * n + (0 if into.bias is None else n) + (m * m if transformed else 0)
        if recurrent is not None:
            total = total + Operations(own * n * n, 0, own * n)
            n_parameters += n * n + (0 if recurrent.bias is None else n)
        found.append(LayerOperations(name, total, n_parameters, 1 if recurrent is None else 2))
    return found


def measured_rates(model: Spiking, inputs: Tensor) -> list[float]:
    """Spikes per unit and step of the input and of every layer, for `count_spiking`.

    Args:
        model: the network.
        inputs: (time, batch, n_in); an input that is not all 0 and 1 sends a value at every step, so that its rate is
            1.
    """
    is_spikes = bool(((inputs == 0) | (inputs == 1)).all())
    fired = [0.0] * len(model.sizes)

    def watch(i: int) -> Callable[[nn.Module, Any, tuple[Tensor, ...]], None]:
        def after(module: nn.Module, args: Any, output: tuple[Tensor, ...]) -> None:
            fired[i] += float(output[0].mean())

        return after

    hooks = [model.get_submodule(f"neurons{i + 1}").register_forward_hook(watch(i)) for i in range(len(model.sizes))]
    try:
        state = None
        with torch.no_grad():
            for x in inputs:
                _, state = model(x, state)
    finally:
        for hook in hooks:
            hook.remove()
    return [float(inputs.mean()) if is_spikes else 1.0, *(total / len(inputs) for total in fired)]


def _connected(m: int, n: int, rate: float) -> Operations:
    """Operations of a connection of m sources with this rate to n units."""
    return Operations(rate * m * n, n, rate * m)


def per_inference(layers: Iterable[LayerOperations], n_steps: int = 1) -> Operations:
    """Operations of one inference.

    Args:
        layers: counts of one step in time.
        n_steps: steps in time of the inference.
    """
    return sum((layer.per_step for layer in layers), Operations()) * n_steps


def per_learning_step(
    layers: Sequence[LayerOperations], rule: Rule, n_steps: int = 1, batch: int = 1, updates: float = 1
) -> Operations:
    """Operations of one learning step on a batch: the rule's forward passes, and the writing of every weight.

    Args:
        layers: counts of one step in time.
        rule: the learning rule.
        n_steps: steps in time of each pass.
        batch: samples.
        updates: how often the weights are written in it: once, or, online along sequences, at every step.

    Raises:
        UserError: the rule has backward passes, whose operations are not those of forward passes.
    """
    if rule.backward_passes():
        raise UserError(
            f"rule {rule.name} goes backward through the network: its operations per learning step are not counted; "
            "use a perturbation rule, which consists of forward passes"
        )
    passes = rule.forward_passes(sum(layer.n_layers for layer in layers))
    written = sum(layer.n_parameters for layer in layers) * updates
    return per_inference(layers, n_steps) * (passes * batch) + Operations(learning_updates=written)


def table(
    layers: Sequence[LayerOperations],
    rule: Rule | None = None,
    n_steps: int = 1,
    batch: int = 1,
    updates: float = 1,
) -> list[dict[str, str | float]]:
    """Rows of a table: every layer per inference, all of them, and one learning step of a rule of forward passes.

    Args:
        layers: counts of one step in time.
        rule: the learning rule; None, or a rule with backward passes, has no row.
        n_steps: steps in time of an inference.
        batch: samples of a learning step.
        updates: how often the weights are written in a learning step.

    Returns:
        Rows with the keys of `COLUMNS`.
    """
    parts: dict[str, Operations] = {layer.name: layer.per_step * n_steps for layer in layers}
    parts["one inference"] = per_inference(layers, n_steps)
    if rule is not None and not rule.backward_passes():
        learning = per_learning_step(layers, rule, n_steps, batch, updates)
        parts[f"one learning step of {rule.name}, batch of {batch}"] = learning
    return [row(what, counts) for what, counts in parts.items()]


def row(what: str, counts: Operations) -> dict[str, str | float]:
    """One row of a table of operations.

    Args:
        what: its label.
        counts: its numbers.
    """
    return {"what": what} | asdict(counts) | {"estimated_energy_nj": counts.estimated_energy_pj() / 1000}


COLUMNS: Mapping[str, str] = {
    "what": "",
    "synaptic_operations": "synaptic operations",
    "neuron_updates": "neuron updates",
    "messages": "messages",
    "learning_updates": "learning updates",
    "estimated_energy_nj": "energy on Loihi 1, estimated (nJ)",
}
