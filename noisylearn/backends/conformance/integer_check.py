"""The integer emulator against the rule in floats, weight by weight, and Lava against the emulator.

Every update is computed again in float64 torch from the integers that the emulator began it with: its weights, what its
neurons sent, and its noise, which registers like its own draw once more. The losses have to be the same, and every
weight has to change by -eta g pre^T of the rule's own functions, but for what rounding may do:

- the weight goes up or down to an integer: 1 LSB;
- the trace of g goes up or down to a step: that step times pre;
- the third factor has a mantissa of so many bits: that share of g;
- x1 is half a payload, rounded: one payload unit of pre, more or less.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from noisylearn.backends.conformance.cases import Case, load, model, samples, squared_error
from noisylearn.backends.lava.fixed import run_fixed
from noisylearn.backends.loihi.arithmetic import Integers
from noisylearn.backends.loihi.emulator import Emulator
from noisylearn.backends.loihi.microcode import Microcode, largest_steps, to_microcode
from noisylearn.backends.loihi.network import Array, FixedConnection, FixedNetwork
from noisylearn.backends.loihi.neurons import Neurons
from noisylearn.backends.loihi.quantisation import quantise
from noisylearn.backends.loihi.schedule import PERTURBED, REFERENCE
from noisylearn.backends.netlist.rate import from_model
from noisylearn.ground.errors import UserError
from noisylearn.rules.estimate import node_factors

CORES = "loihi2-lava-0.10"
SAMPLES, LR, LOSS, SEED = 40, 0.05, "squared-error", 0
TELLING = 3.0  # times the bound is the largest update of every connection, at least: a wrong sign or factor is found
ROUNDING = 1e-9  # of float64
Sent = Mapping[str, Integers]  # payloads (2, width) of both passes by population; of the readout, its pre-activations


@dataclass(frozen=True, eq=False)
class Update:
    """One update of the emulator: weights before and after, by connection; what was sent now, and in the one before."""

    before: dict[str, Integers]
    after: dict[str, Integers]
    sent: Sent
    sent_before: Sent
    noise: dict[str, Integers]
    losses: Array
    target: Array


def why_not(case: Case) -> str | None:
    """Why the case has no form in integers; None where it has one."""
    try:
        microcode_of(case)
    except UserError as reason:
        return str(reason)
    return None


def microcode_of(case: Case) -> Microcode:
    """The network in integers, and the rule on it."""
    inputs, _ = _data(case)
    return to_microcode(case.rule, quantise(from_model(model(case)), load(CORES), inputs), LR)


def bound(case: Case) -> float:
    """The largest difference, in LSBs of a weight, that rounding explains in any update of the case."""
    plan = microcode_of(case)
    return max(float(part[1].max()) for update in _updates(case, plan) for part in _expected(plan, update).values())


def check(case: Case) -> str:
    """Empty if every update of the emulator is that of the rule within rounding, else what was found."""
    plan, telling = microcode_of(case), dict.fromkeys((c.name for c in microcode_of(case).network.connections), 0.0)
    for k, update in enumerate(_updates(case, plan)):
        if found := _forward_differs(plan.network, update):
            return f"sample {k}: {found}"
        for name, (change, most) in _expected(plan, update).items():
            largest = 2**plan.network.cores.weight_bits
            wanted = np.clip(update.before[name] + change, -largest, largest - 1)
            excess = np.abs(update.after[name] - wanted) - most
            if not excess.max() <= ROUNDING:
                return f"sample {k}: a weight of {name} is {excess.max():.1f} LSB further off than rounding explains"
            telling[name] = max(telling[name], float((np.abs(change) / most).max()))
    faint = [name for name, ratio in telling.items() if ratio < TELLING]
    return f"updates of {', '.join(faint)} are too small to tell a sign" if faint else ""


def check_lava(case: Case) -> str:
    """Empty if Lava's learning engine gives every weight of the emulator, else which connections differ."""
    plan, (inputs, targets) = microcode_of(case), _data(case)
    emulator = Emulator(plan, LOSS, SEED)
    emulator.run(inputs, targets)
    found = run_fixed(plan, LOSS, inputs, targets, SEED)
    differ = [name for name, weights in emulator.weights.items() if not np.array_equal(weights, found.weights[name])]
    return f"weights differ: {', '.join(differ)}" if differ else ""


def _data(case: Case) -> tuple[Array, Array]:
    data = samples(case, SAMPLES)
    return data.inputs[:, 0].numpy(), data.targets[:, 0].numpy()


