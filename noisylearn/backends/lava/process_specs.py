"""From a network file to what each Lava process is given: the rule's own functions, and noise for every neuron.

No part of a rule is written a second time here: its `post`, `scales`, `modulators` and `from_noise` run on numpy arrays
as they run on torch tensors, and learned feedback by its own regression.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from noisylearn.backends.lava import feedback
from noisylearn.backends.lava.monitoring import Monitors
from noisylearn.backends.lava.netfile import LavaNet
from noisylearn.backends.lava.specs import (
    Array,
    ConnectionSpec,
    CriticSpec,
    DecorrelationSpec,
    Index,
    LossLogSpec,
    NeuronSpec,
    RunSettings,
    SourceSpec,
)
from noisylearn.backends.losses import GRADIENTS, LOSSES
from noisylearn.backends.netlist.rate import ACTIVATIONS, SLOPES, Connection, Netlist
from noisylearn.chips.crossbar import Crossbar
from noisylearn.chips.execution.noise import node_noise, weight_noise
from noisylearn.chips.readings import Plan
from noisylearn.effects import Effect, State
from noisylearn.ground.draws import Draws, ReplayedDraws, stream_seed
from noisylearn.ground.errors import UserError
from noisylearn.profiles import HardwareProfile
from noisylearn.rules import WP, LearnedFeedback, Rule
from noisylearn.rules.estimate import compared_passes, node_factors, reference
from noisylearn.rules.perturbation import NodePerturbation, NoisyPasses

EXECUTED = (NodePerturbation.step, WP.step, LearnedFeedback.step)  # what a rule does in a step
PASS = "pass"  # purpose of the random streams, as a rule's passes have it


@dataclass(frozen=True)
class FloatOptions:
    """How a network file is run in floats.

    Args:
        n_steps: updates to make, or samples to read.
        learns: whether the weights change.
        replays: whether torch's recorded draws are used.
    """

    n_steps: int
    learns: bool
    replays: bool


@dataclass(frozen=True, eq=False)
class Layer:
    """Weights of one torch layer.

    Args:
        name: of the layer in torch.
        below: population that it takes its inputs from.
        recurs: whether it also takes the activities of its own neurons of the step before.
        n_recurrent: columns of `weight` for these.
        weight: (units, inputs + n_recurrent).
        bias: (units,), or None.
    """

    name: str
    below: str
    recurs: bool
    n_recurrent: int
    weight: Array
    bias: Array | None


@dataclass(frozen=True, eq=False)
class NetworkSpecs:
    """What every process of a network is given.

    Args:
        layers: in order from the input to the readout.
        source: of the samples.
        connections: one for each layer.
        neurons: one for each layer.
        decorrelations: population -> its decorrelation.
        critic: of the losses.
        loss_log: of the losses' values.
    """

    layers: list[Layer]
    source: SourceSpec
    connections: list[ConnectionSpec]
    neurons: list[NeuronSpec]
    decorrelations: dict[str, DecorrelationSpec]
    critic: CriticSpec
    loss_log: LossLogSpec

    def decorrelated(self, population: str) -> str:
        """Name in torch of the layer whose input is the decorrelated population."""
        return next(layer.name for layer in self.layers if layer.below == population)


def why_not(rule: Rule, profile: HardwareProfile, netlist: Netlist, learns: bool = True) -> str | None:
    """The reason why this rule, on this profile and network, has no form as Lava processes.

    Args:
        rule: the learning rule.
        profile: the hardware profile.
        netlist: the float network.
        learns: whether the weights are to change.

    Returns:
        One line, with the remedy where there is one; None where the form exists.
    """
    if learns and (reason := _why_not_rule(rule, netlist)):
        return reason
    spec = profile.specification
    if profile.in_place is not None:
        return (
            f"profile {profile.name} writes its weights by pulses, which the Lava processes do not model: choose "
            "another profile"
        )
    if spec.inputs is not None or spec.dac is not None or spec.adc is not None:
        return (
            f"profile {profile.name} has converters or scaled inputs, which the Lava processes do not model: choose "
            "another profile"
        )
    if unknown := [effect.kind for effect in profile.all_effects() if not _is_modelled(effect)]:
        return (
            f"profile {profile.name}: the Lava processes do not model {', '.join(unknown)}; leave them off with "
            f"--without {','.join(unknown)}, or choose another --profile"
        )
    return None


def _why_not_rule(rule: Rule, netlist: Netlist) -> str | None:
    """The reason why a rule has no form as Lava processes, or None."""
    if not isinstance(rule, NoisyPasses) or type(rule).step not in EXECUTED:
        return (
            f"rule {rule.name} needs a backward pass, derivatives, actions drawn at the output, weights written "
            "between passes, or different rules in different layers; Lava processes have none of these"
        )
    if getattr(rule, "control_variate", "none") != "none":
        return (
            f"rule {rule.name}: processes do not predict losses, as its control variate does; use --control-variate "
            "none, or rule lf with --route direct"
        )
    if isinstance(rule, LearnedFeedback) and (reason := feedback.why_not(rule)):
        return reason
    credit = getattr(rule, "credit", "local")
    if netlist.is_recurrent and (credit != "local" or rule.update != "online"):
        return (
            f"rule {rule.name} with credit '{credit}' and update '{rule.update}': processes learn step by step, "
            "from the loss of that step; train with --credit local --update online"
        )
    return None


def _is_modelled(effect: Effect) -> bool:
    """Whether the Lava processes model an effect."""
    return effect.site == "node" or (effect.site == "weight" and effect.lifetime in ("read", "pass"))


def process_specs(net: LavaNet, options: FloatOptions, monitors: Monitors) -> NetworkSpecs:
    """What every process of a network file is given.

    Args:
        net: content of the file.
        options: of the run.
        monitors: of the run, which gain one for each process.

    Raises:
        UserError: the network has no form as processes, or the recorded draws are too few.
    """
    if reason := why_not(net.rule, net.profile, net.netlist, options.learns):
        raise UserError(reason)
    if options.replays and not options.learns:
        raise UserError("--replay repeats the draws of learning: add --learn")
    if options.replays and options.n_steps > net.steps:
        raise UserError(
            f"--replay has draws for {net.steps} steps, not {options.n_steps}: export with more --steps, or run fewer"
        )
    return _SpecBuilder(net, options, monitors).specs()


class _SpecBuilder:
    """The specs of one network, and what they share."""

    def __init__(self, net: LavaNet, options: FloatOptions, monitors: Monitors) -> None:
        self.monitors = monitors
        self.net, self.learns = net, options.learns
        self.layers = layers_of(net.netlist)
        self.crossbars = {layer.name: _crossbar(layer, net.profile) for layer in self.layers}
        self.draws = _draws(net, options.replays)
        self.plan = allowed_plan(net.rule, net.profile, len(self.layers), options.learns)
        horizon = net.rule.horizon if isinstance(net.rule, LearnedFeedback) and net.period else 1
        self.settings = RunSettings(
            self.plan.n_passes, net.batch, options.n_steps, net.steps, net.period, options.learns, horizon
        )

    def specs(self) -> NetworkSpecs:
        """All of them."""
        net, settings = self.net, self.settings
        source = SourceSpec(settings, self.monitors.of("source"), net.inputs)
        connections = [self._connection(layer) for layer in self.layers]
        rows = self._compared()
        neurons = [self._neurons(i, layer, rows[i]) for i, layer in enumerate(self.layers)]
        decorrelations = {p.name: self._decorrelation(p.name) for p in net.netlist.populations if p.decorrelation}
        critic = self._critic(rows, neurons)
        loss_log = LossLogSpec(settings, self.monitors.of("loss log"))
        return NetworkSpecs(self.layers, source, connections, neurons, decorrelations, critic, loss_log)

    def _reference(self, passes: Array) -> Array:
        """What passes are compared with; a single pass is its own reference."""
        if not self.learns:
            return passes[0]
        assert isinstance(self.net.rule, NoisyPasses)
        found: Array = reference(passes, self.net.rule.baseline)
        return found

    def _compared(self) -> list[Index | None]:
        """Which passes of every layer are compared with the reference; None where a layer compares none."""
        rule = self.net.rule
        if not self.learns or not isinstance(rule, NodePerturbation):
            return [None] * len(self.layers)
        return list(compared_passes(rule.baseline, self.plan, len(self.layers)))

    def _connection(self, layer: Layer) -> ConnectionSpec:
        """Spec of a layer's weights."""
        rule = self.net.rule if self.learns else None
        by_weights = isinstance(rule, WP)
        variance = self.crossbars[layer.name].weight_variance

        def from_noise(modulators: Array, noise: list[dict[str, Array]]) -> dict[str, Array]:
            assert isinstance(rule, WP)
            found: dict[str, Array] = rule.from_noise(modulators, _Noise(noise, variance))
            return found

        return ConnectionSpec(
            self.settings, self.monitors.of(f"connection into {layer.name}"), layer.name, layer.weight, layer.bias,
            layer.n_recurrent, self.net.rates * (self.net.lr / (1 if by_weights else self.net.batch)), self._reference,
            self._read_noise(layer), self._weight_noise(layer), from_noise if by_weights else None,
        )  # fmt: skip

    def _neurons(self, i: int, layer: Layer, compared: Index | None) -> NeuronSpec:
        """Spec of a layer's neurons."""
        rule, name = self.net.rule, self.net.netlist.population(layer.name).activation
        index: Index = slice(0, 0) if compared is None else compared

        def post(activity: Array, noise: Array | None) -> Array:
            assert isinstance(rule, NodePerturbation)
            of_numpy: Callable[..., Any] = rule.post
            found: Array = of_numpy(activity[index], self._reference(activity), None if noise is None else noise[index])
            return found

        def by_factors(received: Array, kept: Array) -> Array:
            found: Array = (received[i, index][:, :, None] * kept).sum(0)
            return found

        keep, signal = None if compared is None else post, by_factors
        if self.learns and isinstance(rule, LearnedFeedback):
            is_last, settings = i == len(self.layers) - 1, self.settings
            own = feedback.PopulationFeedback(
                rule, ACTIVATIONS[name], SLOPES[name], is_last, is_last and name == "identity", settings.horizon,
                settings.starts_sequence,
            )  # fmt: skip
            keep, signal = own.keep, own.signal
        return NeuronSpec(
            self.settings, self.monitors.of(f"neurons {layer.name}"), i, len(self.layers), len(layer.weight),
            ACTIVATIONS[name], self._node_noise(i, layer), keep, signal, compared, self._factor_shape(),
        )  # fmt: skip

    def _factor_shape(self) -> tuple[int, ...]:
        """Shape of what the critic broadcasts."""
        settings, rule = self.settings, self.net.rule
        if self.learns and isinstance(rule, WP):
            return (1, settings.n_passes, 1)
        if self.learns and isinstance(rule, LearnedFeedback):
            return (1 + feedback.n_differences(rule, settings.n_passes), settings.batch, len(self.layers[-1].weight))
        return (len(self.layers), settings.n_passes, settings.batch)

    def _decorrelation(self, name: str) -> DecorrelationSpec:
        """Spec of the decorrelation of a population."""
        decorrelation = self.net.netlist.population(name).decorrelation
        assert decorrelation is not None
        given = decorrelation.matrix, decorrelation.rate, self.net.counts, self._reference
        return DecorrelationSpec(self.settings, self.monitors.of(f"decorrelation of {name}"), name, *given)

    def _critic(self, rows: list[Index | None], neurons: list[NeuronSpec]) -> CriticSpec:
        """Spec of the critic."""
        net, rule = self.net, self.net.rule
        perturbed = [i for i, index in enumerate(rows) if index is not None]
        shape = self._factor_shape()
        variances = [crossbar.node_variance for crossbar in self.crossbars.values()]

        def by_nodes(losses: Array, norms: Array | None, outputs: Array, now: int) -> Array:
            assert isinstance(rule, NodePerturbation)
            assert norms is not None
            found = np.zeros(shape)
            given = [norms[i, rows[i]] for i in perturbed]
            sizes = [neurons[i].size for i in perturbed]
            chosen = [index for index in rows if index is not None]
            factors = node_factors(rule, chosen, losses, given, sizes, [variances[i] for i in perturbed])
            for i, factor in zip(perturbed, factors, strict=True):
                found[i, rows[i]] = factor
            return found

        def by_weights(losses: Array, norms: Array | None, outputs: Array, now: int) -> Array:
            assert isinstance(rule, WP)
            return np.asarray(rule.modulators(losses))[None, :, None]

        def by_error(losses: Array, norms: Array | None, outputs: Array, now: int) -> Array:
            assert isinstance(rule, LearnedFeedback)
            return feedback.broadcast(rule, GRADIENTS[net.loss], outputs, net.targets[now], net.counts[now])

        factors = by_weights if isinstance(rule, WP) else by_error if isinstance(rule, LearnedFeedback) else by_nodes
        return CriticSpec(
            self.settings, self.monitors.of("critic"), neurons[-1].size, len(self.layers), net.targets, net.counts,
            LOSSES[net.loss], self._reference, bool(perturbed), factors, shape,
        )  # fmt: skip

    def _node_noise(self, i: int, layer: Layer) -> Callable[[int], Array] | None:
        """Function that draws the noise of a layer's neurons, if they have any."""
        crossbar, settings = self.crossbars[layer.name], self.settings
        perturbed = [p for p in range(settings.n_passes) if self.plan.perturbed[p][i]]
        if not crossbar.node_effects or not perturbed:
            return None

        trail: list[State] = [{} for _ in crossbar.node_effects]

        def noise(step: int) -> Array:
            zeros = torch.zeros(settings.n_passes, 1, settings.batch, len(layer.weight), dtype=torch.float64)
            if settings.starts_sequence(step) or not settings.period:
                for left in trail:
                    left.clear()
            drawn = zeros
            if not settings.is_over(step):
                drawn = node_noise(crossbar, layer.name, zeros, perturbed, self.draws, PASS, trail)
            values: Array = drawn[:, 0].numpy()
            return values

        return noise

    def _read_noise(self, layer: Layer) -> Callable[[int, Array, Array], Array] | None:
        """Function that draws the read noise of a layer's weights at its pre-activations, if the devices have any."""
        crossbar, settings = self.crossbars[layer.name], self.settings
        if crossbar.read_variance() is None:
            return None

        def noise(step: int, inputs: Array, weight: Array) -> Array:
            shape = (settings.n_passes, settings.batch, len(weight))
            if settings.is_over(step):
                return np.zeros(shape)
            each = _variance_of(crossbar, weight)
            z = self.draws.normal((layer.name, "read", PASS), shape, range(settings.n_passes))
            return np.sqrt(np.square(inputs) @ each.T) * z.numpy()

        return noise

    def _weight_noise(self, layer: Layer) -> Callable[[int], list[dict[str, Array]]] | None:
        """Function that draws the noise of a layer's weights by pass, if the devices have any."""
        crossbar = self.crossbars[layer.name]
        noisy = [p for p, perturbed in enumerate(self.plan.perturbed) if any(perturbed)]
        if not crossbar.pass_effects or not noisy:
            return None

        def noise(step: int) -> list[dict[str, Array]]:
            over = self.settings.is_over(step)
            drawn = {} if over else weight_noise(crossbar, layer.name, noisy, self.draws, PASS)
            one_by_one = [drawn.get(p, {}) for p in range(self.settings.n_passes)]
            return [{key: value.numpy() for key, value in one.items()} for one in one_by_one]

        return noise


