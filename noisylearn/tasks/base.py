"""What a task is: data, a loss and a metric per sample, and the scores of trivial predictors to compare with."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from noisylearn.chips.segments import Segment
from noisylearn.ground.errors import unknown_name
from noisylearn.ground.table import Shown, Table
from noisylearn.tasks.files import DataFile
from noisylearn.tasks.ridge import ridge_predictions

HELD_OUT_PARTS = ("test", "validation")
MOST_RIDGE_INPUTS = 4096

# Inputs and targets, (n, ...) both. Whether n is the same is not checked: two parts may meet in one signature.
Samples = tuple[Float[Tensor, "_ ..."], Shaped[Tensor, "_ ..."]]


@dataclass(frozen=True)
class Description:
    """What is known of a task before its data is read.

    Args:
        name: as given to `load`.
        title: a few words.
        notes: source, split, scaling, terms of use; one to three sentences.
        files: files needed in the data folder; none for generated and packaged tasks.
        in_time: whether samples are sequences, for networks that run step by step.
    """

    name: str
    title: str
    notes: str
    files: tuple[DataFile, ...] = ()
    in_time: bool = False

    def __str__(self) -> str:
        """Text of a few lines to print."""
        lines = [f"{self.name}: {self.title}", self.notes]
        lines += [f"needs {file.path} ({file.size} bytes) from {file.origin}" for file in self.files]
        return "\n".join(lines)


class TaskModule(Protocol):
    """What defines a task: a module of this package, or an object in one that defines several similar tasks."""

    @property
    def DESCRIPTION(self) -> Description:  # noqa: N802 (of a module: a constant)
        """What is known before the data is read."""
        ...

    def load(self, data_dir: str | os.PathLike[str] | None = None, held_out: str = "test", seed: int = 0) -> "Task":
        """Read or generate the task; arguments as those of `tasks.load`."""
        ...


@dataclass(frozen=True)
class Steps:
    """A batch of samples over time: sequences, or single samples as sequences of one step.

    Args:
        inputs: inputs of every step.
        targets: targets of every step.
        mask: 1 at steps whose loss counts, 0 at the others; None where all count.
        in_time: whether they are for a network that runs step by step, forward(x_t, state) -> (y_t, state).
    """

    inputs: Float[Tensor, "time batch ..."]
    targets: Shaped[Tensor, "time batch ..."]
    mask: Float[Tensor, "time batch"] | None = None
    in_time: bool = False

    @property
    def segment(self) -> Segment:
        """The inputs, as a chip takes them."""
        return Segment(self.inputs, self.in_time)

    @property
    def counts(self) -> Float[Tensor, "time batch"]:
        """The mask; all ones where there is none."""
        return self.inputs.new_ones(self.inputs.shape[:2]) if self.mask is None else self.mask

    def last(self, n_steps: int) -> "Steps":
        """The last `n_steps` steps, or all if there are fewer."""
        mask = None if self.mask is None else self.mask[-n_steps:]
        return Steps(self.inputs[-n_steps:], self.targets[-n_steps:], mask, self.in_time)

    def first(self, n_steps: int) -> "Steps":
        """The first `n_steps` steps, or all if there are fewer."""
        mask = None if self.mask is None else self.mask[:n_steps]
        return Steps(self.inputs[:n_steps], self.targets[:n_steps], mask, self.in_time)


@dataclass(frozen=True, eq=False, repr=False)
class Task(Shown, ABC):
    """A training part, a held-out part, and how outputs are scored.

    Args:
        description: name, title and notes.
        held_out: which part is held out as `test_inputs`: "test", or "validation" (the last block of the training
            part).
        train_inputs: (n, *input_shape), float32.
        train_targets: (n,) int64 class labels, or (n, n_outputs) float32.
        test_inputs: (m, *input_shape), float32.
        test_targets: as `train_targets`.
        n_outputs: outputs that a network for this task must have.
    """

    metric_name: ClassVar[str]
    higher_is_better: ClassVar[bool]

    description: Description
    held_out: str
    train_inputs: Float[Tensor, " n *input_shape"]
    train_targets: Shaped[Tensor, "n ..."]
    test_inputs: Float[Tensor, "m ..."]
    test_targets: Shaped[Tensor, "m ..."]
    n_outputs: int

    @property
    def name(self) -> str:
        """Name of the task, as given to `load`."""
        return self.description.name

    @property
    def title(self) -> str:
        """The task in a few words."""
        return self.description.title

    @property
    def notes(self) -> str:
        """Source, split, scaling and terms of use."""
        return self.description.notes

    def __repr__(self) -> str:
        parts = f"{len(self.train_inputs)} samples to train on, {len(self.test_inputs)} of the {self.held_out} part"
        return f"<{type(self).__name__} {self.name}: {parts}, {tuple(self.input_shape)} -> {self.n_outputs}>"

    def tables(self) -> list[Table]:
        """What the data is; its trivial baselines where they were measured before."""
        facts = [
            ["what it is", self.notes],
            ["training part", _sizes(self.train_inputs, self.train_targets)],
            [f"held out ({self.held_out})", _sizes(self.test_inputs, self.test_targets)],
            ["outputs of a network", f"{self.n_outputs}"],
            ["metric", f"{self.metric_name}, {'higher' if self.higher_is_better else 'lower'} is better"],
        ]
        what = Table(f"{self.name}: {self.title}", ["", ""], facts)
        if "baselines" not in vars(self):
            return [what]
        rows = [[name, f"{value:.4g}"] for name, value in self.baselines.items()]
        return [what, Table("trivial baselines", ["predictor", self.metric_name], rows, numbers=1)]

    @property
    def input_shape(self) -> torch.Size:
        """Shape of one input, without the batch dimension."""
        return self.train_inputs.shape[1:]

    @property
    def n_features(self) -> int:
        """Inputs of the network at one step."""
        return self.input_shape.numel()

    @cached_property
    def baselines(self) -> dict[str, float]:
        """Trivial predictor -> its metric on the held-out part; fitted on the training part at first use."""
        return self.measure_baselines()

    @abstractmethod
    def loss_fn(
        self, output: Float[Tensor, "batch n_outputs"], target: Shaped[Tensor, "batch ..."]
    ) -> Float[Tensor, " batch"]:
        """Loss of each sample.

        Args:
            output: outputs of the network.
            target: targets of the same samples.

        Returns:
            One loss per sample.
        """

    @abstractmethod
    def metric(
        self, output: Float[Tensor, "batch n_outputs"], target: Shaped[Tensor, "batch ..."]
    ) -> Float[Tensor, " batch"]:
        """Score of each sample; the mean over the held-out part is the metric called `metric_name`.

        Args:
            output: outputs of the network.
            target: targets of the same samples.

        Returns:
            One score per sample.
        """

    def steps(self, inputs: Float[Tensor, "batch ..."], targets: Shaped[Tensor, "batch ..."]) -> Steps:
        """Turn samples into a batch over time.

        Args:
            inputs: samples as the task stores them.
            targets: their targets.

        Returns:
            The batch, time first; of one step, unless samples are sequences.
        """
        return Steps(inputs.unsqueeze(0), targets.unsqueeze(0))

    def scores(
        self, outputs: Float[Tensor, "time batch n_outputs"], steps: Steps
    ) -> dict[str, Float[Tensor, " batch"]]:
        """Scores of every sample; unless samples are sequences, the metric.

        Args:
            outputs: outputs of every step.
            steps: the batch.

        Returns:
            Name -> score of every sample; the task's metric first.
        """
        return {self.metric_name: self.metric(outputs[-1], steps.targets[-1])}

    def selection(self, scores: Mapping[str, float]) -> float:
        """Criterion by which hyper-parameters are chosen; lower is better.

        Args:
            scores: name -> held-out score, the metric among them.

        Returns:
            The metric, with its sign changed where higher is better.
        """
        return -scores[self.metric_name] if self.higher_is_better else scores[self.metric_name]

    @abstractmethod
    def measure_baselines(self) -> dict[str, float]:
        """Compute `baselines`."""

    def held_out_score(self, output: Float[Tensor, "_ n_outputs"]) -> float:
        """Mean metric over the held-out part.

        Args:
            output: outputs of every held-out sample, or one row for all of them.
        """
        outputs = output.expand(len(self.test_targets), -1)
        return float(self.metric(outputs, self.test_targets).double().mean())


def _sizes(inputs: Tensor, targets: Tensor) -> str:
    return f"inputs {tuple(inputs.shape)}, targets {tuple(targets.shape)}"


@dataclass(frozen=True, eq=False, repr=False)
class ClassificationTask(Task):
    """A task with labels 0..n_outputs-1; the loss is the cross entropy in nats, the metric the accuracy."""

    metric_name: ClassVar[str] = "accuracy"
    higher_is_better: ClassVar[bool] = True

    def loss_fn(
        self, output: Float[Tensor, "batch n_outputs"], target: Int64[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        """Cross entropy of each sample: -log softmax(output)[target], in nats."""
        return F.cross_entropy(output, target, reduction="none")

    def metric(
        self, output: Float[Tensor, "batch n_outputs"], target: Int64[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        """1 for each sample whose largest output is the target's, else 0."""
        return (output.argmax(dim=1) == target).to(output.dtype)

    def measure_baselines(self) -> dict[str, float]:
        """Accuracy of uniform guessing, of the most frequent training class, and of a ridge fit to one-hot labels.

        For the fit, images of more than 4096 numbers are averaged over 2 x 2 pixels until they have no more.
        """
        one_hot = F.one_hot(self.train_targets, self.n_outputs).float()
        counts = one_hot.sum(dim=0, keepdim=True)
        ridge = ridge_predictions(_of_fewer_pixels(self.train_inputs), one_hot, _of_fewer_pixels(self.test_inputs))
        return {
            "chance": 1.0 / self.n_outputs,
            "majority class": self.held_out_score(counts),
            "ridge readout": self.held_out_score(ridge),
        }


