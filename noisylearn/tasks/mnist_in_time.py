"""MNIST in time: pixel by pixel in a fixed random order, or as one spike a pixel, the brighter the earlier."""

import os
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from noisylearn.ground.draws import Draws
from noisylearn.ground.errors import UserError
from noisylearn.tasks import mnist, mnist_sample
from noisylearn.tasks.base import Description, Task, TaskModule
from noisylearn.tasks.sequences import SequenceClassification, Steps, checked_length

N_PIXELS = 784
ORDER_SEED = 0
LATENCY_STEPS = 25
DARK = 0.01  # pixels below never spike


@dataclass(frozen=True, eq=False)
class PermutedPixels(SequenceClassification):
    """All pixels in one fixed random order, 784 / n_steps at a step; the loss counts at the last step."""

    @property
    def n_features(self) -> int:
        return N_PIXELS // self.n_steps

    def steps(self, inputs: Float[Tensor, "batch n_pixels"], targets: Int64[Tensor, " batch"]) -> Steps:
        order = torch.argsort(Draws(ORDER_SEED).uniform(("psmnist", "order"), (N_PIXELS,))).to(inputs.device)
        over_time = inputs[:, order].reshape(len(inputs), self.n_steps, -1).transpose(0, 1)
        mask = inputs.new_zeros(self.n_steps, len(inputs))
        mask[-1] = 1.0
        return Steps(over_time, targets.expand(self.n_steps, -1), mask)


@dataclass(frozen=True, eq=False)
class LatencyCode(SequenceClassification):
    """A pixel spikes once, the brighter the earlier (snntorch's linear latency code); every step's loss counts."""

    @property
    def n_features(self) -> int:
        return N_PIXELS

    def steps(self, inputs: Float[Tensor, "batch n_pixels"], targets: Int64[Tensor, " batch"]) -> Steps:
        spikes = _spikegen().latency(
            inputs, num_steps=self.n_steps, threshold=DARK, normalize=True, linear=True, clip=True
        )
        return Steps(spikes, targets.expand(self.n_steps, -1))


@dataclass(frozen=True)
class MnistInTime:
    """One way through time for one set of images."""

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
        """Images (n, 784) in 0..1 and labels (n,); `steps` gives their sequences of seq_len steps.

        Raises:
            UserError: a file is missing or damaged, or the steps do not fit.
        """
        n_steps = checked_length(self.DESCRIPTION.name, self.seq_len if seq_len is None else seq_len)
        if self.kind is PermutedPixels and N_PIXELS % n_steps:
            raise UserError(f"task {self.DESCRIPTION.name}: --seq-len {n_steps} does not divide 784 pixels; try 28")
        of: Task = self.images.load(data_dir, held_out, seed)
        parts = of.train_inputs, of.train_targets, of.test_inputs, of.test_targets
        return self.kind(self.DESCRIPTION, held_out, *parts, n_outputs=of.n_outputs, n_steps=n_steps)


def _spikegen() -> Any:
    try:
        from snntorch import spikegen
    except ImportError:
        raise UserError("latency coding needs snntorch: pip install 'noisylearn[spiking]'") from None
    return spikegen


_PERMUTED = "pixels in one fixed random order, one a step (784 / --seq-len a step); the loss counts at the last step. "
_LATENCY = (
    "every pixel brighter than 0.01 spikes once in 25 steps (--seq-len), the brighter the earlier; the loss counts at "
    "every step. "
)
TASKS = tuple(
    MnistInTime(
        Description(
            name, f"{title} of {images.DESCRIPTION.title}", how + images.DESCRIPTION.notes, files, in_time=True
        ),
        images,
        kind,
        steps,
    )
    for images, suffix in ((mnist, ""), (mnist_sample, "-sample"))
    for files in (images.DESCRIPTION.files,)
    for name, title, how, kind, steps in (
        (f"psmnist{suffix}", "permuted pixels", _PERMUTED, PermutedPixels, N_PIXELS),
        (f"latency-mnist{suffix}", "spike latencies", _LATENCY, LatencyCode, LATENCY_STEPS),
    )
)
