"""From a float network to integers: units, exponents and noise registers."""

from math import ceil, inf, log2

import numpy as np

from noisylearn.backends.loihi.given import finite_array
from noisylearn.backends.loihi.network import Array, FixedConnection, FixedNetwork, FixedPopulation, Register
from noisylearn.backends.netlist.rate import ACTIVATIONS, INPUT, Connection, Netlist
from noisylearn.effects import LfsrNode
from noisylearn.ground.errors import UserError
from noisylearn.profiles import HardwareProfile, load_profile
from noisylearn.profiles.cores import Cores


def quantise(
    netlist: Netlist,
    profile: str | HardwareProfile,
    inputs: Array,
    weight_headroom: float = 2.0,
    activity_headroom: float = 1.5,
) -> FixedNetwork:
    """The network in the integers of a profile's cores.

    Units are powers of two, chosen so that the inputs fit once, activities `activity_headroom` times and weights
    `weight_headroom` times over. Weights are rounded to even integers: the cores load only even signed weights, odd
    ones come about by learning.

    Args:
        netlist: the float network, from `from_model`.
        profile: with [specification.cores] and the effect lfsr-node alone, or the name of such a profile.
        inputs: typical inputs, (samples, features); for a recurrent network in order of time.
        weight_headroom: how many times over the largest weight of a connection fits at the start.
        activity_headroom: how many times over the largest activity of a population fits.

    Raises:
        UserError: the network or the profile has no such form; the message names the part and the remedy.
    """
    machine = load_profile(profile)
    inputs = finite_array("inputs", inputs).astype(np.float64)
    _check_finite(netlist)
    n_features = netlist.populations[0].size
    if inputs.ndim != 2 or inputs.shape[1] != n_features or not len(inputs):
        raise UserError(f"inputs of shape {[*inputs.shape]}: the network takes (samples, {n_features})")
    for name, headroom in (("weight_headroom", weight_headroom), ("activity_headroom", activity_headroom)):
        if not 0 < headroom < inf:
            raise UserError(f"{name} = {headroom}: give a factor above 0, such as 2")
    cores, noise = _cores(machine), _noise(machine)
    _check(netlist)
    stages = _stages(netlist)
    largest = _largest_activities(netlist, inputs)
    largest_payload = 2**cores.payload_bits - 1
    payload_units = {
        name: _power_of_two(value * (1 if name == INPUT else activity_headroom) / largest_payload)
        for name, value in largest.items()
    }
    split = bool((inputs < 0).any())
    units = {c.name: _weight_unit(c, payload_units[c.source], cores, weight_headroom) for c in netlist.connections}
    populations = []
    for p in netlist.populations:
        sums = [units[c.name] * payload_units[c.source] for c in netlist.into(p.name)]
        unit = _pre_activation_unit(p.name, sums, noise.step, cores) if sums else 1.0
        constant = _constant(netlist, p.name, payload_units[p.name], largest_payload)
        register = Register(noise.mantissa, round(log2(noise.step / unit)))
        populations.append(
            FixedPopulation(
                p.name, p.size, p.activation, stages[p.name], unit, payload_units[p.name], register, constant,
                split and p.name == INPUT,
            )
        )  # fmt: skip
    by_name = {p.name: p for p in populations}
    connections = [
        _connection(c, by_name[c.source], by_name[c.target], units[c.name], cores) for c in netlist.connections
    ]
    return FixedNetwork(tuple(populations), tuple(connections), cores, netlist)


def _check_finite(netlist: Netlist) -> None:
    """Refuse weights that no integer can stand for."""
    for connection in netlist.connections:
        finite_array(f"weights of connection {connection.name}", connection.weight)
        finite_array(f"biases of connection {connection.name}", 0.0 if connection.bias is None else connection.bias)


def _cores(profile: HardwareProfile) -> Cores:
    """The profile's cores."""
    if profile.specification.cores is None:
        raise UserError(
            f"profile {profile.name} has no [specification.cores], which state the widths of integers; use "
            "loihi2-lava-0.10"
        )
    return profile.specification.cores


def _noise(profile: HardwareProfile) -> LfsrNode:
    """The profile's noise of a shift register, if it is its only effect."""
    effects = profile.all_effects()
    others = [e.kind for e in effects if not isinstance(e, LfsrNode)]
    if others:
        none = "they have no noise per synapse, " if any(e.site == "weight" for e in effects) else ""
        raise UserError(
            f"profile {profile.name}: the cores cannot produce effect {others[0]}; {none}their only noise is that of a "
            "shift register in every neuron; write kind = 'lfsr-node' alone"
        )
    found = [e for e in effects if isinstance(e, LfsrNode)]
    if not found:
        raise UserError(
            f"profile {profile.name} has no effect lfsr-node, and without noise nothing is learned; use "
            "loihi2-lava-0.10"
        )
    if log2(found[0].lsb) % 1:
        raise UserError(
            f"profile {profile.name}: lfsr-node.lsb = {found[0].lsb:g} is no power of two, which shifts need"
        )
    return found[0]


