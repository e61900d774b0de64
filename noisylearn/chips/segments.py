"""Input of a network: a segment of T >= 1 steps, and the trajectory that leads to its start."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from noisylearn.effects import State
from noisylearn.ground.errors import UserError


@dataclass(frozen=True)
class Trajectory:
    """Where the passes of a plan stand between two segments.

    Args:
        network: state of the network, as its forward(x_t, state) gave it; None at rest.
        noise: name of a layer -> what every node effect of it keeps of this trajectory.
    """

    network: Any = None
    noise: Mapping[str, list[State]] = field(default_factory=dict)

    def detached(self) -> "Trajectory":
        """The same, without autograd's history."""
        return Trajectory(detached(self.network), self.noise)


START = Trajectory()


@dataclass(frozen=True)
class Segment:
    """T >= 1 steps of a batch of sequences; single samples are a segment of one step.

    Args:
        inputs: (time, batch, ...).
        in_time: whether the network is one in time, forward(x_t, state) -> (y_t, state), which may have T > 1;
            otherwise it is forward(x) -> y, and T = 1.
        start: where the passes stand before the first step.
    """

    inputs: Shaped[Tensor, "time batch ..."]
    in_time: bool = False
    start: Trajectory = START

    @property
    def n_steps(self) -> int:
        """Number of steps T."""
        return len(self.inputs)

    @property
    def batch(self) -> int:
        """Number of sequences, or of samples."""
        return self.inputs.shape[1]

    def with_inputs(self, inputs: Shaped[Tensor, "time batch ..."]) -> "Segment":
        """The same segment with other inputs, such as a copy on another device.

        Args:
            inputs: (time, batch, ...).
        """
        return Segment(inputs, self.in_time, self.start)


def as_segment(x: Tensor | Segment) -> Segment:
    """Samples as a segment of one step; a segment as it is.

    Args:
        x: samples (batch, ...), or a segment.

    Raises:
        UserError: `x` is no batch of samples, or no sequences.
    """
    if isinstance(x, Segment):
        _check_sequences(x)
        inputs = apart(x.inputs)
        return x if inputs is x.inputs else x.with_inputs(inputs)
    if not isinstance(x, Tensor):
        raise UserError(f"input of type {type(x).__name__}: give a tensor, for example torch.as_tensor(x)")
    if x.dim() < 2 or x.shape[0] == 0:
        raise UserError(f"input of shape {tuple(x.shape)}: give samples as (batch, ...), at least one")
    return Segment(apart(x).unsqueeze(0))


def apart(x: Tensor) -> Tensor:
    """Values that autograd may use: a copy of those made in inference mode.

    Args:
        x: any tensor.
    """
    return x.clone() if x.is_inference() and not torch.is_inference_mode_enabled() else x


def _check_sequences(segment: Segment) -> None:
    """Raise UserError for a segment without steps, sequences or features."""
    x = segment.inputs
    if x.dim() < 3 or 0 in x.shape[:2]:
        raise UserError(f"input of shape {tuple(x.shape)}: give sequences as (time, batch, features)")


def detached(state: Any) -> Any:
    """A state of a network without autograd's history.

    Args:
        state: tensors and plain values, in tuples, lists and dicts.

    Raises:
        UserError: the state holds something else.
    """
    if isinstance(state, Tensor):
        return state.detach()
    if isinstance(state, dict):
        return {key: detached(value) for key, value in state.items()}
    if isinstance(state, tuple | list):
        parts = [detached(value) for value in state]
        return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)
    if state is None or isinstance(state, int | float | str):
        return state
    raise UserError(
        f"a state of type {type(state).__name__} cannot be cut off its past: give tensors, in tuples, lists or dicts"
    )
