"""A network that learns, as Lava processes in float64: all passes of a step travel side by side in one message.

In every step the critic first broadcasts what it computed from the step before, so that no process waits for another in
a circle; then each process receives, computes and sends. Messages between layers have the shape (passes, batch, units).
"""

import time
from typing import Any, final

import numpy as np
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from scipy.linalg.blas import dgemm

from noisylearn.backends.lava.processes.monitored import Monitored, models
from noisylearn.backends.lava.specs import (
    Array,
    ConnectionSpec,
    CriticSpec,
    DecorrelationSpec,
    LossLogSpec,
    NeuronSpec,
    ProcessSpec,
    SourceSpec,
)

RECEIVES = LavaPyType(PyInPort.VEC_DENSE, float)
SENDS = LavaPyType(PyOutPort.VEC_DENSE, float)


class SpecModel(Monitored):
    """A process model that keeps the spec of its process."""

    def __init__(self, proc_params: dict[str, Any]) -> None:
        super().__init__(proc_params)
        self.spec: ProcessSpec = proc_params["spec"]


@final
class Source(AbstractProcess):
    """Sends the sample of every step to all passes.

    Args:
        spec: what the process is given.
    """

    def __init__(self, spec: SourceSpec) -> None:
        super().__init__(spec=spec, monitor=spec.monitor)
        self.s_out = OutPort(shape=(spec.settings.n_passes, *spec.inputs.shape[1:]))


@final
@models(Source, "floating_pt")
class PySource(SpecModel):
    """Model of `Source`."""

    spec: SourceSpec
    s_out: PyOutPort = SENDS

    def step(self, step: int) -> None:
        """Send the sample of this step, (passes, batch, n)."""
        x = self.spec.inputs[step % len(self.spec.inputs)]
        self.s_out.send(np.broadcast_to(x, (self.spec.settings.n_passes, *x.shape)).copy())


@final
class Connection(AbstractProcess):
    """W x + b of every pass, and the update of W and b in place.

    Args:
        spec: what the process is given.
    """

    def __init__(self, spec: ConnectionSpec) -> None:
        super().__init__(spec=spec, monitor=spec.monitor)
        rows = spec.settings.n_passes, spec.settings.batch
        n_units, n_inputs = spec.weight.shape
        self.s_in = InPort(shape=(*rows, n_inputs - spec.n_recurrent))
        self.s_recurrent_in = InPort(shape=(*rows, max(spec.n_recurrent, 1)))
        self.a_out = OutPort(shape=(*rows, n_units))
        by_weights, n_signals = spec.from_noise is not None, spec.settings.horizon * spec.settings.batch
        self.s_in_y1 = InPort(shape=(1, spec.settings.n_passes, 1) if by_weights else (n_signals, n_units))