def _of_fewer_pixels(inputs: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
    """Images averaged down until a ridge fit takes seconds; other inputs as they are."""
    while inputs.dim() == 4 and inputs[0].numel() > MOST_RIDGE_INPUTS:
        inputs = F.avg_pool2d(inputs, 2)
    return inputs


@dataclass(frozen=True, eq=False, repr=False)
class RegressionTask(Task):
    """A task with targets (n, n_outputs); loss and metric are the squared error, averaged over outputs."""

    metric_name: ClassVar[str] = "mse"
    higher_is_better: ClassVar[bool] = False

    def loss_fn(
        self, output: Float[Tensor, "batch n_outputs"], target: Float[Tensor, "batch n_outputs"]
    ) -> Float[Tensor, " batch"]:
        """Squared error of each sample: the mean over outputs of (output - target)^2."""
        return self.metric(output, target)

    def metric(
        self, output: Float[Tensor, "batch n_outputs"], target: Float[Tensor, "batch n_outputs"]
    ) -> Float[Tensor, " batch"]:
        """Squared error of each sample: the mean over outputs of (output - target)^2."""
        return F.mse_loss(output, target, reduction="none").mean(dim=1)

    def measure_baselines(self) -> dict[str, float]:
        """Squared error of outputs that are all zero, of the mean training target, and of a ridge fit."""
        mean = self.train_targets.mean(dim=0, keepdim=True)
        ridge = ridge_predictions(self.train_inputs, self.train_targets, self.test_inputs)
        return {
            "zero": self.held_out_score(torch.zeros_like(mean)),
            "mean": self.held_out_score(mean),
            "ridge readout": self.held_out_score(ridge),
        }


def split_parts(
    held_out: str, read_train: Callable[[], Samples], read_test: Callable[[], Samples], n_validation: int
) -> tuple[Samples, Samples]:
    """Training and held-out samples of a data set.

    For "test" they are what the two functions return. For "validation" the last `n_validation` training samples are
    held out of the training part, and the test part is not read at all.

    Args:
        held_out: "test" or "validation".
        read_train: reads the training part.
        read_test: reads the test part.
        n_validation: samples of the validation part.

    Returns:
        Both parts, training first.

    Raises:
        UserError: `held_out` is neither.
    """
    if held_out not in HELD_OUT_PARTS:
        raise unknown_name("held-out part", held_out, HELD_OUT_PARTS)
    train = read_train()
    if held_out == "test":
        return train, read_test()
    inputs, targets = train
    fitted = inputs[:-n_validation], targets[:-n_validation]
    return fitted, (inputs[-n_validation:], targets[-n_validation:])


def standardise_(train: Float[Tensor, " n *shape"], held_out: Float[Tensor, " m *shape"], dim: tuple[int, ...]) -> None:
    """Shift and scale two parts in place, so that the *training* part has mean 0 and variance 1.

        x <- (x - mean) / std,   mean and std of the training part over `dim`

    Args:
        train: training part.
        held_out: held-out part.
        dim: dimensions over which mean and variance are taken.
    """
    std, mean = torch.std_mean(train, dim=dim, correction=0, keepdim=True)
    for values in (train, held_out):
        values.sub_(mean).div_(std)
