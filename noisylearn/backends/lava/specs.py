"""What each Lava process of a float network is told: records of numbers and functions, without torch and Lava."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisylearn.backends.lava.monitoring import Monitor

Array = NDArray[np.float64]
Index = slice | list[int]


@dataclass(frozen=True, eq=False)
class RunSettings:
    """What all processes share.

    n_steps: of learning; one more step lets the last update arrive.  data_steps: after which the data starts again.
    period: steps of a sequence, after which states start at zero; 0 for single samples.
    """

    n_passes: int
    batch: int
    n_steps: int
    data_steps: int
    period: int
    learns: bool

    def is_over(self, step: int) -> bool:
        """Whether this is the step in which the last update arrives, and nothing else counts."""
        return step >= self.n_steps

    def starts_sequence(self, step: int) -> bool:
        return bool(self.period) and step % self.data_steps % self.period == 0


@dataclass(frozen=True, eq=False)
class SourceSpec:
    """inputs: (steps, batch, n)."""

    settings: RunSettings
    monitor: Monitor
    inputs: Array


@dataclass(frozen=True, eq=False)
class ConnectionSpec:
    """A layer's weights, between what enters it (and, recurrent, what its own neurons gave a step before) and them.

    reference: what passes (passes, ...) are compared with.  rates: of learning at every step, divided by the batch.
    read_noise: (step, inputs (passes, batch, n), weight) -> noise on the pre-activations, or None.
    weight_noise: step -> noise of every pass by parameter, or None.  from_noise: (modulators, noise) -> gradients.
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
    """Neurons of one layer.

    layer: its place among the layers.  noise: step -> noise (passes, batch, n), or None.
    post: (pre-activations, noise) -> the rule's factor of each neuron, (compared passes, batch, n), or None where the
    rule has none.  compared: which passes these are.
    """

    settings: RunSettings
    monitor: Monitor
    layer: int
    n_layers: int
    size: int
    activation: Callable[[Array], Array]
    noise: Callable[[int], Array] | None
    post: Callable[[Array, Array | None], Array] | None
    compared: Index


@dataclass(frozen=True, eq=False)
class DecorrelationSpec:
    """x* = R x and its learning.  counts: (steps, batch), 0 where a sample does not count."""

    settings: RunSettings
    monitor: Monitor
    population: str
    matrix: Array
    rate: float
    counts: Array
    reference: Callable[[Array], Array]


@dataclass(frozen=True, eq=False)
class CriticSpec:
    """Losses, and from them the modulators that are broadcast.

    loss: (outputs, targets) -> (passes, batch).  by_nodes: whether neurons tell the norms of what they keep.
    factors: (losses, norms (layers, passes, batch) or None) -> what is broadcast, of shape `factor_shape`.
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
    factors: Callable[[Array, Array | None], Array]
    factor_shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class LossLogSpec:
    """Keeps the loss of every step."""

    settings: RunSettings
    monitor: Monitor


ProcessSpec = SourceSpec | ConnectionSpec | NeuronSpec | DecorrelationSpec | CriticSpec | LossLogSpec
