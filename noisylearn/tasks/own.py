"""Tasks of one's own data: arrays, Datasets or DataLoaders, with a loss and a metric of torch or of one's own."""

import copy
import inspect
import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from noisylearn.ground.draws import stream_seed
from noisylearn.ground.errors import UserError, shortened
from noisylearn.ground.global_numbers import GlobalNumbers
from noisylearn.tasks.base import ClassificationTask, Description, RegressionTask, Samples, Task

OwnData = Any  # a pair of arrays, a Dataset or a DataLoader
PerSample = Callable[[Tensor, Tensor], Tensor]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
READ_AT_ONCE = 256  # samples of a Dataset


def from_data(
    name: str,
    train: OwnData,
    held_out: OwnData,
    loss: Any = None,
    metric: PerSample | None = None,
    higher_is_better: bool = True,
    n_outputs: int | None = None,
    title: str = "",
    notes: str = "",
    seed: int = 0,
) -> Task:
    """A task of one's own data, which is read into memory.

    Args:
        name: letters, digits, dots, dashes and underscores.
        train: training part: a pair (inputs, targets) of arrays, a Dataset, or a DataLoader that gives such pairs.
            Targets are class labels (n,), integers from 0; or numbers (n, n_outputs).
        held_out: the part that is measured on, likewise.
        loss: a loss of torch, as a class, module or function (its reduction is set to "none"); or (outputs, targets) ->
            loss of every sample. None for the cross entropy of labels, and the squared error of numbers.
        metric: (outputs, targets) -> score of every sample. None for the accuracy of labels, and the squared error of
            numbers.
        higher_is_better: whether a higher score of `metric` is better.
        n_outputs: of the network; None for as many as there are classes, or numbers in a target.
        title: a few words.
        notes: source, split, scaling, terms of use.
        seed: of what a Dataset draws while it is read.

    Returns:
        The task.

    Raises:
        UserError: the data has another form, or is not finite; loss or metric give no number for every sample.
    """
    if not NAME.fullmatch(name):
        raise UserError(f"task name '{shortened(name)}': give letters, digits, dots, dashes and underscores")
    parts = [samples_of(data, what, seed) for data, what in ((train, "training part"), (held_out, "held-out part"))]
    labels = parts[0][1].dtype == torch.int64
    if any((targets.dtype == torch.int64) != labels for _, targets in parts):
        raise UserError(f"task {name}: targets are class labels in one part and numbers in the other")
    if n_outputs is None:
        n_outputs = int(max(t.max() for _, t in parts)) + 1 if labels else parts[0][1][0].numel()
    elif labels:
        check_labels([targets for _, targets in parts], n_outputs, f"task {name} has")
    kind = _kind(labels, loss, metric, higher_is_better)
    description = Description(name, title or f"own data, {name}", notes or "data of the user's own")
    return kind(description, "test", *parts[0], *parts[1], n_outputs=n_outputs)


def check_labels(parts: Iterable[Tensor], n_outputs: int, what_has: str) -> None:
    """Raise UserError where class labels go beyond the outputs.

    Args:
        parts: labels of each part of the data.
        n_outputs: how many outputs there are.
        what_has: them, for the message.
    """
    labels = torch.cat(list(parts))
    least, most = int(labels.min()), int(labels.max())
    if most >= n_outputs:
        remedy = "give it more" if least == 0 else f"labels count from 0: subtract {least}"
        raise UserError(f"class labels go from {least} to {most}, but {what_has} {n_outputs} outputs; {remedy}")


def _kind(labels: bool, loss: Any, own_metric: PerSample | None, higher: bool) -> type[Task]:
    """The class of a task with this loss and metric."""
    base: Any = ClassificationTask if labels else RegressionTask
    if loss is None and own_metric is None:
        return base
    own_loss = None if loss is None else per_sample_loss(loss)

    class OwnTask(base):
        """A task with a loss or a metric of the user's own."""

        metric_name: ClassVar[str] = base.metric_name if own_metric is None else _name_of(own_metric)
        higher_is_better: ClassVar[bool] = base.higher_is_better if own_metric is None else higher
        given: ClassVar[tuple[Any, Any]] = (loss, own_metric)

        def loss_fn(self, output: Tensor, target: Tensor) -> Tensor:
            if own_loss is None:
                return super().loss_fn(output, target)
            return _for_every_sample(own_loss(output, target), output, "loss")

        def metric(self, output: Tensor, target: Tensor) -> Tensor:
            if own_metric is None:
                return super().metric(output, target)
            return _for_every_sample(own_metric(output, target), output, "metric")

        def measure_baselines(self) -> dict[str, float]:
            found: dict[str, float] = super().measure_baselines()
            if own_metric is not None:
                found.pop("chance", None)  # which is an accuracy
            return found

    return OwnTask


