"""MNIST over time: permuted sequential MNIST, and a latency code with one spike per pixel."""

import os
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from noisylearn.ground.draws import Draws
from noisylearn.ground.errors import UserError, not_installed
from noisylearn.tasks import mnist, mnist_sample
from noisylearn.tasks.base import Description, Task, TaskModule
from noisylearn.tasks.sequences import SequenceClassification, Steps, checked_length

N_PIXELS = 784
ORDER_SEED = 0
LATENCY_STEPS = 25
DARK = 0.01  # pixels below never spike


@dataclass(frozen=True, eq=False)
class PermutedPixels(SequenceClassification):
    """Permuted sequential MNIST: pixels in one fixed random order, 784 / n_steps of them per step.

    The loss counts at the last step.
    """

    @property
    def n_features(self) -> int:
        """Pixels per step."""
        return N_PIXELS // self.n_steps

    def steps(self, inputs: Float[Tensor, "batch n_pixels"], targets: Int64[Tensor, " batch"]) -> Steps:
        """Turn images into sequences of pixels.

        Args:
            inputs: images.
            targets: labels.

        Returns:
            Inputs (n_steps, batch, 784 / n_steps) with a mask that counts the last step only.
        """
        order = torch.argsort(Draws(ORDER_SEED).uniform(("psmnist", "order"), (N_PIXELS,))).to(inputs.device)
        over_time = inputs[:, order].reshape(len(inputs), self.n_steps, -1).transpose(0, 1)
        mask = inputs.new_zeros(self.n_steps, len(inputs))
        mask[-1] = 1.0
        return Steps(over_time, targets.expand(self.n_steps, -1), mask, in_time=True)


@dataclass(frozen=True, eq=False)
class LatencyCode(SequenceClassification):
    """A latency code: every pixel spikes once, a brighter one earlier (snnTorch's linear code); all steps count."""

    @property
    def n_features(self) -> int:
        """Pixels of an image: every one has its own spike train."""
        return N_PIXELS

    def steps(self, inputs: Float[Tensor, "batch n_pixels"], targets: Int64[Tensor, " batch"]) -> Steps:
        """Turn images into spike trains.

        Args:
            inputs: images.
            targets: labels.

        Returns:
            Spikes (n_steps, batch, 784), 0 or 1.
        """
        spikes = _spikegen().latency(
            inputs, num_steps=self.n_steps, threshold=DARK, normalize=True, linear=True, clip=True
        )
        return Steps(spikes, targets.expand(self.n_steps, -1), in_time=True)


@dataclass(frozen=True)
class MnistInTime:
    """Definition of a task: how the images of another task become sequences.

    Args:
        DESCRIPTION: name, title and notes.
        images: the task that has the images.
        kind: how they become sequences.
        seq_len: steps of a sequence by default.
    """

    DESCRIPTION: Description
    images: TaskModule
    kind: type[SequenceClassification]
    seq_len: int

    def load(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        held_out: str = "test",
        seed: int = 0,
        seq_len: int | None = None,
    ) -> SequenceClassification:
        """Read the images: inputs (n, 784) in 0..1, labels (n,); `steps` of the task turns them into sequences.

        Args:
            data_dir: folder that holds `mnist/`; not used for the packaged sample.
            held_out: "test" or "validation".
            seed: not used: the data is fixed.
            seq_len: steps of a sequence; None for the default.

        Returns:
            The task.

        Raises:
            UserError: a file is missing or damaged, `held_out` is unknown, or the number of steps does not fit.
        """
        n_steps = checked_length(self.DESCRIPTION.name, self.seq_len if seq_len is None else seq_len)
        if self.kind is PermutedPixels and N_PIXELS % n_steps:
            raise UserError(f"task {self.DESCRIPTION.name}: --seq-len {n_steps} does not divide 784 pixels; try 28")
        of: Task = self.images.load(data_dir, held_out, seed)
        parts = of.train_inputs, of.train_targets, of.test_inputs, of.test_targets
        return self.kind(self.DESCRIPTION, held_out, *parts, n_outputs=of.n_outputs, n_steps=n_steps)


def _spikegen() -> Any:
    """snnTorch's encodings, imported at first use."""
    try:
        from snntorch import spikegen
    except ImportError:
        raise not_installed("latency coding needs", "snntorch", "spiking") from None
    return spikegen


_PERMUTED = (
    "The pixels in one fixed random order, one per step (784 / --seq-len per step); the loss counts at the last step. "
)
_LATENCY = (
    "Every pixel brighter than 0.01 spikes once in 25 steps (--seq-len), a brighter one earlier; the loss counts at "
    "every step. "
)
TASKS = tuple(
    MnistInTime(
        Description(name, f"{title}: {images.DESCRIPTION.title}", how + images.DESCRIPTION.notes, files, in_time=True),
        images,
        kind,
        steps,
    )
    for images, suffix in ((mnist, ""), (mnist_sample, "-sample"))
    for files in (images.DESCRIPTION.files,)
    for name, title, how, kind, steps in (
        (f"psmnist{suffix}", "permuted sequential MNIST", _PERMUTED, PermutedPixels, N_PIXELS),
        (f"latency-mnist{suffix}", "MNIST as spike latencies", _LATENCY, LatencyCode, LATENCY_STEPS),
    )
)