@final
@models(Connection, "floating_pt")
class PyConnection(SpecModel):
    """Model of `Connection`."""

    spec: ConnectionSpec
    s_in: PyInPort = RECEIVES
    s_recurrent_in: PyInPort = RECEIVES
    s_in_y1: PyInPort = RECEIVES
    a_out: PyOutPort = SENDS

    def __init__(self, proc_params: dict[str, Any]) -> None:
        super().__init__(proc_params)
        spec = self.spec
        self.weight = np.ascontiguousarray(spec.weight)
        self.bias = np.zeros(len(spec.weight)) if spec.bias is None else spec.bias.copy()
        self.presynaptic = np.zeros((spec.settings.horizon * spec.settings.batch, spec.weight.shape[1]))
        self.before = np.zeros((spec.settings.n_passes, spec.settings.batch, spec.n_recurrent))
        self.noise: list[dict[str, Array]] = []

    def step(self, step: int) -> None:
        """Learn from the step before, then send the pre-activations of this one."""
        spec, settings = self.spec, self.spec.settings
        if settings.learns:
            self.learn(self.s_in_y1.recv(), step)
        if step == settings.n_steps:
            self.monitor.save(weight=self.weight, bias=self.bias)
        inputs = self.s_in.recv()
        if spec.n_recurrent:
            if settings.starts_sequence(step):
                self.before = np.zeros_like(self.before)
            inputs = np.concatenate([inputs, self.before], -1)
        self.a_out.send(self.product(inputs, step))
        self.presynaptic = np.concatenate([spec.reference(inputs), self.presynaptic[: -settings.batch]])
        if spec.n_recurrent:
            self.before = self.s_recurrent_in.recv()

    def product(self, inputs: Array, step: int) -> Array:
        """Pre-activations with all noise of the weights.

        Args:
            inputs: (passes, batch, n).
            step: counted from 0.

        Returns:
            (passes, batch, units).
        """
        rows = inputs.reshape(-1, inputs.shape[-1])
        activity = (rows @ self.weight.T + self.bias).reshape(*inputs.shape[:2], -1)
        if self.spec.weight_noise is not None:
            self.noise = self.spec.weight_noise(step)
            for x, a, noise in zip(inputs, activity, self.noise, strict=True):
                if noise:
                    a += x @ noise["weight"].T + noise.get("bias", 0.0)
        if self.spec.read_noise is not None:
            activity += self.spec.read_noise(step, inputs, self.weight)
        return activity

    def learn(self, received: Array, step: int) -> None:
        """W <- W - rate g pre^T in place, with the g that the neurons computed from the steps before.

        Args:
            received: g of the last steps, (horizon x batch, units), or for weight perturbation the modulators,
                (1, passes, 1).
            step: counted from 0.
        """
        if step == 0:
            return
        spec = self.spec
        rate = spec.rates[(step - 1) % len(spec.rates)]
        if spec.from_noise is not None:
            gradients = spec.from_noise(received[0, :, 0], self.noise)
            self.weight -= rate * gradients["weight"]
            self.bias -= rate * gradients.get("bias", 0.0)
            return
        dgemm(-rate, self.presynaptic.T, received, beta=1.0, c=self.weight.T, overwrite_c=True)
        if spec.bias is not None:
            self.bias -= rate * received.sum(0)


@final
class Neurons(AbstractProcess):
    """f(a + noise) of every pass; neurons draw their own noise and keep what the rule needs of them.

    Args:
        spec: what the process is given.
    """

    def __init__(self, spec: NeuronSpec) -> None:
        super().__init__(spec=spec, monitor=spec.monitor)
        settings = spec.settings
        rows = settings.n_passes, settings.batch
        self.a_in, self.s_out = InPort(shape=(*rows, spec.size)), OutPort(shape=(*rows, spec.size))
        self.a_third_factor_in, self.norm_out = InPort(shape=spec.received), OutPort(shape=(spec.n_layers, *rows))
        self.s_out_y1 = OutPort(shape=(settings.horizon * settings.batch, spec.size))


@final
@models(Neurons, "floating_pt")
class PyNeurons(SpecModel):
    """Model of `Neurons`."""

    spec: NeuronSpec
    a_in: PyInPort = RECEIVES
    s_out: PyOutPort = SENDS
    a_third_factor_in: PyInPort = RECEIVES
    s_out_y1: PyOutPort = SENDS
    norm_out: PyOutPort = SENDS

    def __init__(self, proc_params: dict[str, Any]) -> None:
        super().__init__(proc_params)
        self.kept: Array | None = None

    def step(self, step: int) -> None:
        """Send g of the step before, then the activities of this one."""
        spec = self.spec
        keep = spec.keep if spec.settings.learns else None
        if keep is not None:
            received = self.a_third_factor_in.recv()
            nothing = np.zeros((spec.settings.horizon * spec.settings.batch, spec.size))
            self.s_out_y1.send(nothing if self.kept is None else spec.signal(received, self.kept))
        activity = self.a_in.recv()
        noise = None if spec.noise is None else spec.noise(step)
        if noise is not None:
            activity = activity + noise
        if keep is not None:
            self.kept = keep(activity, noise)
            if spec.compared is not None:
                norms = np.zeros((spec.n_layers, *activity.shape[:2]))
                norms[spec.layer, spec.compared] = np.square(self.kept).sum(-1)
                self.norm_out.send(norms)
        self.s_out.send(spec.activation(activity))


@final
class Decorrelation(AbstractProcess):
    """x* = R x, and the learning R <- R - rate (mean of x* x*^T without its diagonal) R.

    Args:
        spec: what the process is given.
    """

    def __init__(self, spec: DecorrelationSpec) -> None:
        super().__init__(spec=spec, monitor=spec.monitor)
        shape = (spec.settings.n_passes, spec.settings.batch, len(spec.matrix))
        self.s_in, self.s_out = InPort(shape=shape), OutPort(shape=shape)