def per_sample_loss(loss: Any) -> PerSample:
    """A loss that gives one number for every sample.

    Args:
        loss: a class, module or function of torch, whose reduction is set to "none"; or any function (outputs,
            targets) -> losses.

    Raises:
        UserError: it is none of them.
    """
    if isinstance(loss, type) and issubclass(loss, nn.Module):
        loss = loss()
    if isinstance(loss, nn.Module) and hasattr(loss, "reduction"):
        loss = copy.copy(loss)
        loss.reduction = "none"
        return loss
    if not callable(loss):
        raise UserError(
            f"the loss is {_what(loss)}: give a loss of torch, such as nn.CrossEntropyLoss, or a function (outputs, "
            "targets) -> loss of every sample"
        )
    try:
        reduces = "reduction" in inspect.signature(loss).parameters
    except (TypeError, ValueError):
        reduces = False
    return partial(loss, reduction="none") if reduces else loss


def _name_of(metric: Callable[..., Any]) -> str:
    """The name of a metric in run files: that of the function, if it has one."""
    name = getattr(metric, "__name__", type(metric).__name__)
    return name if NAME.fullmatch(name) else "metric"


def _for_every_sample(found: Any, output: Tensor, what: str) -> Tensor:
    """(batch,) of (batch, ...), by the mean over whatever a sample has several of."""
    if not isinstance(found, Tensor) or found.dim() == 0 or len(found) != len(output):
        form = f"a tensor {tuple(found.shape)}" if isinstance(found, Tensor) else _what(found)
        raise UserError(
            f"the {what} is {form} for {len(output)} samples, but one number for every sample is needed: leave out "
            f'the mean over the batch, as reduction="none" does'
        )
    return found.to(output.dtype).flatten(1).mean(1) if found.dim() > 1 else found.to(output.dtype)


def samples_of(data: OwnData, what: str, seed: int = 0) -> Samples:
    """Read data of any form.

    Args:
        data: a pair of arrays, a Dataset or a DataLoader.
        what: it is, for messages.
        seed: of what it draws from the global generators while it is read.

    Returns:
        Inputs in float32; targets in int64 or float32.

    Raises:
        UserError: it has another form, is empty, or not finite.
    """
    if isinstance(data, Dataset):
        data = DataLoader(data, READ_AT_ONCE)
    if isinstance(data, DataLoader):
        with GlobalNumbers(stream_seed(seed, ("data", what))).drawn():
            pairs = [checked_pair(batch, what) for batch in data]
    elif isinstance(data, tuple | list) and len(data) == 2:
        pairs = [checked_pair(data, what)]
    else:
        raise UserError(
            f"{what}: it is {_what(data)}; give a pair (inputs, targets) of arrays, a Dataset or a DataLoader"
        )
    return joined(pairs, what)


def joined(pairs: Iterable[Samples], what: str) -> Samples:
    """Samples of several batches as one.

    Args:
        pairs: the batches.
        what: they are, for messages.

    Raises:
        UserError: there is none, or their shapes differ.
    """
    parts = list(pairs)
    if not parts or not sum(len(inputs) for inputs, _ in parts):
        raise UserError(f"{what}: it is empty")
    try:
        inputs, targets = (torch.cat(of) for of in zip(*parts, strict=True))
    except (RuntimeError, TypeError) as error:
        raise UserError(f"{what}: samples of one shape are needed: {shortened(str(error))}") from None
    return inputs, targets


def checked_pair(batch: Any, what: str) -> Samples:
    """Inputs and targets of a batch, as numbers of the kinds that networks and losses take.

    Args:
        batch: as a DataLoader gives it.
        what: it is of, for messages.

    Raises:
        UserError: it is no pair of arrays of equal length, or not finite.
    """
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise UserError(f"{what}: a batch is {_what(batch)}; a pair (inputs, targets) is needed")
    inputs, targets = (torch.as_tensor(one) if isinstance(one, Tensor | np.ndarray) else one for one in batch)
    for one, name in ((inputs, "inputs"), (targets, "targets")):
        if not isinstance(one, Tensor) or one.dim() == 0:
            raise UserError(f"{what}: {name} are {_what(one)}; a tensor or an array is needed")
    if len(inputs) != len(targets):
        raise UserError(f"{what}: {len(inputs)} inputs and {len(targets)} targets; give as many of both")
    if not inputs.is_floating_point():
        raise UserError(f"{what}: inputs are {inputs.dtype}; give floats, scaled to order one, as ToTensor() does")
    inputs, targets = inputs.float(), targets.float() if targets.is_floating_point() else targets.long()
    if not bool(torch.isfinite(inputs).all() and torch.isfinite(targets).all()):
        raise UserError(f"{what}: values are not finite; mend the data")
    if targets.dtype == torch.int64 and (targets.dim() != 1 or bool((targets < 0).any())):
        raise UserError(
            f"{what}: targets are integers {tuple(targets.shape)}; class labels are (n,), from 0, numbers are floats"
        )
    if targets.dim() > 2:
        raise UserError(f"{what}: targets are {tuple(targets.shape)}; flatten them to (n, numbers)")
    return inputs, targets[:, None] if targets.is_floating_point() and targets.dim() == 1 else targets


def _what(one: Any) -> str:
    parts = f", with {len(one)} parts" if isinstance(one, tuple | list) else ""
    return f"of type {type(one).__name__}{parts}"
