"""A learning rule as sums of products for the learning engine, with mantissas and exponents that the engine keeps.

The update is dW = -eta g pre^T with g = modulator x scale x post. The neuron sends g in units of its trace, the
positive part in y1 and the negative part in y2, and the engine adds

    -m 2^e x0 x1 y1 + m 2^e x0 x1 y2        (x0: the source spiked; x1: half its payload)

to the weight. Products are truncated to 15 bits before they are scaled, which takes 3 bits off m x1 y: where the traces
are multiples of 8 / m nothing is lost; otherwise every weight loses up to 7/8 of 2^-7 LSB at every update, always
downwards.
"""

from dataclasses import dataclass
from math import log2

from noisylearn.backends.loihi.grammar import Factor, Product, parsed, written
from noisylearn.backends.loihi.network import FixedConnection, FixedNetwork
from noisylearn.backends.loihi.rounding import FRACTION_BITS
from noisylearn.backends.loihi.schedule import Schedule, scheduled
from noisylearn.ground.errors import UserError
from noisylearn.rules.base import Rule
from noisylearn.rules.perturbation import NodePerturbation


@dataclass(frozen=True)
class Microcode:
    """What the cores execute for a learning rule, and the units of it.

    Args:
        rule: the rule; its `post` and `scales` run on the cores' integers.
        learning_rate: eta, in units of the float network.
        strings: connection -> its sum of products dw.
        trace_units: population -> value of one step of its trace, in units of the gradient at a pre-activation.
        trace_step: traces are multiples of it.
        lost_lsb: the most that a weight loses at one update by truncation of products, in LSBs of the weight.
        network: the network in integers.
        schedule: which step of an epoch does what.
    """

    rule: NodePerturbation
    learning_rate: float
    strings: dict[str, str]
    trace_units: dict[str, float]
    trace_step: int
    lost_lsb: float
    network: FixedNetwork
    schedule: Schedule

    def products(self, connection: str) -> tuple[Product, ...]:
        """The products of a connection."""
        cores = self.network.cores
        return parsed(self.strings[connection], cores.mantissa_bits, cores.scale_exponent)

    def effective_learning_rate(self, connection: FixedConnection) -> float:
        """The learning rate eta as computed back from the string and the units, before the third factor is rounded."""
        product, cores = self.products(connection.name)[0], self.network.cores
        raised = 2.0 ** (product.exponent - cores.scale_exponent[0] - cut_bits(self.network))
        gain = abs(product.mantissa) * self.trace_step * raised / 2**FRACTION_BITS * connection.unit
        pre = 2 * self.network.population(connection.source).payload_unit
        return gain / (self.trace_units[connection.target] * pre)

    def report(self) -> str:
        """Text: the rule, effective learning rates and every rounding, one line each."""
        cores = self.network.cores
        lines = [f"rule {self.rule.describe()}, learning rate {self.learning_rate:g}, t_epoch {self.schedule.t_epoch}"]
        for c in self.network.connections:
            rate = self.effective_learning_rate(c)
            smallest = self.trace_units[c.target] * rate * 2 * self.network.population(c.source).payload_unit / c.unit
            lines.append(
                f"{c.name}: dw = {self.strings[c.name]}; effective learning rate {rate:.6g}; one step of the trace "
                f"and of x1 is {smallest:.3g} LSB of the weight; weights are rounded {cores.rounding}"
            )
        error = 2.0 ** (1 - cores.third_factor_bits)  # half a unit of a mantissa with its highest bit set
        lines.append(
            f"third factor: mantissa of {cores.third_factor_bits} bits, relative rounding error up to {error:.2g}"
        )
        lines.append(f"traces: multiples of {self.trace_step}, up to {largest_steps(self) * self.trace_step}")
        lost = f"up to {self.lost_lsb:.2g} LSB downwards at every update" if self.lost_lsb else "nothing"
        lines.append(f"lost where products are cut: {lost}")
        return "\n".join(lines)


