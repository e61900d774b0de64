"""What a run of one's own is made of: the optimizer, and the data with its loss, metric and held-out part, checked."""

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from noisylearn import tasks
from noisylearn.experiments.batches import Batches, TaskBatches
from noisylearn.experiments.build import UNFIT_OPTIMIZERS, optimizer_class, optimizer_named
from noisylearn.experiments.identity import digest_of, text_of
from noisylearn.experiments.loader import LoaderBatches
from noisylearn.experiments.setup import OptimizerOf
from noisylearn.ground.errors import UserError, shortened
from noisylearn.tasks.base import RegressionTask
from noisylearn.tasks.own import OwnData, PerSample, check_labels, from_data

OPTIMIZER = "give a name, or a function such as lambda parameters: torch.optim.SGD(parameters, lr=0.1)"


@dataclass(frozen=True, eq=False)
class Given:
    """Data as a user gives it, and how it is to be read; see `noisylearn.fit`.

    Args:
        data: training part, or a task.
        held_out: the part that is measured on; None for that of a task.
        loss: of torch, or of the user's own.
        metric: of the user's own, or None.
        higher_is_better: whether a higher score of it is better.
        batch: samples of a step, unless a DataLoader says so.
        seed: of all random numbers.
        device: of the network.
        name: of the task.
    """

    data: OwnData | tasks.Task
    held_out: OwnData | None
    loss: Any
    metric: PerSample | None
    higher_is_better: bool
    batch: int
    seed: int
    device: str
    name: str

    def read(self, model: nn.Module) -> tuple[Batches, tasks.Task, dict[str, str]]:
        """Read the data, and see that the network and the loss go with it.

        Args:
            model: the network, on its device.

        Returns:
            The batches, the task that measures, and what identifies both.

        Raises:
            UserError: data, loss, metric and network do not go together.
        """
        batches, task = self._of_task() if isinstance(self.data, tasks.Task) else self._of_own()
        facts = {
            "task": task.name,
            "task_class": " ".join([text_of(type(task)), *map(text_of, getattr(task, "given", ()))]),
            "data": digest_of({part: getattr(task, part) for part in ("train_inputs", "train_targets")}),
            "held_out": digest_of({part: getattr(task, part) for part in ("test_inputs", "test_targets")}),
            "loss": text_of(self.loss),
            "metric": text_of(self.metric),
        }
        if isinstance(batches, LoaderBatches):
            facts["batches"] = batches.first.digest
        return batches, self._checked(model, task), facts

    def _of_task(self) -> tuple[Batches, tasks.Task]:
        task: tasks.Task = self.data
        if not (self.loss is self.held_out is self.metric is None):
            raise UserError(f"task {task.name} has its loss, metric and held-out part: give None for them")
        return self._cut(task), task

    def _of_own(self) -> tuple[Batches, tasks.Task]:
        if self.held_out is None:
            raise UserError(
                "held_out is missing: a score on the training part says little; split it off, as by "
                "torch.utils.data.random_split, or give it anew"
            )
        loader = self.data
        if isinstance(loader, Dataset):
            loader = DataLoader(loader, self.batch, shuffle=True)
        of_loader = LoaderBatches(loader, self.seed, self.device) if isinstance(loader, DataLoader) else None
        task = from_data(
            self.name, self.data if of_loader is None else of_loader.first.samples, self.held_out, self.loss,
            self.metric, self.higher_is_better, seed=self.seed,
        )  # fmt: skip
        return of_loader or self._cut(task), task

    def _cut(self, task: tasks.Task) -> Batches:
        if len(task.train_inputs) < self.batch:
            raise UserError(f"batch {self.batch} is more than the {len(task.train_inputs)} training samples")
        return TaskBatches(task, self.batch, self.seed, self.device)

    def _checked(self, model: nn.Module, task: tasks.Task) -> tasks.Task:
        """The task, once network and loss have taken two samples. Raises UserError where they do not go together."""
        if task.description.in_time:
            return task
        for name, weight in model.named_parameters():
            if weight.is_floating_point() and weight.dtype != torch.float32:
                raise UserError(f"the network's {name} is {weight.dtype}; give it in float32: model.float()")
        inputs, targets = (part[:2].to(self.device) for part in (task.train_inputs, task.train_targets))
        try:
            with torch.no_grad():
                outputs = _outputs_of(copy.deepcopy(model).eval()(inputs))
                _check_labels(task, outputs.shape[1])
                task.loss_fn(outputs, targets)
                task.metric(outputs, targets)
        except (RuntimeError, IndexError, TypeError) as error:
            raise UserError(
                f"network, loss and data do not fit: inputs {tuple(inputs.shape)}, targets {tuple(targets.shape)}: "
                f"{shortened(' '.join(str(error).split()), 300)}"
            ) from None
        return _with_outputs(task, outputs)


def _outputs_of(found: Any) -> Tensor:
    """What the network gave for two samples. Raises UserError where it is not one vector for each."""
    if not isinstance(found, Tensor):
        raise UserError(
            f"the network's forward gives {type(found).__name__}; one tensor (batch, outputs) is needed: wrap it in a "
            "module that gives that alone"
        )
    if found.dim() != 2:
        raise UserError(f"the network gives {tuple(found.shape)} for 2 samples; (batch, outputs) is needed")
    return found


def _check_labels(task: tasks.Task, n_outputs: int) -> None:
    """Raise UserError where targets are labels that go beyond the outputs."""
    if task.train_targets.dtype == torch.int64:
        check_labels([task.train_targets, task.test_targets], n_outputs, "the network has")


def _with_outputs(task: tasks.Task, outputs: Tensor) -> tasks.Task:
    """The task with as many outputs as the network has. Raises UserError where it does not go with them."""
    n_outputs = outputs.shape[1]
    if task.train_targets.dtype == torch.int64:
        return replace(task, n_outputs=n_outputs)
    if isinstance(task, RegressionTask) and n_outputs != task.n_outputs:
        raise UserError(f"a target has {task.n_outputs} numbers, the network {n_outputs} outputs; give as many")
    return task


def optimizer_of(given: str | OptimizerOf, lr: float) -> OptimizerOf:
    """What makes the optimizer.

    Args:
        given: name of a class of torch.optim in either case, or parameters -> optimizer.
        lr: learning rate of one that is named.

    Raises:
        UserError: it is neither, or the rate is no positive number.
    """
    if not isinstance(given, str):
        if not callable(given):
            raise UserError(f"optimizer of type {type(given).__name__}: {OPTIMIZER}")
        return given
    if not isinstance(lr, int | float) or not 0 < lr < float("inf"):
        raise UserError(f"lr {lr!r}: give a positive number, such as 0.01")
    return optimizer_named(given, lr)


def begun(optimizer: OptimizerOf, model: nn.Module) -> Optimizer:
    """An optimizer as it begins.

    Args:
        optimizer: what makes it.
        model: whose parameters it is given.

    Raises:
        UserError: it is none, one that rules cannot use, or not one of the parameters it was given.
    """
    parameters = list(model.parameters())
    made = optimizer(parameters)
    if not isinstance(made, Optimizer):
        raise UserError(f"optimizer: the function gives {type(made).__name__}; {OPTIMIZER}")
    if (name := type(made).__name__.lower()) in UNFIT_OPTIMIZERS:
        optimizer_class(name)  # which says why
    known = {id(parameter) for parameter in parameters}
    if any(id(parameter) not in known for group in made.param_groups for parameter in group["params"]):
        raise UserError(f"optimizer: it takes other parameters than those it was given, of a copy; {OPTIMIZER}")
    return made
