"""A network in integers, executed by Lava's fixed-point learning engine: Loihi-constrained emulation, run in Lava."""

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from noisylearn.backends.lava.compat import load_lava
from noisylearn.backends.lava.logs import Logs
from noisylearn.backends.lava.monitoring import Monitors, new_monitors
from noisylearn.backends.loihi.arithmetic import Integers
from noisylearn.backends.loihi.critic import Critic, Loss
from noisylearn.backends.loihi.emulator import rounding_seed
from noisylearn.backends.loihi.microcode import Microcode
from noisylearn.backends.loihi.network import Array, FixedConnection, encoded_samples
from noisylearn.backends.loihi.neurons import Neurons
from noisylearn.backends.loihi.saturation import Saturation
from noisylearn.ground.errors import UserError
from noisylearn.profiles.cores import Cores

_NO_DECAY = 2**62  # exp(-1 / tau) is 1 in float64
_WIDTHS = {"weight_bits": 8, "trace_bits": 7, "learning_accumulator_bits": 15, "mantissa_bits": 4}


@dataclass(frozen=True, eq=False)
class FixedResult:
    """What Lava's fixed-point engine computed over a series of samples.

    Args:
        losses: (samples, 2), the perturbed pass first, then the reference.
        weights: connection -> integers (targets, payloads).
        traces: connection -> its traces "x1", "y1" and "y2" after the last epoch.
        payloads: population -> (samples, 2, width), and for the readout its pre-activations (samples, 2, n_outputs);
            empty where they were not kept.
        saturation: what was clipped in neurons and critic; what is clipped inside Lava's engine only the emulator
            counts.
        seconds: of the run after start-up.
        steps: number of steps in these seconds.
    """

    losses: Array
    weights: dict[str, Integers]
    traces: dict[str, dict[str, Integers]]
    payloads: dict[str, Integers]
    saturation: Saturation
    seconds: float
    steps: int


def run_fixed(
    microcode: Microcode,
    loss: str | Loss,
    inputs: Array,
    targets: Array,
    seed: int = 0,
    learn: bool = True,
    rates: Array | None = None,
    keep_payloads: bool = False,
    monitors: Monitors | None = None,
) -> FixedResult:
    """Run samples in order through Lava processes, in this process; random streams are those of `Emulator`.

    Args:
        microcode: the rule on its network, from `to_microcode`.
        loss: name in `noisylearn.backends.losses.LOSSES`, or a function of outputs (passes, n) and one target.
        inputs: (samples, features), in units of the float network.
        targets: (samples, ...), class labels or values, as the loss takes them.
        seed: of the noise and of every stochastic rounding.
        learn: whether the weights change.
        rates: learning rate of every sample, relative to the rule's, (samples,); None for 1.
        keep_payloads: whether the result has the payloads of all samples.
        monitors: where processes write their step and their failures; None for a temporary folder.

    Raises:
        UserError: Lava cannot be loaded, its engine computes with other widths than these cores, inputs have another
            shape, or there are not as many inputs, targets and rates.
    """
    network = microcode.network
    check_cores(network.cores)
    load_lava()
    counts = Saturation()
    payloads, targets, rates = encoded_samples(network, inputs, targets, rates, counts)
    with TemporaryDirectory(prefix="noisylearn-lava-") as name:
        folder = Path(name)
        logs = Logs(folder)
        for p in network.populations if keep_payloads else ():
            logs.make(p.name, (len(payloads), 2, p.size if p.stage == network.depth else p.width), np.int64)
        logs.make("losses", (len(payloads), 2), np.float64)
        monitors = new_monitors(folder) if monitors is None else monitors
        machine = _Machine(microcode, Critic(microcode, loss), payloads, targets, rates, seed, learn, logs, monitors)
        monitors.publish()
        try:
            seconds, steps = machine.run()
            weights, traces = machine.state()
        finally:
            machine.stop()
        for found in logs.counts():
            counts.add(found)
        kept = {p.name: logs.read(p.name) for p in network.populations} if keep_payloads else {}
        return FixedResult(logs.read("losses"), weights, traces, kept, counts, seconds, steps)


def check_cores(cores: Cores) -> None:
    """Check that Lava's engine computes with the widths of these cores.

    Raises:
        UserError: one of the widths differs.
    """
    for key, bits in _WIDTHS.items():
        if getattr(cores, key) != bits:
            raise UserError(f"cores.{key} = {getattr(cores, key)}: Lava's engine has {bits}; use the emulator")


