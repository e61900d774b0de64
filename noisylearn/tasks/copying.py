"""Copying memory: symbols to be given back after a delay.

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
    "8 symbols at random, one a step, a delay of 10 blanks, then as many recall markers, at which the symbols are to "
    "be given back in order; one-hot over 10 inputs and 10 outputs, blank elsewhere; squared error (0.0417 for the "
    "best guess without memory). 100 symbols, or --seq-len of them. "
)


@dataclass(frozen=True, eq=False)
class CopyingTask(SequenceTask, RegressionTask):
    """Squared error over all steps; the metric is the share of recall steps with the right symbol on top."""

    metric_name: ClassVar[str] = "recall_accuracy"
    higher_is_better: ClassVar[bool] = True

    length: int

    def loss_fn(
        self, output: Float[Tensor, "batch n_outputs"], target: Float[Tensor, "batch n_outputs"]
    ) -> Float[Tensor, " batch"]:
        """Mean over outputs of (output - target)^2, (batch,)."""
        return F.mse_loss(output, target, reduction="none").mean(dim=1)

    def metric(
        self, output: Float[Tensor, "batch n_outputs"], target: Float[Tensor, "batch n_outputs"]
    ) -> Float[Tensor, " batch"]:
        """1 where the largest of the outputs for symbols is the target's; (batch,)."""
        return (output[:, :N_SYMBOLS].argmax(1) == target.argmax(1)).to(output.dtype)

    def scores(
        self, outputs: Float[Tensor, "time batch n_outputs"], steps: Steps
    ) -> dict[str, Float[Tensor, " batch"]]:
        """Of every sequence: recall accuracy over the recall steps, and squared error over all steps."""
        recalled = slice(len(outputs) - self.length, None)
        right = self.metric(outputs[recalled].flatten(0, 1), steps.targets[recalled].flatten(0, 1))
        error = self.loss_fn(outputs.flatten(0, 1), steps.targets.flatten(0, 1)).reshape(outputs.shape[:2])
        return {self.metric_name: right.reshape(self.length, -1).mean(0), "mse": error.mean(0)}

    def selection(self, scores: Mapping[str, float]) -> float:
        """The squared error: while nothing is remembered yet, recall is at chance whatever else was learned."""
        return scores["mse"]

    @property
    def memoryless_mse(self) -> float:
        """Of the best guess without memory: every symbol at 1/8 in the recall steps, no error elsewhere."""
        return (1.0 - 1.0 / N_SYMBOLS) / N_FEATURES * self.length / self.train_inputs.shape[1]

    def measure_baselines(self) -> dict[str, float]:
        """Recall by chance and by a reservoir."""
        train, test = self.steps(self.train_inputs, self.train_targets), self.steps(self.test_inputs, self.test_targets)
        reservoir = self.held_out_scores(reservoir_predictions(train.inputs, train.targets, test.inputs), test)
        return {
            "chance": 1.0 / N_SYMBOLS,
            "reservoir, ridge readout": reservoir[self.metric_name],
        }


@dataclass(frozen=True)
class Copying:
    """The task with fresh sequences, or trained on one sequence alone."""

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
        """Inputs and targets (n, 2 seq_len + delay, 10); there is no file to read.

        Raises:
            UserError: no symbol, a negative delay, or `held_out` is unknown.
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
            notes=_NOTES + "2,000 sequences for training and 200 others held out, drawn from the seed.",
            in_time=True,
        ),
        n_train=2_000,
    ),
    Copying(
        Description(
            name="copying-fixed",
            title="copying memory, trained on one sequence alone, generated",
            notes=_NOTES
            + "One single sequence for training, which a network can learn by heart, as published code does; held out "
            "are 200 others.",
            in_time=True,
        ),
        n_train=1,
    ),
)


def copying_sequences(symbols: Int64[Tensor, "n length"], delay: int) -> Samples:
    """Inputs and targets (n, 2 length + delay, 10), one-hot, of symbols (n, length) in 0..7."""
    n, length = symbols.shape
    blank = symbols.new_full((n, length + delay), BLANK)
    inputs = torch.cat([symbols, blank[:, :delay], symbols.new_full((n, length), RECALL)], 1)
    targets = torch.cat([blank, symbols], 1)
    return F.one_hot(inputs, N_FEATURES).float(), F.one_hot(targets, N_FEATURES).float()
