"""What a task in time adds to a task: how its samples run over time, which steps count, and scores of a sequence."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from noisylearn.ground.errors import UserError, unknown_name
from noisylearn.tasks.base import HELD_OUT_PARTS, ClassificationTask, RegressionTask, Samples, Steps, Task, TaskModule
from noisylearn.tasks.reservoir import reservoir_predictions
from noisylearn.tasks.ridge import ridge_predictions


class SequenceModule(TaskModule, Protocol):
    """What defines a task in time."""

    def load(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        held_out: str = "test",
        seed: int = 0,
        seq_len: int = ...,
    ) -> "SequenceTask":
        """Read or generate the task."""
        ...


class SequenceTask(Task):
    """Samples that are sequences: (n, time, features), with targets (n, time, ...)."""

    @property
    def n_features(self) -> int:
        """What enters the network at one step."""
        return self.train_inputs.shape[2]

    def steps(self, inputs: Float[Tensor, "batch ..."], targets: Shaped[Tensor, "batch ..."]) -> Steps:
        """Samples as they are stored -> a batch over time."""
        return Steps(inputs.transpose(0, 1), targets.transpose(0, 1), in_time=True)

    def scores(
        self, outputs: Float[Tensor, "time batch n_outputs"], steps: Steps
    ) -> dict[str, Float[Tensor, " batch"]]:
        """Name -> score of every sequence, (batch,), of outputs (time, batch, n_outputs); the task's metric first.

        The metric is the mean over the steps that count.
        """
        found = self.metric(outputs.flatten(0, 1), steps.targets.flatten(0, 1)).reshape(outputs.shape[:2])
        if steps.mask is None:
            return {self.metric_name: found.mean(0)}
        return {self.metric_name: (found * steps.mask).sum(0) / steps.mask.sum(0)}

    def held_out_scores(self, outputs: Float[Tensor, "time batch n_outputs"], steps: Steps) -> dict[str, float]:
        """The scores' means over sequences."""
        return {name: float(score.double().mean()) for name, score in self.scores(outputs, steps).items()}


@dataclass(frozen=True, eq=False)
class Forecast(SequenceTask, RegressionTask):
    """What will be, from what was: the target of step t is a value of a later step. Squared error.

    present: index of the input feature whose later value is asked for.
    warm_up: first steps of a sequence, in which a network that starts at zero knows too little: they do not count.
    """

    present: int = 0
    warm_up: int = 0

    def steps(
        self, inputs: Float[Tensor, "batch time n_features"], targets: Float[Tensor, "batch time n_outputs"]
    ) -> Steps:
        steps = super().steps(inputs, targets)
        if not self.warm_up:
            return steps
        mask = inputs.new_ones(steps.inputs.shape[:2])
        mask[: self.warm_up] = 0.0
        return replace(steps, mask=mask)

    def measure_baselines(self) -> dict[str, float]:
        """Squared error of: zero; the training mean; persistence (all stays as it is); a linear fit to the input of
        the same step; a linear fit to the states of an untrained reservoir.
        """
        train, test = self.steps(self.train_inputs, self.train_targets), self.steps(self.test_inputs, self.test_targets)
        mean = train.targets.mean((0, 1))
        rows, targets = (part[self.warm_up :].flatten(0, 1) for part in (train.inputs, train.targets))
        linear = ridge_predictions(rows, targets, test.inputs.flatten(0, 1))
        guesses = {
            "zero": torch.zeros_like(test.targets),
            "mean": mean.expand_as(test.targets),
            "persistence": test.inputs[..., self.present : self.present + 1],
            "ridge on the same step": linear.reshape(test.targets.shape),
            "reservoir, ridge readout": reservoir_predictions(train.inputs, train.targets, test.inputs, self.warm_up),
        }
        return {name: self.held_out_scores(guess, test)[self.metric_name] for name, guess in guesses.items()}


@dataclass(frozen=True, eq=False)
class SequenceClassification(SequenceTask, ClassificationTask):
    """One label for a whole sequence, (n,): cross entropy at every step that counts, the label by the mean output."""

    n_steps: int

    metric_name: ClassVar[str] = "accuracy"

    def scores(
        self, outputs: Float[Tensor, "time batch n_outputs"], steps: Steps
    ) -> dict[str, Float[Tensor, " batch"]]:
        weights = torch.ones_like(outputs[..., 0]) if steps.mask is None else steps.mask
        summed = (F.log_softmax(outputs, 2) * weights.unsqueeze(2)).sum(0)
        return {self.metric_name: self.metric(summed, steps.targets[0])}


def drawn_parts(
    held_out: str, draw: Callable[[str, int], Samples], n_train: int, n_test: int
) -> tuple[Samples, Samples]:
    """Training and held-out samples of a generated task, each part from streams of its own; draw(part, n).

    Raises UserError for a part that is neither "test" nor "validation".
    """
    if held_out not in HELD_OUT_PARTS:
        raise unknown_name("held-out part", held_out, HELD_OUT_PARTS)
    return draw("train", n_train), draw(held_out, n_test)


def checked_length(task: str, seq_len: int, least: int = 2) -> int:
    """Raises UserError for a sequence that is too short to hold the task."""
    if seq_len < least:
        raise UserError(f"task {task}: sequences of {seq_len} steps; give --seq-len {least} or more")
    return seq_len