class _Noise:
    """What `WP.from_noise` reads of a layer."""

    def __init__(self, weight_noise: list[dict[str, Array]], weight_variance: float) -> None:
        self.weight_noise, self.weight_variance = weight_noise, weight_variance


def layers_of(netlist: Netlist) -> list[Layer]:
    """The connections of every layer as one array of weights.

    Args:
        netlist: the float network.

    Returns:
        Layers in order from the input to the readout.
    """
    parts: dict[str, list[Connection]] = {}
    for connection in netlist.connections:
        parts.setdefault(connection.layer, []).append(connection)
    layers = []
    for name, connections in parts.items():
        weight = np.concatenate([c.weight for c in connections], 1)
        recurrent = [c for c in connections if c.delayed]
        n_recurrent = sum(c.weight.shape[1] for c in recurrent)
        layers.append(Layer(name, connections[0].source, bool(recurrent), n_recurrent, weight, connections[0].bias))
    return layers


def allowed_plan(rule: Rule, profile: HardwareProfile, n_layers: int, learns: bool) -> Plan:
    """The rule's passes, with noise in each where the profile does not allow to switch it off.

    Args:
        rule: the learning rule.
        profile: the hardware profile.
        n_layers: number of layers.
        learns: whether the weights change; if not, the plan is a single pass.
    """
    always = "clean_pass" not in profile.observable
    plan = Plan(((False,) * n_layers,))
    if learns:
        assert isinstance(rule, NoisyPasses)
        plan = rule.plan(n_layers)
    return Plan(((True,) * n_layers,) * plan.n_passes) if always else plan


def _variance_of(crossbar: Crossbar, weight: Array) -> Array:
    """Variance of every weight at a read, as the devices have it with these weights programmed."""
    crossbar.layer.weight.data = torch.from_numpy(weight)
    crossbar.program()
    found = crossbar.read_variance()
    assert found is not None
    values: Array = found.numpy()
    return values


def _crossbar(layer: Layer, profile: HardwareProfile) -> Crossbar:
    """The layer on the devices of the profile, which know the size of their noise."""
    linear = nn.Linear(layer.weight.shape[1], len(layer.weight), bias=layer.bias is not None, dtype=torch.float64)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(layer.weight))
    return Crossbar(layer.name, linear, profile, Draws(0))


def _draws(net: LavaNet, replays: bool) -> Draws:
    """Torch's recorded draws, or random streams of the processes' own."""
    if not replays:
        return Draws(stream_seed(net.seed, ("lava",)), dtype=torch.float64)
    record = {tuple(name.split("|")): list(torch.from_numpy(n).flatten(0, 1)) for name, n in net.draws.items()}
    return ReplayedDraws(record)