def _check(netlist: Netlist) -> None:
    """Refuse what integers cannot represent."""
    *hidden, readout = netlist.neurons
    for p in hidden:
        if p.activation != "relu":
            raise UserError(
                f"population {p.name}: activation {p.activation} gives signed activities, but payloads have no sign; "
                "use activation relu"
            )
    if readout.activation != "identity":
        raise UserError(
            f"population {readout.name}: activation {readout.activation} at the readout, whose outputs are "
            "pre-activations; leave it out"
        )
    for p in netlist.populations:
        if p.decorrelation is not None:
            raise UserError(
                f"population {p.name}: decorrelated activities are signed, but payloads have no sign; leave "
                "decorrelation out"
            )
    for c in netlist.connections:
        if c.bias is not None and c.delayed:
            raise UserError(f"connection {c.name}: a bias on a delayed connection; put it on a direct one")
        alike = [o for o in netlist.connections if o.source == c.source and not o.delayed and not c.delayed]
        if any((o.bias is None) != (c.bias is None) for o in alike):
            raise UserError(f"population {c.source}: give all of its direct connections a bias, or none")


def _stages(netlist: Netlist) -> dict[str, int]:
    """Number of direct connections between the input and every population; refused where paths differ in length."""
    stages = {INPUT: 0}
    for p in netlist.neurons:
        below = {stages[c.source] for c in netlist.into(p.name) if not c.delayed}
        if len(below) != 1:
            raise UserError(
                f"population {p.name}: reached by paths of {sorted(below)} connections, along which a pass arrives at "
                "different steps; give it inputs from one stage"
            )
        stages[p.name] = below.pop() + 1
    return stages


def _largest_activities(netlist: Netlist, inputs: Array) -> dict[str, float]:
    """Largest |activity| of every population over the inputs, computed in floats without noise."""
    largest = {INPUT: float(np.abs(inputs).max())}
    before = {p.name: np.zeros(p.size) for p in netlist.populations}
    steps = list(inputs) if netlist.is_recurrent else [inputs]
    for x in steps:
        now = {INPUT: x}
        for p in netlist.neurons:
            total = sum((before if c.delayed else now)[c.source] @ c.weight.T for c in netlist.into(p.name))
            total = total + sum(c.bias for c in netlist.into(p.name) if c.bias is not None)
            now[p.name] = ACTIVATIONS[p.activation](np.asarray(total))
            largest[p.name] = max(largest.get(p.name, 0.0), float(np.abs(now[p.name]).max()))
        before = now
    return largest


def _power_of_two(value: float) -> float:
    """The smallest power of two that is not below `value`; 1 for zero."""
    return 2.0 ** ceil(log2(value)) if value > 0 else 1.0


def _constant(netlist: Netlist, population: str, payload_unit: float, largest_payload: int) -> int:
    """Payload nearest to the activity 1 that multiplies a bias; 0 where there is no bias."""
    if not any(c.source == population and c.bias is not None for c in netlist.connections):
        return 0
    return min(max(1, round(1 / payload_unit)), largest_payload)


def _bias_weights(connection: Connection, payload_unit: float, largest_payload: int) -> Array:
    """Weights from the constant payload that amount to the bias."""
    constant = min(max(1, round(1 / payload_unit)), largest_payload)
    assert connection.bias is not None
    return connection.bias / (constant * payload_unit)


def _weight_unit(connection: Connection, payload_unit: float, cores: Cores, headroom: float) -> float:
    """Unit of a connection's weights."""
    largest = float(np.abs(connection.weight).max())
    if connection.bias is not None:
        largest = max(largest, float(np.abs(_bias_weights(connection, payload_unit, 2**cores.payload_bits - 1)).max()))
    if not largest:
        raise UserError(
            f"connection {connection.name}: all weights are zero, which gives them no scale; initialise them to other "
            "values"
        )
    return _power_of_two(largest * headroom / (2**cores.weight_bits - 1))


def _pre_activation_unit(name: str, sums: list[float], noise_step: float, cores: Cores) -> float:
    """As fine as the finest sum, and as the noise as far as the weight exponents allow."""
    coarsest = max(sums) / 2.0 ** cores.weight_exponent[1]
    if min(sums) < coarsest:
        raise UserError(
            f"population {name}: its connections differ by a factor {max(sums) / min(sums):g} in scale, but exponents "
            f"cover a factor {2 ** cores.weight_exponent[1]}; scale the weights"
        )
    return max(min(*sums, noise_step), coarsest)


def _connection(
    c: Connection, source: FixedPopulation, target: FixedPopulation, unit: float, cores: Cores
) -> FixedConnection:
    """A connection in integers."""
    values = np.concatenate([c.weight, -c.weight], 1) if source.split else c.weight
    if c.bias is not None:
        bias = _bias_weights(c, source.payload_unit, 2**cores.payload_bits - 1)
        values = np.concatenate([values, bias[:, None]], 1)
    bound = 2**cores.weight_bits
    weights = np.clip(2 * np.rint(values / unit / 2).astype(np.int64), -bound, bound - 2)
    exponent = round(log2(unit * source.payload_unit / target.unit))
    error = float(np.abs(weights * unit - values).max())
    return FixedConnection(c.name, c.source, c.target, weights, unit, exponent, c.delayed, c.bias is not None, error)
