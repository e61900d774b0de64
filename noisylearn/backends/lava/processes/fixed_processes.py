"""Processes of a network in integers: source, neurons, relay, critic, and Lava's learning connection with a rounding.

Lava executes every file of this folder for every class of process in it: nothing here has side effects.
"""

from pathlib import Path
from typing import Any, final

import numpy as np
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.proc.dense.models import PyLearningDenseModelBitApproximate
from lava.proc.dense.process import LearningDense

from noisylearn.backends.lava.logs import CountFile
from noisylearn.backends.lava.monitoring import Monitor
from noisylearn.backends.lava.processes.monitored import Monitored, models
from noisylearn.backends.loihi.arithmetic import Integers
from noisylearn.backends.loihi.critic import Critic
from noisylearn.backends.loihi.network import Array
from noisylearn.backends.loihi.neurons import Neurons
from noisylearn.backends.loihi.rounding import ONE, Thresholds, thresholds
from noisylearn.backends.loihi.schedule import PERTURBED, REFERENCE, Schedule

_IN = LavaPyType(PyInPort.VEC_DENSE, np.int64)
_OUT = LavaPyType(PyOutPort.VEC_DENSE, np.int64)


@final
class Source(AbstractProcess):
    """Sends the payloads of a sample in both passes.

    Args:
        payloads: integers (samples, width).
        schedule: which step of an epoch does what.
        log: file for the payloads sent, or None.
        monitor: of the process.
    """

    def __init__(self, payloads: Integers, schedule: Schedule, log: Path | None, monitor: Monitor) -> None:
        super().__init__(payloads=payloads, schedule=schedule, log=log, monitor=monitor)
        self.s_out = OutPort(shape=(payloads.shape[1],))


@final
@models(Source, "fixed_pt")
class PySource(Monitored):
    """Model of `Source`."""

    s_out: PyOutPort = _OUT

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._payloads, self._schedule = proc_params["payloads"], proc_params["schedule"]
        self._log = _Log(proc_params["log"])

    def step(self, step: int) -> None:
        """Send the payloads of this sample in phases 0 and 1."""
        phase, sample = self._schedule.phase(self.time_step), (self.time_step - 1) // self._schedule.t_epoch
        which = self._schedule.pass_at(0, phase)
        payload = self._payloads[sample]
        self.s_out.send(np.zeros_like(payload) if which is None else payload)
        if which is not None:
            self._log.put((sample, which), payload)


@final
class NeuronProcess(AbstractProcess):
    """A population of neurons.

    Ports: `s_out` sends payloads, or the readout's pre-activations, (width,); `norm_out` ||post||^2 at the population's
    place; `g_in` receives the critic's mantissas and then shifts of all populations; `y1_out` and `y2_out` send traces.

    Args:
        neurons: the population's program.
        index: place among the populations that have neurons.
        n_populations: number of these.
        is_readout: whether it sends pre-activations in place of payloads.
        schedule: which step of an epoch does what.
        log: file for what it sent, or None.
        counts: file for what was clipped.
        monitor: of the process.
    """

    def __init__(
        self, neurons: Neurons, index: int, n_populations: int, is_readout: bool, schedule: Schedule, log: Path | None,
        counts: CountFile, monitor: Monitor,
    ) -> None:  # fmt: skip
        population = neurons.population
        width = population.size if is_readout else population.width
        super().__init__(
            neurons=neurons, index=index, n_populations=n_populations, is_readout=is_readout, schedule=schedule,
            width=width, log=log, counts=counts, monitor=monitor,
        )  # fmt: skip
        self.a_in = InPort(shape=(population.size,))
        self.s_out = OutPort(shape=(width,))
        self.norm_out = OutPort(shape=(n_populations,))
        self.g_in = InPort(shape=(2 * n_populations,))
        self.y1_out = OutPort(shape=(population.size,))
        self.y2_out = OutPort(shape=(population.size,))


