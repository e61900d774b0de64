"""Pre-activations of one layer for all passes of a stack: with weights known in advance, or read from devices."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from noisylearn.chips.execution.noise import among_all, perturbed_noise, weight_noise
from noisylearn.chips.interface import PlacedLayer
from noisylearn.effects import State
from noisylearn.ground.draws import Draws
from noisylearn.networks.layers import WeightLayer, apply_weights, columns_in_a_row

ALIGNMENT_BYTES = 64  # of memory from torch: the last bits of a product depend on where it is written


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
        self.sums: Tensor | None = None  # rows of all steps in which a product was added to the noise
        self._drawn: Tensor | None = None  # (perturbed passes, steps x batch, *units)
        self._held: Tensor | None = None
        self._of_step: tuple[Tensor, ...] = ()
        self._is_aligned = True

    def draw(self, like: Float[Tensor, "..."], units: torch.Size) -> Float[Tensor, "noisy samples ..."]:
        """Draw the noise of all steps.

        Args:
            like: gives type and device of the numbers.
            units: shape of a sample's pre-activations.

        Returns:
            Noise of the perturbed passes, (passes, steps x batch, *units).
        """
        stack, (draws, purpose) = self._stack, self._streams
        zeros = like.new_zeros(()).expand(len(self._perturbed), stack.n_steps, stack.batch, *units)
        drawn = perturbed_noise(self._placed, self._name, zeros, self._perturbed, draws, purpose, self.trail)
        self._drawn = drawn.flatten(1, 2)
        return self._drawn

    @property
    def by_pass(self) -> Float[Tensor, "passes samples ..."] | None:
        """Noise of all passes, zero in those that are not perturbed; None where none was drawn."""
        return None if self._drawn is None else among_all(self._drawn, self._perturbed, self._stack.n_passes)

    def rows(self, like: Float[Tensor, "..."], units: torch.Size) -> Float[Tensor, "_ ..."]:
        """Draw the noise of all steps, as rows with memory of their own; arguments as for `draw`.

        Returns:
            (steps x batch x passes, *units), zero in passes that are not perturbed.
        """
        drawn, n_passes = self.draw(like, units), self._stack.n_passes
        rows = drawn.new_empty(drawn.shape[1], n_passes, *units)
        for p in range(n_passes):
            if p not in self._perturbed:
                rows[:, p].zero_()
        for p, noise in zip(self._perturbed, drawn.unbind(), strict=True):
            rows[:, p].copy_(noise)
        return rows.flatten(0, 1)

    def hold(self, rows: Float[Tensor, "rows ..."]) -> None:
        """Use these rows in place of a draw; they may be overwritten.

        Args:
            rows: (steps x batch x passes, *units).
        """
        self._held, self._drawn = rows, by_pass(rows, self._stack.n_passes)
        self._perturbed = list(range(self._stack.n_passes))

    def plus_product(
        self, rows: Float[Tensor, "rows n_in"], transposed: Float[Tensor, "n_in n_out"]
    ) -> Float[Tensor, "rows n_out"]:
        """Noise of the steps that run now plus a product, in one call of torch and in the memory of `sums`.

        Args:
            rows: inputs of those steps.
            transposed: weight.

        Returns:
            Pre-activations with noise, as rows.
        """
        if not self._of_step:
            self.sums = self.rows(rows, transposed.shape[1:]) if self._held is None else self._held
            self._of_step = self.sums.split(len(rows))
            self._is_aligned = self._of_step[0].nbytes % ALIGNMENT_BYTES == 0
        now = self._of_step[self._stack.step]
        return now.addmm_(rows, transposed) if self._is_aligned else now.copy_(torch.addmm(now, rows, transposed))

    def add_to(self, activity: Float[Tensor, " rows *units"]) -> Float[Tensor, " rows *units"]:
        """Add the noise of the steps that run now, in place.

        Args:
            activity: pre-activations of those steps as rows, which nobody else has.

        Returns:
            The same, with noise.
        """
        if not self.is_silent:
            of_sample = activity.view(self._n_samples, self._stack.n_passes, *activity.shape[1:])
            for p, noise in zip(self._perturbed, self._now(activity), strict=True):
                of_sample[:, p].add_(noise)
        return activity

    def parting(self, activity: Float[Tensor, " samples *units"]) -> Float[Tensor, " rows *units"]:
        """Add the noise of every pass to what the passes have in common.

        Args:
            activity: pre-activations of every sample.

        Returns:
            Pre-activations with noise, (samples x passes, *units).
        """
        if self.is_silent:
            return activity.repeat_interleave(self._stack.n_passes, 0)
        activity = activity.view(self._n_samples, *activity.shape[1:])
        rows = activity.new_empty(len(activity), self._stack.n_passes, *activity.shape[1:])
        noise = dict(zip(self._perturbed, self._now(activity), strict=True))
        for p, of_pass in enumerate(rows.unbind(1)):
            torch.add(activity, noise[p], out=of_pass) if p in noise else of_pass.copy_(activity)
        return rows.flatten(0, 1)

    def _now(self, activity: Tensor) -> tuple[Float[Tensor, " samples *units"], ...]:
        """Noise of the steps that run now, of every perturbed pass, for pre-activations of these units."""
        noise = self.draw(activity, activity.shape[1:]) if self._drawn is None else self._drawn
        if self._stack.covered < self._stack.n_steps:
            start = self._stack.step * self._stack.batch
            noise = noise[:, start : start + self._n_samples]
        return noise.unbind()

    @property
    def _n_samples(self) -> int:
        """Samples of the steps that run now: a layer that sees other rows does not fit its noise."""
        return self._stack.covered * self._stack.batch


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
            return noise.plus_product(rows, self._transposed)
        activity = apply_weights(self._layer, self._weight, self._bias, rows)
        return noise.add_to(activity) if self._stack.parted else noise.parting(activity)


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
        disturbed = as_rows(self._disturbed(activity, inputs))
        return disturbed if noise.is_silent else noise.add_to(disturbed.clone())  # which the devices may have as well

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