def to_microcode(rule: Rule, network: FixedNetwork, learning_rate: float, mantissa: int = 4) -> Microcode:
    """The microcode of a rule on a network in integers.

    Args:
        rule: a rule whose update is a loss difference x scale x a factor of each neuron x its input, from two passes.
        network: from `quantise`.
        learning_rate: eta, in units of the float network.
        mantissa: 4 and 2 lose nothing, with traces in steps of 2 and 4; with 1 a step of the trace is worth an eighth
            of those, and an update loses what the module states.

    Raises:
        UserError: the rule has no such form, with the reason; the learning rate is not above 0; a connection needs a
            power of two that the engine does not have; or an epoch is longer than the engine counts.
    """
    _check(rule, network)
    assert isinstance(rule, NodePerturbation)
    if not learning_rate > 0:
        raise UserError(f"learning rate {learning_rate:g}: give one above 0")
    if mantissa not in (1, 2, 4):
        raise UserError(f"mantissa {mantissa}: give 1, 2 or 4")
    whole = 2 ** cut_bits(network)
    step = 1 if mantissa == 1 else max(1, whole // mantissa)
    low, high = network.cores.scale_exponent
    strings, trace_units = {}, {}
    for p in network.neurons:
        into = network.into(p.name)
        needed = {c.name: log2(network.population(c.source).payload_unit / c.unit) for c in into}
        lowest = min(needed.values())
        for c in into:
            exponent = low + round(needed[c.name] - lowest)
            if exponent > high:
                raise UserError(
                    f"connection {c.name}: needs the power of two {exponent}, the engine has {low} to {high}; its "
                    "weights are too small compared with the population's other connections; scale them"
                )
            strings[c.name] = _string(mantissa, exponent)
        finest = next(c for c in into if needed[c.name] == lowest)
        gain = mantissa * step / whole / 2**FRACTION_BITS * finest.unit
        trace_units[p.name] = gain / (2 * network.population(finest.source).payload_unit * learning_rate)
    lost = (1 - 1 / whole) / 2**FRACTION_BITS if mantissa * step % whole else 0.0
    return Microcode(rule, learning_rate, strings, trace_units, step, lost, network, scheduled(network))


def cut_bits(network: FixedNetwork) -> int:
    """Bits by which the engine truncates the product of a mantissa and two traces."""
    cores = network.cores
    return max(0, cores.mantissa_bits + 2 * cores.trace_bits - cores.learning_accumulator_bits)


def largest_steps(microcode: Microcode) -> int:
    """The most steps that a trace holds."""
    return int((2**microcode.network.cores.trace_bits - 1) // microcode.trace_step)


def _string(mantissa: int, exponent: int) -> str:
    """The two products of a connection, as text."""
    x1 = Factor("x1")
    return written(
        (
            Product(-mantissa, exponent, "x0", (x1, Factor("y1"))),
            Product(mantissa, exponent, "x0", (x1, Factor("y2"))),
        )
    )


def _check(rule: Rule, network: FixedNetwork) -> None:
    """Refuse rules other than loss difference x scale x a factor per neuron x input, from two passes."""
    name = rule.describe()
    if "injected_weight_noise" in rule.observes:
        raise UserError(
            f"rule {name}: needs noise per synapse, which no public description of Loihi offers; use NP or ANP"
        )
    if not isinstance(rule, NodePerturbation) or type(rule).step is not NodePerturbation.step:
        raise UserError(
            f"rule {name}: its update is no product of a loss difference, a factor per neuron and the input, the "
            "only form that synapses with a third factor learn by; use NP or ANP"
        )
    if rule.control_variate != "none":
        raise UserError(
            f"rule {name}: a critic in integers broadcasts loss differences and does not predict them; use "
            "control_variate='none'"
        )
    if rule.baseline == "mean":
        raise UserError(
            f"rule {name}: a trace holds the spikes of one pass, not the mean of several; use baseline='noisy'"
        )
    n_layers = len(network.neurons)
    if rule.plan(n_layers).n_passes != 2 or not all(rule.plan(n_layers).perturbed[1]):
        passes = rule.plan(n_layers).n_passes
        raise UserError(
            f"rule {name}: runs {passes} passes; an epoch has two, a reference and one with every neuron perturbed; "
            "use NP or ANP"
        )
    if network.is_recurrent and rule.credit != "local":
        raise UserError(f"rule {name}: credit '{rule.credit}' needs losses of other steps; use credit='local'")
    if network.is_recurrent and rule.update != "online":
        raise UserError(f"rule {name}: the engine learns in every epoch; use update='online'")