@final
@models(NeuronProcess, "fixed_pt")
class PyNeuronProcess(Monitored):
    """Model of `NeuronProcess`."""

    a_in: PyInPort = _IN
    s_out: PyOutPort = _OUT
    norm_out: PyOutPort = _OUT
    g_in: PyInPort = _IN
    y1_out: PyOutPort = _OUT
    y2_out: PyOutPort = _OUT

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._neurons, self._schedule = proc_params["neurons"], proc_params["schedule"]
        self._index, self._n = proc_params["index"], proc_params["n_populations"]
        self._is_readout, self._width = proc_params["is_readout"], proc_params["width"]
        self._log, self._counts = _Log(proc_params["log"]), proc_params["counts"]
        self._silence = np.zeros(self._width, dtype=np.int64)
        self._no_traces = np.zeros(self._neurons.population.size, dtype=np.int64)

    def step(self, step: int) -> None:
        """Receive the third factor first, so that no process waits for another in a circle."""
        phase = self._schedule.phase(self.time_step)
        g = self.g_in.recv()
        y1, y2 = self._no_traces, self._no_traces
        if phase == self._schedule.learning_phase:
            y1, y2 = self._neurons.traces((int(g[self._index]), int(g[self._n + self._index])))
            self._write_counts()
        self.y1_out.send(y1)
        self.y2_out.send(y2)
        sums = self.a_in.recv()
        which = self._schedule.pass_at(self._neurons.population.stage, phase)
        norms = np.zeros(self._n, dtype=np.int64)
        spikes = self._silence
        if which is not None:
            activity = self._neurons.integrate(sums[None], which)
            spikes = (activity if self._is_readout else self._neurons.spikes(activity, which))[0]
            if which == REFERENCE:
                norms[self._index] = self._neurons.squared_norm()
            self._log.put(((self.time_step - 1) // self._schedule.t_epoch, which), spikes)
        self.s_out.send(spikes)
        self.norm_out.send(norms)

    def _write_counts(self) -> None:
        """Write what was clipped so far, by place."""
        if self._neurons.saturation.counts:
            self._counts.write(self._neurons.saturation.counts)


@final
class Relay(AbstractProcess):
    """Keeps what a population sent in both passes of an epoch, and sends it in the next.

    Args:
        width: payloads that it receives.
        size: payloads that it keeps, from the first on.
        source_stage: of the population where the connection starts.
        target_stage: of the population where it ends.
        schedule: which step of an epoch does what.
        monitor: of the process.
    """

    def __init__(
        self, width: int, size: int, source_stage: int, target_stage: int, schedule: Schedule, monitor: Monitor
    ) -> None:
        super().__init__(
            width=width, size=size, source_stage=source_stage, target_stage=target_stage, schedule=schedule,
            monitor=monitor,
        )  # fmt: skip
        self.s_in = InPort(shape=(width,))
        self.s_out = OutPort(shape=(size,))


@final
@models(Relay, "fixed_pt")
class PyRelay(Monitored):
    """Model of `Relay`."""

    s_in: PyInPort = _IN
    s_out: PyOutPort = _OUT

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._schedule, self._size = proc_params["schedule"], proc_params["size"]
        self._in, self._out = proc_params["source_stage"], proc_params["target_stage"] - 1
        self._kept = np.zeros((2, self._size), dtype=np.int64)
        self._next = self._kept.copy()

    def step(self, step: int) -> None:
        """Send a pass of the epoch before, and keep one of this."""
        phase = self._schedule.phase(self.time_step)
        sends, receives = self._schedule.pass_at(self._out, phase), self._schedule.pass_at(self._in, phase)
        if phase == 0:
            self._kept, self._next = self._next, np.zeros_like(self._next)
        self.s_out.send(np.zeros(self._size, dtype=np.int64) if sends is None else self._kept[sends])
        spikes = self.s_in.recv()
        if receives is not None:
            self._next[receives] = spikes[: self._size]


@final
class CriticProcess(AbstractProcess):
    """Losses of both passes from the readout and, in the learning phase, the third factors computed from them.

    Args:
        critic: the critic's program.
        targets: (samples, ...).
        rates: relative learning rates, (samples,).
        n_outputs: outputs of the readout.
        n_populations: populations that have neurons.
        depth: connections between the input and the readout.
        learn: whether the weights change.
        schedule: which step of an epoch does what.
        log: file for the losses, or None.
        counts: file for what was clipped.
        monitor: of the process.
    """

    def __init__(
        self, critic: Critic, targets: Array, rates: Array, n_outputs: int, n_populations: int, depth: int, learn: bool,
        schedule: Schedule, log: Path | None, counts: CountFile, monitor: Monitor,
    ) -> None:  # fmt: skip
        super().__init__(
            critic=critic, targets=targets, rates=rates, n_outputs=n_outputs, n_populations=n_populations, depth=depth,
            learn=learn, schedule=schedule, log=log, counts=counts, monitor=monitor,
        )  # fmt: skip
        self.y_in = InPort(shape=(n_outputs,))
        self.norm_in = InPort(shape=(n_populations,))
        self.g_out = OutPort(shape=(2 * n_populations,))


@final
@models(CriticProcess, "fixed_pt")
class PyCriticProcess(Monitored):
    """Model of `CriticProcess`."""

    g_out: PyOutPort = _OUT
    y_in: PyInPort = _IN
    norm_in: PyInPort = _IN

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._critic, self._schedule = proc_params["critic"], proc_params["schedule"]
        self._targets, self._rates = proc_params["targets"], proc_params["rates"]
        self._depth, self._learns = proc_params["depth"], proc_params["learn"]
        self._log, self._counts = _Log(proc_params["log"]), proc_params["counts"]
        self._outputs = np.zeros((2, proc_params["n_outputs"]), dtype=np.int64)
        self._norms = np.zeros(proc_params["n_populations"], dtype=np.int64)

    def step(self, step: int) -> None:
        """Send before receiving, so that no process waits for another in a circle."""
        phase, sample = self._schedule.phase(self.time_step), (self.time_step - 1) // self._schedule.t_epoch
        g = np.zeros(2 * len(self._norms), dtype=np.int64)
        if phase == self._schedule.learning_phase:
            g[:] = self._third_factors(sample)
            self._norms[:] = 0
        self.g_out.send(g)
        outputs = self.y_in.recv()
        which = self._schedule.pass_at(self._depth, phase)
        if which in (PERTURBED, REFERENCE):
            self._outputs[which] = outputs
        self._norms += self.norm_in.recv()

    def _third_factors(self, sample: int) -> list[int]:
        """Mantissas, then shifts, of all populations."""
        losses = self._critic.losses(self._outputs, self._targets[sample])
        self._log.put(sample, losses)
        if not self._learns:
            return [0] * (2 * len(self._norms))
        factors = self._critic.third_factors(losses, [int(n) for n in self._norms], float(self._rates[sample]))
        if self._critic.saturation.counts:
            self._counts.write(self._critic.saturation.counts)
        return [mantissa for mantissa, _ in factors] + [shift for _, shift in factors]


@final
@models(LearningDense, "fixed_pt", "rounded")
class PyRoundedLearningDense(PyLearningDenseModelBitApproximate):
    """Lava's learning connection with weights rounded by the parameter `rounding`; "shared" is Lava's own rounding."""

    def run_spk(self) -> None:
        """One step of Lava, noted in the monitor."""
        with self.proc_params["monitor"].step(self.time_step):
            super().run_spk()

    def _init_randoms(self) -> None:
        """Replace Lava's random numbers of the weights by the thresholds of the rounding."""
        super()._init_randoms()
        rounding, shape = self.proc_params["rounding"], self.proc_params["shape"]
        if rounding != "shared":
            self._conn_var_random = _Thresholds(thresholds(rounding, shape, self.proc_params["rounding_seed"]))


class _Thresholds:
    """Thresholds in the form in which Lava asks for random numbers."""

    def __init__(self, source: Thresholds) -> None:
        self._source = source
        self.random_stochastic_round: Integers | float = 0.0

    def advance(self) -> None:
        """Take the thresholds of the next learning phase, as fractions of an LSB."""
        self.random_stochastic_round = self._source.next() / ONE


class _Log:
    """An array in a file that is read after the run; with a path of None it keeps nothing."""

    def __init__(self, path: Path | None) -> None:
        self._array = None if path is None else np.load(path, mmap_mode="r+")

    def put(self, place: Any, values: Array | Integers) -> None:
        """Write values at a place."""
        if self._array is not None:
            self._array[place] = values