def _updates(case: Case, plan: Microcode) -> Iterator[Update]:
    """The emulator's run, sample by sample."""
    emulator, (inputs, targets) = Emulator(plan, LOSS, SEED), _data(case)
    populations = plan.network.populations
    registers = {p.name: Neurons(p, i, plan, SEED) for i, p in enumerate(populations) if i}
    sent_before: Sent = {p.name: np.zeros((2, p.size), dtype=np.int64) for p in populations}
    for k in range(SAMPLES):
        before, part = emulator.weights, slice(k, k + 1)
        run = emulator.run(inputs[part], targets[part], keep_payloads=True)
        sent = {name: rows[0] for name, rows in run.payloads.items()}
        noise = {name: r.integrate(np.zeros((2, r.population.size), np.int64), 0) for name, r in registers.items()}
        yield Update(before, emulator.weights, sent, sent_before, noise, run.losses[0], targets[k])
        sent_before = sent


def _activities(network: FixedNetwork, update: Update) -> dict[str, Array]:
    """Pre-activations (2, units) in units of the float network."""
    found = {}
    for p in network.neurons:
        sums = [_pre(network, c, update) @ (update.before[c.name] * c.unit).T for c in network.into(p.name)]
        found[p.name] = sum(sums[1:], sums[0]) + update.noise[p.name] * p.unit
    return found


def _pre(network: FixedNetwork, c: FixedConnection, update: Update) -> Array:
    """What enters a connection in both passes, (2, sources), in units of the float network."""
    sent = (update.sent_before if c.delayed else update.sent)[c.source]
    values: Array = sent[:, : c.weights.shape[1]] * network.population(c.source).payload_unit
    return values


def _forward_differs(network: FixedNetwork, update: Update) -> str:
    """What the passes have that floats have not; empty if nothing."""
    activities = _activities(network, update)
    for p in network.neurons[:-1]:
        largest = (2**network.cores.payload_bits - 1) * p.payload_unit
        wanted = np.clip(activities[p.name], 0, largest)
        sent = update.sent[p.name][:, : p.size] * p.payload_unit
        if not np.abs(sent - wanted).max() <= p.payload_unit:
            return f"{p.name} sends what is no rounding of its activity"
    output = torch.from_numpy(activities[network.neurons[-1].name])
    losses = squared_error(output, torch.from_numpy(update.target).expand_as(output)).numpy()
    return "" if np.allclose(losses, update.losses, rtol=ROUNDING, atol=0) else "the losses are not those of torch"


def _expected(plan: Microcode, update: Update) -> dict[str, tuple[Array, Array]]:
    """By connection, the change of every weight, and the most by which rounding may change it, in LSBs."""
    network, signals = plan.network, _signals(plan, update)
    found = {}
    for c in network.connections:
        step, payload = plan.trace_units[c.target], network.population(c.source).payload_unit
        largest = step * largest_steps(plan)
        g, pre = np.clip(signals[c.target], -largest, largest)[:, None], _pre(network, c, update)[REFERENCE]
        share = 2.0 ** (1 - network.cores.third_factor_bits)  # half a unit of a mantissa with its highest bit set
        off = (share * np.abs(g) + step) * (pre + payload) + np.abs(g) * payload
        most = 1 + plan.lost_lsb + np.where(pre > 0, off * LR / c.unit, 0.0)
        found[c.name] = -LR * g * pre / c.unit, most
    return found


def _signals(plan: Microcode, update: Update) -> dict[str, Array]:
    """g of every population, from the rule's own functions in torch."""
    neurons, rule, order = plan.network.neurons, plan.rule, [REFERENCE, PERTURBED]
    activities = {name: torch.from_numpy(a)[order, None] for name, a in _activities(plan.network, update).items()}
    noise = {p.name: torch.from_numpy(update.noise[p.name] * p.unit)[order, None] for p in neurons}
    posts = [rule.post(activities[p.name][1:], activities[p.name][0], noise[p.name][1:]) for p in neurons]
    norms = [post.square().sum(2) for post in posts]
    losses = torch.from_numpy(update.losses[order])[:, None]
    sizes, variances = [p.size for p in neurons], [p.noise_variance for p in neurons]
    factors = node_factors(rule, [slice(1, 2)] * len(neurons), losses, norms, sizes, variances)
    return {p.name: (f[:, :, None] * post)[0, 0].numpy() for p, f, post in zip(neurons, factors, posts, strict=True)}
