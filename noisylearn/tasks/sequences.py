"""What a task over time adds to a task: samples as sequences, the steps whose loss counts, scores of a sequence."""

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
    """What defines a task over time."""

    def load(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        held_out: str = "test",
        seed: int = 0,
        seq_len: int = ...,
    ) -> "SequenceTask":
        """Read or generate the task; arguments as those of `tasks.load`."""
        ...


class SequenceTask(Task):
    """A task whose samples are sequences: inputs (n, time, n_features), targets (n, time, ...)."""

    @property
    def n_features(self) -> int:
        """Inputs of the network at one step."""
        return self.train_inputs.shape[2]

    def steps(self, inputs: Float[Tensor, "batch ..."], targets: Shaped[Tensor, "batch ..."]) -> Steps:
        """Turn samples into a batch of sequences.

        Args:
            inputs: samples as the task stores them.
            targets: their targets.

        Returns:
            The batch, time first.
        """
        return Steps(inputs.transpose(0, 1), targets.transpose(0, 1), in_time=True)

    def scores(
        self, outputs: Float[Tensor, "time batch n_outputs"], steps: Steps
    ) -> dict[str, Float[Tensor, " batch"]]:
        """Scores of every sequence: the metric, averaged over the steps that count.

        Args:
            outputs: outputs of every step.
            steps: the batch.

        Returns:
            Name -> score of every sequence; the task's metric first.
        """
        found = self.metric(outputs.flatten(0, 1), steps.targets.flatten(0, 1)).reshape(outputs.shape[:2])
        if steps.mask is None:
            return {self.metric_name: found.mean(0)}
        return {self.metric_name: (found * steps.mask).sum(0) / steps.mask.sum(0)}

    def held_out_scores(self, outputs: Float[Tensor, "time batch n_outputs"], steps: Steps) -> dict[str, float]:
        """Means of the scores over sequences.

        Args:
            outputs: outputs of every step.
            steps: the held-out part.

        Returns:
            Name -> mean score.
        """
        return {name: float(score.double().mean()) for name, score in self.scores(outputs, steps).items()}


@dataclass(frozen=True, eq=False, repr=False)
class Forecast(SequenceTask, RegressionTask):
    """A forecast: the target of step t is the value of one input feature at a later step. Squared error.

    Args:
        present: index of the input feature that is forecast.
        warm_up: steps at the start of a sequence that do not count, because a network that starts at zero cannot know
            enough there.
    """

    present: int = 0
    warm_up: int = 0

    def steps(
        self, inputs: Float[Tensor, "batch time n_features"], targets: Float[Tensor, "batch time n_outputs"]
    ) -> Steps:
        """Turn samples into a batch of sequences, of which the first `warm_up` steps do not count."""
        steps = super().steps(inputs, targets)
        if not self.warm_up:
            return steps
        mask = inputs.new_ones(steps.inputs.shape[:2])
        mask[: self.warm_up] = 0.0
        return replace(steps, mask=mask)

    def measure_baselines(self) -> dict[str, float]:
        """Squared error of zero, the training mean, persistence and two ridge fits.

        Persistence forecasts that the value stays as it is. One fit is to the input of the same step, the other to the
        states of an untrained reservoir.
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


@dataclass(frozen=True, eq=False, repr=False)
class SequenceClassification(SequenceTask, ClassificationTask):
    """A task with one label per sequence: cross entropy at every step that counts.

    The predicted label has the largest log-probability, summed over the steps that count.

    Args:
        n_steps: steps of a sequence.
    """

    n_steps: int

    metric_name: ClassVar[str] = "accuracy"

    def scores(
        self, outputs: Float[Tensor, "time batch n_outputs"], steps: Steps
    ) -> dict[str, Float[Tensor, " batch"]]:
        """Accuracy of every sequence, by log-probabilities summed over the steps that count.

        Args:
            outputs: outputs of every step.
            steps: the batch.

        Returns:
            "accuracy" -> 1 or 0 for every sequence.
        """
        weights = torch.ones_like(outputs[..., 0]) if steps.mask is None else steps.mask
        summed = (F.log_softmax(outputs, 2) * weights.unsqueeze(2)).sum(0)
        return {self.metric_name: self.metric(summed, steps.targets[0])}


def drawn_parts(
    held_out: str, draw: Callable[[str, int], Samples], n_train: int, n_test: int
) -> tuple[Samples, Samples]:
    """Training and held-out samples of a generated task, each part from random streams of its own.

    Args:
        held_out: "test" or "validation".
        draw: (name of the part, n) -> n samples.
        n_train: training samples.
        n_test: held-out samples.

    Returns:
        Both parts, training first.

    Raises:
        UserError: `held_out` is neither.
    """
    if held_out not in HELD_OUT_PARTS:
        raise unknown_name("held-out part", held_out, HELD_OUT_PARTS)
    return draw("train", n_train), draw(held_out, n_test)


def checked_length(task: str, seq_len: int, least: int = 2) -> int:
    """Check that sequences are long enough for a task.

    Args:
        task: its name, for the message.
        seq_len: steps of a sequence (for copying: symbols).
        least: fewest steps with which the task makes sense.

    Returns:
        `seq_len`.

    Raises:
        UserError: the sequences are too short.
    """
    if seq_len < least:
        raise UserError(f"task {task}: sequences of {seq_len} steps; give --seq-len {least} or more")
    return seq_len
