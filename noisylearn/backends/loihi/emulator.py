"""The emulator: two passes and one learning phase for each sample, in integers and vectorised over units."""

from dataclasses import dataclass
from typing import final

import numpy as np

from noisylearn.backends.loihi.arithmetic import Integers, shifted_to_nearest, trace_of
from noisylearn.backends.loihi.critic import Critic, Loss
from noisylearn.backends.loihi.engine import Engine
from noisylearn.backends.loihi.microcode import Microcode
from noisylearn.backends.loihi.network import Array, FixedConnection, encoded_samples, with_constant
from noisylearn.backends.loihi.neurons import Neurons, summed
from noisylearn.backends.loihi.rounding import thresholds
from noisylearn.backends.loihi.saturation import Saturation
from noisylearn.backends.loihi.schedule import REFERENCE

Emission = tuple[str, bool]  # population, and whether it is sent an epoch later


@dataclass(frozen=True, eq=False)
class EmulatorResult:
    """What the emulator computed over a series of samples.

    Args:
        losses: (samples, 2), the perturbed pass first, then the reference.
        payloads: population -> (samples, 2, width), and for the readout its pre-activations (samples, 2, n_outputs);
            empty where they were not kept.
    """

    losses: Array
    payloads: dict[str, Integers]


@final
class Emulator:
    """A network in integers that learns by a rule's microcode.

    Args:
        microcode: the rule on its network, from `to_microcode`.
        loss: name in `noisylearn.backends.losses.LOSSES`, or a function of outputs (passes, n) and one target.
        seed: of the noise and of every stochastic rounding.

    Attributes:
        x1: (source population, whether delayed) -> its presynaptic trace after the last epoch, (payloads,).
        y: population -> its traces "y1" and "y2" after the last epoch, (size,).

    Raises:
        UserError: no loss has this name, or the engine cannot execute a product of the microcode.
    """

    def __init__(self, microcode: Microcode, loss: str | Loss, seed: int = 0) -> None:
        self._microcode, self._network = microcode, microcode.network
        cores = self._network.cores
        self._neurons = [Neurons(p, i, microcode, seed) for i, p in enumerate(self._network.populations) if i]
        self._critic = Critic(microcode, loss)
        self._engines = {
            c.name: Engine(
                c.name, c.weights, microcode.products(c.name), cores,
                thresholds(cores.rounding, c.weights.shape, rounding_seed(seed, i)),
            )
            for i, c in enumerate(self._network.connections)
        }  # fmt: skip
        self._counts = Saturation()
        self._sent = {p.name: np.zeros((2, p.size), dtype=np.int64) for p in self._network.populations}
        self.x1: dict[Emission, Integers] = {}
        for c in self._network.connections:
            self.x1[c.source, c.delayed] = np.zeros(c.weights.shape[1], dtype=np.int64)
        self.y: dict[str, dict[str, Integers]] = {}

    @property
    def weights(self) -> dict[str, Integers]:
        """Connection -> integer weights, (targets, payloads)."""
        return {name: engine.weights.astype(np.int64) for name, engine in self._engines.items()}

    @property
    def saturation(self) -> Saturation:
        """Counts of every number clipped to its range since construction, by place."""
        total = Saturation()
        for part in (self._counts, self._critic.saturation, *(n.saturation for n in self._neurons)):
            total.add(part.counts)
        return total

    def run(
        self,
        inputs: Array,
        targets: Array,
        learn: bool = True,
        rates: Array | None = None,
        keep_payloads: bool = False,
    ) -> EmulatorResult:
        """Run samples in order, each with two passes and, where `learn` is set, one learning phase.

        Args:
            inputs: (samples, features), in units of the float network.
            targets: (samples, ...), class labels or values, as the loss takes them.
            learn: whether the weights change.
            rates: learning rate of every sample, relative to the rule's, (samples,); None for 1.
            keep_payloads: whether the result has the payloads of all samples.

        Returns:
            Losses, and payloads where they are kept.

        Raises:
            UserError: numbers that are not finite, inputs of another shape, targets that do not fit the loss, or not as
                many inputs, targets and rates.
        """
        payloads, targets, rates = encoded_samples(self._network, inputs, targets, rates, self._counts)
        losses = np.zeros((len(payloads), 2))
        kept: dict[str, list[Integers]] = {p.name: [] for p in self._network.populations}
        for k, payload in enumerate(payloads):
            sent, outputs = self._passes(payload)
            losses[k] = self._critic.losses(outputs, targets[k])
            if learn:
                self._learn(losses[k], sent, float(rates[k]))
            self._sent = sent
            if keep_payloads:
                for name, payload_of_both in sent.items():
                    kept[name].append(payload_of_both)
        return EmulatorResult(losses, {name: np.array(rows) for name, rows in kept.items()} if keep_payloads else {})

    def forward(self, inputs: Array) -> Array:
        """Outputs without noise; changes nothing.

        Args:
            inputs: (samples, features), in units of the float network; for a recurrent network the steps of one
                sequence, which starts from a state of zeros.

        Returns:
            The readout's pre-activations, (samples, n_outputs), in units of the float network.

        Raises:
            UserError: inputs that are not finite, or of another shape.
        """
        payloads = self._network.encoded(inputs)
        steps = [p[None] for p in payloads] if self._network.is_recurrent else [payloads]
        before = {p.name: np.zeros((1, p.size), dtype=np.int64) for p in self._network.populations}
        outputs = []
        for step in steps:
            now = {self._network.populations[0].name: step}
            for p in self._network.neurons:
                sums = self._sums(p.name, now, before)
                spikes = np.clip(shifted_to_nearest(sums, p.payload_shift), 0, 2**self._network.cores.payload_bits - 1)
                now[p.name] = with_constant(spikes, p)
            before = now
            outputs.append(sums * p.unit)
        return np.concatenate(outputs)

    def _passes(self, payload: Integers) -> tuple[dict[str, Integers], Integers]:
        """Payloads (2, width) of every population, and the readout's pre-activations (2, n_outputs)."""
        sent = {self._network.populations[0].name: np.broadcast_to(payload, (2, len(payload)))}
        for neurons in self._neurons:
            name = neurons.population.name
            activity = neurons.integrate(self._sums(name, sent, self._sent), first=0)
            sent[name] = activity if neurons is self._neurons[-1] else neurons.spikes(activity, first=0)
        return sent, activity

    def _sums(self, target: str, sent: dict[str, Integers], before: dict[str, Integers]) -> Integers:
        """Sums over the connections into a population; delayed ones take what was sent before, without its constant."""
        sums = [self._sum(c, before if c.delayed else sent) for c in self._network.into(target)]
        return sum(sums[1:], sums[0])

    def _sum(self, c: FixedConnection, sent: dict[str, Integers]) -> Integers:
        """Sum over one connection, in units of the target's pre-activation."""
        weights = self._engines[c.name].as_floats
        return summed(sent[c.source][:, : weights.shape[1]], weights, c.exponent)

    def _learn(self, losses: Array, sent: dict[str, Integers], rate: float) -> None:
        """Update traces and weights from one sample's two passes."""
        norms = [neurons.squared_norm() for neurons in self._neurons]
        factors = self._critic.third_factors(losses, norms, rate)
        spiked: dict[Emission, Integers] = {}
        for emission, x1 in self.x1.items():
            name, delayed = emission
            payload = (self._sent if delayed else sent)[name][REFERENCE, : len(x1)]
            spiked[emission] = payload > 0
            self.x1[emission] = np.where(spiked[emission], trace_of(payload, self._network.cores.trace_bits), x1)
        for neurons, factor in zip(self._neurons, factors, strict=True):
            y1, y2 = neurons.traces(factor)
            self.y[neurons.population.name] = {"y1": y1, "y2": y2}
            for c in self._network.into(neurons.population.name):
                emission = (c.source, c.delayed)
                self._engines[c.name].learn(self.x1[emission], spiked[emission], {"y1": y1, "y2": y2}, self._counts)


def rounding_seed(seed: int, connection: int) -> tuple[int, ...]:
    """Seed of a connection's stochastic rounding, from the run's seed and the connection's place in the network."""
    return (seed, connection, 2)