class _Machine:
    """The processes of one network, built and connected."""

    def __init__(
        self, microcode: Microcode, critic: Critic, payloads: Integers, targets: Array, rates: Array, seed: int,
        learn: bool, logs: Logs, monitors: Monitors,
    ) -> None:  # fmt: skip
        from noisylearn.backends.lava.processes.fixed_processes import CriticProcess, NeuronProcess, Relay, Source

        self._microcode, self._seed, self._n_samples, self._monitors = microcode, seed, len(payloads), monitors
        network, schedule = microcode.network, microcode.schedule
        n = len(network.neurons)
        self._source = Source(payloads, schedule, logs.path(network.populations[0].name), monitors.of("source"))
        self._critic = CriticProcess(
            critic, targets, rates, network.populations[-1].size, n, network.depth, learn, schedule,
            logs.path("losses"), logs.counter("critic"), monitors.of("critic"),
        )  # fmt: skip
        self._populations: dict[str, Any] = {network.populations[0].name: self._source}
        for i, p in enumerate(network.neurons):
            process = NeuronProcess(
                Neurons(p, i + 1, microcode, seed), i, n, p.stage == network.depth, schedule, logs.path(p.name),
                logs.counter(p.name), monitors.of(f"neurons {p.name}"),
            )  # fmt: skip
            self._populations[p.name] = process
            self._critic.g_out.connect(process.g_in)
            process.norm_out.connect(self._critic.norm_in)
        self._populations[network.populations[-1].name].s_out.connect(self._critic.y_in)
        self._connections: dict[str, Any] = {}
        for i, c in enumerate(network.connections):
            self._connect(c, i, Relay)

    def _connect(self, c: FixedConnection, index: int, relay_kind: Any) -> None:
        """Add one connection, behind a relay where it is delayed."""
        network, schedule = self._microcode.network, self._microcode.schedule
        source, target = self._populations[c.source], self._populations[c.target]
        connection = self._learning_dense(c, index)
        self._connections[c.name] = connection
        if c.delayed:
            before, after = network.population(c.source), network.population(c.target)
            monitor = self._monitors.of(f"relay of {c.source}")
            relay = relay_kind(before.width, c.weights.shape[1], before.stage, after.stage, schedule, monitor)
            source.s_out.connect(relay.s_in)
            relay.s_out.connect(connection.s_in)
        else:
            source.s_out.connect(connection.s_in)
        connection.a_out.connect(target.a_in)
        target.y1_out.connect(connection.s_in_y1)
        target.y2_out.connect(connection.s_in_y2)

    def _learning_dense(self, c: FixedConnection, index: int) -> Any:
        """Lava's learning connection with the microcode of one connection."""
        from lava.magma.core.learning.constants import GradedSpikeCfg
        from lava.magma.core.learning.learning_rule import Loihi3FLearningRule
        from lava.proc.dense.process import LearningDense
        from lava.utils.weightutils import SignMode

        rule = Loihi3FLearningRule(
            dw=self._microcode.strings[c.name], x1_impulse=0, x1_tau=_NO_DECAY, x2_impulse=0, x2_tau=_NO_DECAY,
            t_epoch=self._microcode.schedule.t_epoch, rng_seed=1,
        )  # fmt: skip
        rule.y1_tau = rule.y2_tau = rule.y3_tau = _NO_DECAY
        cores = self._microcode.network.cores
        return LearningDense(
            weights=c.weights.astype(np.int32), learning_rule=rule, graded_spike_cfg=GradedSpikeCfg.OVERWRITE,
            num_message_bits=cores.payload_bits, weight_exp=c.exponent, sign_mode=SignMode.MIXED,
            rounding=cores.rounding, rounding_seed=rounding_seed(self._seed, index),
            monitor=self._monitors.of(f"connection {c.name}"),
        )  # fmt: skip

    def run(self) -> tuple[float, int]:
        """Seconds and steps of all samples except the first, whose epoch includes the start-up."""
        from lava.magma.core.run_conditions import RunSteps
        from lava.magma.core.run_configs import Loihi2SimCfg
        from lava.proc.dense.process import LearningDense

        from noisylearn.backends.lava.processes.fixed_processes import PyRoundedLearningDense

        config = Loihi2SimCfg(select_tag="fixed_pt", exception_proc_model_map={LearningDense: PyRoundedLearningDense})
        t_epoch = self._microcode.schedule.t_epoch
        self._critic.run(condition=RunSteps(t_epoch), run_cfg=config)
        steps = t_epoch * (self._n_samples - 1)
        start = time.perf_counter()
        if steps:
            self._critic.run(condition=RunSteps(steps), run_cfg=config)
        return time.perf_counter() - start, steps

    def state(self) -> tuple[dict[str, Integers], dict[str, dict[str, Integers]]]:
        """Weights and traces of every connection."""
        weights = {name: c.weights.get().astype(np.int64) for name, c in self._connections.items()}
        traces = {
            name: {key: getattr(c, key).get().astype(np.int64) for key in ("x1", "y1", "y2")}
            for name, c in self._connections.items()
        }
        return weights, traces

    def stop(self) -> None:
        """End all processes."""
        self._critic.stop()
