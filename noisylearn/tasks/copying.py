"""Copying memory: a network sees symbols and has to repeat them after a delay.

Source: Arjovsky, Shah and Bengio, ICML 2016, in the form of [RNN] 3.2.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from noisylearn.ground.draws import Draws
from noisylearn.ground.errors import UserError
from noisylearn.tasks.base import Description, RegressionTask, Samples
from noisylearn.tasks.reservoir import reservoir_predictions
from noisylearn.tasks.sequences import SequenceTask, Steps, checked_length, drawn_parts

N_SYMBOLS, BLANK, RECALL = 8, 8, 9
N_FEATURES = 10
LENGTH, DELAY = 100, 10

_NOTES = (
    "100 symbols (or --seq-len of them) drawn at random from 8, one per step, then 10 blanks, then one recall marker "
    "per symbol, at which the network has to repeat the symbols in order; the targets of all other steps are blank. "
    "One-hot over 10 inputs and 10 outputs; squared error (0.0417 for the best guess without memory). "
)


@dataclass(frozen=True, eq=False, repr=False)
class CopyingTask(SequenceTask, RegressionTask):
    """Copying memory: the loss is the squared error over all steps, the metric the share of symbols recalled.

    Args:
        length: symbols of a sequence.
    """

    metric_name: ClassVar[str] = "recall_accuracy"
    higher_is_better: ClassVar[bool] = True

    length: int

    def loss_fn(
        self, output: Float[Tensor, "batch n_outputs"], target: Float[Tensor, "batch n_outputs"]
    ) -> Float[Tensor, " batch"]:
        """Squared error of each sample of a step: the mean over outputs of (output - target)^2."""
        return F.mse_loss(output, target, reduction="none").mean(dim=1)

    def metric(
        self, output: Float[Tensor, "batch n_outputs"], target: Float[Tensor, "batch n_outputs"]
    ) -> Float[Tensor, " batch"]:
        """1 for each sample where the largest of the outputs for symbols is the target's, else 0."""
        return (output[:, :N_SYMBOLS].argmax(1) == target.argmax(1)).to(output.dtype)

    def scores(
        self, outputs: Float[Tensor, "time batch n_outputs"], steps: Steps
    ) -> dict[str, Float[Tensor, " batch"]]:
        """Recall accuracy of every sequence over its recall steps, and squared error over all steps.

        Args:
            outputs: outputs of every step.
            steps: the batch.

        Returns:
            "recall_accuracy" and "mse" -> score of every sequence.
        """
        recalled = slice(len(outputs) - self.length, None)
        right = self.metric(outputs[recalled].flatten(0, 1), steps.targets[recalled].flatten(0, 1))
        error = self.loss_fn(outputs.flatten(0, 1), steps.targets.flatten(0, 1)).reshape(outputs.shape[:2])
        return {self.metric_name: right.reshape(self.length, -1).mean(0), "mse": error.mean(0)}

    def selection(self, scores: Mapping[str, float]) -> float:
        """The squared error: as long as nothing is remembered, recall is at chance whatever else was learned."""
        return scores["mse"]

    @property
    def memoryless_mse(self) -> float:
        """Squared error of the best guess without memory: 1/8 for every symbol at recall steps, no error elsewhere."""
        return (1.0 - 1.0 / N_SYMBOLS) / N_FEATURES * self.length / self.train_inputs.shape[1]

    def measure_baselines(self) -> dict[str, float]:
        """Recall accuracy of guessing and of a reservoir."""
        train, test = self.steps(self.train_inputs, self.train_targets), self.steps(self.test_inputs, self.test_targets)
        reservoir = self.held_out_scores(reservoir_predictions(train.inputs, train.targets, test.inputs), test)
        return {
            "chance": 1.0 / N_SYMBOLS,
            "reservoir, ridge readout": reservoir[self.metric_name],
        }


@dataclass(frozen=True)
class Copying:
    """Definition of the task, with many training sequences or with one alone.

    Args:
        DESCRIPTION: name, title and notes.
        n_train: training sequences.
    """

    DESCRIPTION: Description
    n_train: int

    def load(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        held_out: str = "test",
        seed: int = 0,
        seq_len: int = LENGTH,
        delay: int = DELAY,
        n_test: int = 200,
    ) -> CopyingTask:
        """Generate the task: inputs and targets (n, 2 seq_len + delay, 10).

        Args:
            data_dir: not used.
            held_out: "test" or "validation".
            seed: of the symbols.
            seq_len: symbols of a sequence.
            delay: blank steps between the last symbol and the first recall marker.
            n_test: held-out sequences.

        Returns:
            The task.

        Raises:
            UserError: there is no symbol, the delay is negative, or `held_out` is unknown.
        """
        checked_length(self.DESCRIPTION.name, seq_len, least=1)
        if delay < 0:
            raise UserError(f"task {self.DESCRIPTION.name}: delay {delay}; give 0 or more")
        draws = Draws(seed)

        def draw(part: str, n: int) -> Samples:
            uniform = draws.uniform(("copying", part), (n, seq_len))
            return copying_sequences((uniform * N_SYMBOLS).long().clamp_(max=N_SYMBOLS - 1), delay)

        train, test = drawn_parts(held_out, draw, self.n_train, n_test)
        return CopyingTask(self.DESCRIPTION, held_out, *train, *test, n_outputs=N_FEATURES, length=seq_len)


TASKS = (
    Copying(
        Description(
            name="copying",
            title="copying memory, 100 symbols, fresh sequences, generated",
            notes=_NOTES + "2,000 sequences for training, 200 others held out, all drawn from the seed.",
            in_time=True,
        ),
        n_train=2_000,
    ),
    Copying(
        Description(
            name="copying-fixed",
            title="copying memory, trained on a single sequence, generated",
            notes=_NOTES
            + "A single sequence for training, as in published code, which a network can learn by heart; 200 others "
            "are held out.",
            in_time=True,
        ),
        n_train=1,
    ),
)


def copying_sequences(symbols: Int64[Tensor, "n length"], delay: int) -> Samples:
    """Sequences of the task from their symbols.

    Args:
        symbols: 0..7, in the order in which they are shown.
        delay: blank steps between the last symbol and the first recall marker.

    Returns:
        Inputs and targets (n, 2 length + delay, 10), one-hot.
    """
    n, length = symbols.shape
    blank = symbols.new_full((n, length + delay), BLANK)
    inputs = torch.cat([symbols, blank[:, :delay], symbols.new_full((n, length), RECALL)], 1)
    targets = torch.cat([blank, symbols], 1)
    return F.one_hot(inputs, N_FEATURES).float(), F.one_hot(targets, N_FEATURES).float()