@final
@models(Decorrelation, "floating_pt")
class PyDecorrelation(SpecModel):
    """Model of `Decorrelation`."""

    spec: DecorrelationSpec
    s_in: PyInPort = RECEIVES
    s_out: PyOutPort = SENDS

    def __init__(self, proc_params: dict[str, Any]) -> None:
        super().__init__(proc_params)
        self.matrix = np.ascontiguousarray(self.spec.matrix)

    def step(self, step: int) -> None:
        """Send the decorrelated activities, then learn from them."""
        settings = self.spec.settings
        if step == settings.n_steps:
            self.monitor.save(matrix=self.matrix)
        s = self.s_in.recv()
        decorrelated = (s.reshape(-1, s.shape[-1]) @ self.matrix.T).reshape(s.shape)
        self.s_out.send(decorrelated)
        counts = self.spec.counts[step % settings.data_steps] != 0
        if settings.learns and counts.any():
            self.learn(self.spec.reference(decorrelated)[counts])

    def learn(self, x: Array) -> None:
        """Update R from samples x* (rows, n), without the covariance, which would cost n^3.

        Args:
            x: decorrelated activities that count, (rows, n).
        """
        share = self.spec.rate / len(x)
        step = x @ self.matrix
        self.matrix *= 1 + share * np.square(x).sum(0)[:, None]
        dgemm(-share, step.T, x, beta=1.0, c=self.matrix.T, overwrite_c=True)


@final
class Critic(AbstractProcess):
    """Compares the losses of the passes, and one step later broadcasts what the rule computes from them.

    Args:
        spec: what the process is given.
    """

    def __init__(self, spec: CriticSpec) -> None:
        super().__init__(spec=spec, monitor=spec.monitor)
        rows = spec.settings.n_passes, spec.settings.batch
        self.y_in = InPort(shape=(*rows, spec.n_outputs))
        self.norm_in = InPort(shape=(spec.n_layers, *rows))
        self.third_factor_out = OutPort(shape=spec.factor_shape)
        self.loss_out = OutPort(shape=(1,))


@final
@models(Critic, "floating_pt")
class PyCritic(SpecModel):
    """Model of `Critic`."""

    spec: CriticSpec
    y_in: PyInPort = RECEIVES
    norm_in: PyInPort = RECEIVES
    third_factor_out: PyOutPort = SENDS
    loss_out: PyOutPort = SENDS

    def __init__(self, proc_params: dict[str, Any]) -> None:
        super().__init__(proc_params)
        self.factors = np.zeros(self.spec.factor_shape)

    def step(self, step: int) -> None:
        """Send the factors of the step before, then compute those of this one."""
        spec, settings = self.spec, self.spec.settings
        if settings.learns:
            self.third_factor_out.send(self.factors)
        outputs = self.y_in.recv()
        now = step % settings.data_steps
        counts = spec.counts[now]
        losses = spec.loss(outputs, spec.targets[now]) * counts
        if settings.learns:
            norms = self.norm_in.recv() if spec.by_nodes else None
            self.factors = spec.factors(losses, norms, outputs, now)
        self.loss_out.send(np.array([spec.reference(losses).sum() / max(counts.sum(), 1.0)]))


@final
class LossLog(AbstractProcess):
    """Keeps the loss of every step and the time at which it arrived.

    Args:
        spec: what the process is given.
    """

    def __init__(self, spec: LossLogSpec) -> None:
        super().__init__(spec=spec, monitor=spec.monitor)
        self.loss_in = InPort(shape=(1,))


@final
@models(LossLog, "floating_pt")
class PyLossLog(SpecModel):
    """Model of `LossLog`."""

    spec: LossLogSpec
    loss_in: PyInPort = RECEIVES

    def __init__(self, proc_params: dict[str, Any]) -> None:
        super().__init__(proc_params)
        self.losses = np.zeros(self.spec.settings.n_steps)
        self.times_s = np.zeros(self.spec.settings.n_steps)

    def step(self, step: int) -> None:
        """Keep a loss; in the additional step, save all of them."""
        loss = self.loss_in.recv()[0]
        if step < self.spec.settings.n_steps:
            self.losses[step], self.times_s[step] = loss, time.perf_counter()
        else:
            self.monitor.save(losses=self.losses, times_s=self.times_s)
