"""What a network is trained on, step by step: the arrays of a task in a drawn order, or a DataLoader."""

from typing import Protocol

import torch
from torch import Tensor

from noisylearn import tasks
from noisylearn.experiments.augment import mirrored
from noisylearn.ground.draws import Draws
from noisylearn.tasks.base import Samples


class Batches(Protocol):
    """Batches whose content depends on the seed and the number of the step alone.

    Args:
        size: samples of a step.
    """

    size: int

    @property
    def steps_per_epoch(self) -> int:
        """Batches of a pass over the data."""
        ...

    def batch(self, step: int) -> Samples:
        """Inputs and targets of a step, on the device of the network.

        Args:
            step: its number, from 0.
        """
        ...

    def close(self) -> None:
        """End whatever helps to load batches."""
        ...


class TaskBatches:
    """The training part of a task, in an order drawn anew for every epoch; the last samples of it may be left out.

    Args:
        task: the task.
        batch: samples of a step.
        seed: of the order.
        device: of the network.
        flips: whether half of the images are mirrored left to right, drawn anew for every step.
    """

    def __init__(self, task: tasks.Task, batch: int, seed: int, device: str, flips: bool = False) -> None:
        self.size, self.seed, self.flips = batch, seed, flips
        self._parts = task.train_inputs.to(device), task.train_targets.to(device)
        self._order: tuple[int, Tensor] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Batches of a pass over the data."""
        return len(self._parts[0]) // self.size

    def batch(self, step: int) -> Samples:
        """Inputs and targets of a step.

        Args:
            step: its number, from 0.
        """
        rows = self._rows(step)
        inputs, targets = (part[rows] for part in self._parts)
        if self.flips:
            inputs = mirrored(inputs, Draws(self.seed).stream("data", "flips", str(step)))
        return inputs, targets

    def close(self) -> None:
        """Nothing to do: all is in memory."""

    def _rows(self, step: int) -> Tensor:
        """Indices of one batch; the order of an epoch depends on the seed and the epoch alone."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if self._order is None or self._order[0] != epoch:
            stream = Draws(self.seed).stream("data", "order", str(epoch))
            order = torch.randperm(len(self._parts[0]), generator=stream).to(self._parts[0].device)
            self._order = epoch, order
        return self._order[1][index * self.size : (index + 1) * self.size]
