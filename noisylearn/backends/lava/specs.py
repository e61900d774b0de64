"""What each Lava process of a float network is given: records of numbers and functions, without torch and Lava."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisylearn.backends.lava.monitoring import Monitor

Array = NDArray[np.float64]
Index = slice | list[int]


@dataclass(frozen=True, eq=False)
class RunSettings:
    """What all processes of a run share.

    Args:
        n_passes: forward passes of a step.
        batch: samples, or sequences, of a step.
        n_steps: steps of learning; one more step lets the last update arrive.
        data_steps: steps after which the data starts again.
        period: steps of a sequence, after which states start at zero; 0 for single samples.
        learns: whether the weights change.
        horizon: steps for which neurons send their g.
    """

    n_passes: int
    batch: int
    n_steps: int
    data_steps: int
    period: int
    learns: bool
    horizon: int

    def is_over(self, step: int) -> bool:
        """Whether this is the additional step, in which only the last update arrives."""
        return step >= self.n_steps

    def starts_sequence(self, step: int) -> bool:
        """Whether states start at zero in this step."""
        return bool(self.period) and step % self.data_steps % self.period == 0


@dataclass(frozen=True, eq=False)
class SourceSpec:
    """The process that sends the samples.

    Args:
        settings: of the run.
        monitor: of the process.
        inputs: (steps, batch, n).
    """

    settings: RunSettings
    monitor: Monitor
    inputs: Array


@dataclass(frozen=True, eq=False)
class ConnectionSpec:
    """The process of a layer's weights, for its inputs and, if recurrent, its own activities of the step before.

    Args:
        settings: of the run.
        monitor: of the process.
        layer: name of the torch layer.
        weight: initial weights, (units, inputs + n_recurrent).
        bias: initial biases, (units,), or None.
        n_recurrent: columns of `weight` that take the layer's own activities of the step before.
        rates: learning rate of every step, divided by the batch, (steps,).
        reference: what passes (passes, ...) are compared with, (...).
        read_noise: (step, inputs (passes, batch, n), weight) -> noise of the pre-activations (passes, batch, units), or
            None.
        weight_noise: step -> noise of every pass by parameter, or None.
        from_noise: (modulators (passes,), noise) -> gradients by parameter, or None for a rule that perturbs nodes.
    """

    settings: RunSettings
    monitor: Monitor
    layer: str
    weight: Array
    bias: Array | None
    n_recurrent: int
    rates: Array
    reference: Callable[[Array], Array]
    read_noise: Callable[[int, Array, Array], Array] | None
    weight_noise: Callable[[int], list[dict[str, Array]]] | None
    from_noise: Callable[[Array, list[dict[str, Array]]], dict[str, Array]] | None


@dataclass(frozen=True, eq=False)
class NeuronSpec:
    """The process of one layer's neurons.

    Args:
        settings: of the run.
        monitor: of the process.
        layer: index of the layer.
        n_layers: number of layers.
        size: number of neurons.
        activation: of pre-activations.
        noise: step -> noise of the pre-activations (passes, batch, size), or None.
        keep: (pre-activations, noise) -> what the neurons keep for what the critic sends, (passes, batch, size); None
            where they learn nothing.
        signal: (what the critic sent, what was kept) -> g of the last `horizon` steps, that of the last one first,
            (horizon x batch, size).
        compared: whose passes' norms of what is kept the critic needs; None where it needs none.
        received: shape of what the critic sends.
    """

    settings: RunSettings
    monitor: Monitor
    layer: int
    n_layers: int
    size: int
    activation: Callable[[Array], Array]
    noise: Callable[[int], Array] | None
    keep: Callable[[Array, Array | None], Array] | None
    signal: Callable[[Array, Array], Array]
    compared: Index | None
    received: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class DecorrelationSpec:
    """The process of x* = R x and of the learning of R.

    Args:
        settings: of the run.
        monitor: of the process.
        population: whose activities are decorrelated.
        matrix: initial R, (n, n).
        rate: learning rate of R.
        counts: (steps, batch), 0 where a sample does not count.
        reference: what passes (passes, ...) are compared with, (...).
    """

    settings: RunSettings
    monitor: Monitor
    population: str
    matrix: Array
    rate: float
    counts: Array
    reference: Callable[[Array], Array]


@dataclass(frozen=True, eq=False)
class CriticSpec:
    """The process that computes losses, and from them the modulators that it broadcasts.

    Args:
        settings: of the run.
        monitor: of the process.
        n_outputs: outputs of the network.
        n_layers: number of layers.
        targets: (steps, batch, ...).
        counts: (steps, batch), 0 where a loss does not count.
        loss: (outputs (passes, batch, n_outputs), targets) -> (passes, batch).
        reference: what passes (passes, ...) are compared with, (...).
        by_nodes: whether the neurons send the norms of their factors.
        factors: (losses, norms (layers, passes, batch) or None, outputs, step of the data) -> what is broadcast, of
            shape `factor_shape`.
        factor_shape: (layers, passes, batch); (1, passes, 1) for a rule that perturbs weights; (1 + differences, batch,
            n_outputs) for one that needs the error at the output and how the output changed.
    """

    settings: RunSettings
    monitor: Monitor
    n_outputs: int
    n_layers: int
    targets: Array
    counts: Array
    loss: Callable[[Array, Array], Array]
    reference: Callable[[Array], Array]
    by_nodes: bool
    factors: Callable[[Array, Array | None, Array, int], Array]
    factor_shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class LossLogSpec:
    """The process that keeps the loss of every step.

    Args:
        settings: of the run.
        monitor: of the process.
    """

    settings: RunSettings
    monitor: Monitor


ProcessSpec = SourceSpec | ConnectionSpec | NeuronSpec | DecorrelationSpec | CriticSpec | LossLogSpec
