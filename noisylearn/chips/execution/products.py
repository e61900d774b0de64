"""Pre-activations of one layer for all passes of a stack: with weights known in advance, or read from devices."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from noisylearn.chips.execution.noise import node_noise, weight_noise
from noisylearn.chips.interface import PlacedLayer
from noisylearn.effects import State
from noisylearn.ground.draws import Draws
from noisylearn.networks.layers import WeightLayer, apply_weights, columns_in_a_row


@dataclass
class Stack:
    """What the layers of one stacked forward share: its shape, and its position.

    In the stack the passes of a sample are neighbours, so that rows (steps x batch x passes, ...) can be viewed as
    readings by pass without a copy.

    Args:
        n_passes: of the plan.
        n_steps: of the segment.
        batch: samples of one step.
        in_time: whether the network is one in time.
        parted: whether the passes are separate; before that their common part runs once, on (batch, ...).
        step: the first of the steps that run now.
        covered: how many steps run at once.
        last: name of the layer that ran last.
    """

    n_passes: int
    n_steps: int
    batch: int
    in_time: bool
    parted: bool
    step: int = 0
    covered: int = 1
    last: str = ""


def by_pass(rows: Float[Tensor, "_ ..."], n_passes: int) -> Float[Tensor, "passes samples ..."]:
    """Rows of a stack by pass.

    Args:
        rows: (samples x passes, ...).
        n_passes: number of passes.

    Returns:
        (passes, samples, ...).
    """
    return rows.reshape(-1, n_passes, *rows.shape[1:]).transpose(0, 1)


def as_rows(values: Float[Tensor, "passes samples ..."]) -> Float[Tensor, "_ ..."]:
    """Values as rows of a stack.

    Args:
        values: (passes, samples, ...).

    Returns:
        (samples x passes, ...).
    """
    return values.transpose(0, 1).flatten(0, 1)


class NodeNoise:
    """Noise on the pre-activations of one layer, in the passes that have it: drawn for all steps, used step by step.

    Args:
        name: of the layer.
        placed: the layer, with its noise on the pre-activations.
        stack: shape and position of the forward.
        perturbed: indices of the passes that have noise.
        streams: random streams and the purpose that names them.
        trail: of every node effect, what it keeps of the trajectory; updated in place.
    """

    def __init__(
        self,
        name: str,
        placed: PlacedLayer,
        stack: Stack,
        perturbed: Sequence[int],
        streams: tuple[Draws, str],
        trail: list[State],
    ) -> None:
        self._name, self._placed, self._stack = name, placed, stack
        self._perturbed, self._streams = list(perturbed), streams
        self.trail = trail
        self.is_silent = not (placed.node_effects and perturbed)
        self.by_pass: Tensor | None = None
        self._rows: Tensor | None = None
        self._of_step: tuple[Tensor, ...] = ()

    def draw(self, like: Float[Tensor, "..."], units: torch.Size) -> Float[Tensor, "rows ..."]:
        """Noise of all steps; zero in passes that are not perturbed.

        Args:
            like: gives type and device of the numbers.
            units: shape of a sample's pre-activations.

        Returns:
            Rows (steps x batch x passes, *units).
        """
        stack, (draws, purpose) = self._stack, self._streams
        zeros = like.new_zeros(()).expand(stack.n_passes, stack.n_steps, stack.batch, *units)
        drawn = node_noise(self._placed, self._name, zeros, self._perturbed, draws, purpose, self.trail)
        self.by_pass = drawn.flatten(1, 2)
        return as_rows(self.by_pass)

    def hold(self, rows: Float[Tensor, "rows ..."]) -> None:
        """Use these rows in place of a draw.

        Args:
            rows: (steps x batch x passes, *units).
        """
        self._rows = rows

    def now(self, like: Float[Tensor, "..."], units: torch.Size) -> Float[Tensor, "rows ..."]:
        """Noise of the steps that run now.

        Args:
            like: gives type and device of the numbers.
            units: shape of a sample's pre-activations.

        Returns:
            Rows of those steps.
        """
        stack = self._stack
        if not self._of_step:
            rows = self.draw(like, units) if self._rows is None else self._rows
            n_rows = stack.covered * stack.batch * stack.n_passes
            self._of_step = rows.split(n_rows) if rows.shape[0] > n_rows else (rows,)
        return self._of_step[stack.step]

    def added_to(self, activity: Float[Tensor, " rows *units"]) -> Float[Tensor, " rows *units"]:
        """Add the noise of the steps that run now.

        Args:
            activity: pre-activations of those steps, as rows.

        Returns:
            Pre-activations with noise.
        """
        return activity if self.is_silent else activity + self.now(activity, activity.shape[1:])

    def release(self) -> None:
        """Free the rows: readings have the noise as `by_pass`."""
        self._rows, self._of_step = None, ()


class Product(Protocol):
    """Pre-activations (samples x passes, ...) of inputs as rows, with the noise of the nodes."""

    def __call__(self, rows: Float[Tensor, "_ ..."], noise: NodeNoise) -> Float[Tensor, "_ ..."]:
        """Pre-activations with the noise of the nodes, (samples x passes, ...)."""
        ...


class KnownWeights:
    """Products with weights that are known before the first step.

    Args:
        layer: gives the kind of product.
        weight: in the shape of the layer's own.
        bias: (outputs,), or None.
        stack: shape and position of the forward.
    """

    def __init__(self, layer: WeightLayer, weight: Tensor, bias: Tensor | None, stack: Stack) -> None:
        self._layer, self._stack = layer, stack
        self._weight = columns_in_a_row(weight) if stack.n_steps > 1 else weight
        self._bias = bias
        self._units = weight.shape[:1]
        is_one_call = stack.in_time and bias is None and weight.dim() == 2  # of torch: product and noise of a step
        self._transposed = self._weight.T if is_one_call else None

    def __call__(self, rows: Float[Tensor, "_ ..."], noise: NodeNoise) -> Float[Tensor, "_ ..."]:
        """Pre-activations with the noise of the nodes.

        Args:
            rows: inputs, (samples x passes, ...), or (samples, ...) where the passes are not separate.
            noise: of the nodes.

        Returns:
            (samples x passes, ...).
        """
        if self._transposed is not None and not noise.is_silent and rows.dim() == 2:
            return torch.addmm(noise.now(rows, self._units), rows, self._transposed)
        activity = apply_weights(self._layer, self._weight, self._bias, rows)
        if not self._stack.parted:
            activity = activity.repeat_interleave(self._stack.n_passes, 0)
        return noise.added_to(activity)


class DeviceReads:
    """Products read from the devices, with all noise of reading them.

    Args:
        placed: the layer on its devices.
        stack: shape and position of the forward.
        purpose: names the random streams.
    """

    def __init__(self, placed: PlacedLayer, stack: Stack, purpose: str) -> None:
        self._placed, self._stack, self._purpose = placed, stack, purpose

    def __call__(self, rows: Float[Tensor, "_ ..."], noise: NodeNoise) -> Float[Tensor, "_ ..."]:
        """Pre-activations with the noise of the nodes.

        Args:
            rows: inputs, (samples x passes, ...), or (samples, ...) where the passes are not separate.
            noise: of the nodes.

        Returns:
            (samples x passes, ...).
        """
        n_passes = self._stack.n_passes
        inputs = by_pass(rows, n_passes if self._stack.parted else 1)
        activity = self._placed.read(inputs, n_passes, self._purpose)
        if activity.shape[0] != n_passes:
            activity = activity.expand(n_passes, *activity.shape[1:])
        return noise.added_to(as_rows(self._disturbed(activity, inputs)))

    def _disturbed(self, activity: Tensor, inputs: Tensor) -> Tensor:
        return activity


class NoisyWeights(DeviceReads):
    """Reads with additional noise on the weights, the same for all samples of a pass; keeps that of the last step.

    Args:
        name: of the layer.
        placed: the layer, with its noise on the weights.
        stack: shape and position of the forward.
        perturbed: indices of the passes that have noise.
        streams: random streams and the purpose that names them.
    """

    def __init__(
        self, name: str, placed: PlacedLayer, stack: Stack, perturbed: Sequence[int], streams: tuple[Draws, str]
    ) -> None:
        super().__init__(placed, stack, streams[1])
        self._name, self._perturbed, self._draws = name, list(perturbed), streams[0]
        self.drawn: list[dict[str, Tensor]] = []

    def _disturbed(self, activity: Tensor, inputs: Tensor) -> Tensor:
        self.drawn, rows = [], []
        found = weight_noise(self._placed, self._name, self._perturbed, self._draws, self._purpose)
        for p, row in enumerate(activity):
            noise = found.get(p, {})
            if noise:
                x = inputs[min(p, inputs.shape[0] - 1)]
                row = row + apply_weights(self._placed.layer, noise["weight"], noise.get("bias"), x)
            self.drawn.append(noise)
            rows.append(row)
        return torch.stack(rows)
