"""Tasks to train on, one file each.

`load` gives a task: its data, loss, metric and trivial baselines. `names` lists the tasks, `describe` says what one is
without reading its data. `from_data` makes a task of your own data; `Task` and `SequenceTask` are the base classes of
tasks of your own, which `register` adds; so does a package that names one under the entry points "noisylearn.tasks".
FILE.py:NAME names a task in a Python file of yours, which is run.
"""

import os
from collections.abc import Mapping
from typing import Any, cast

from noisylearn.ground.errors import UserError, unknown_name
from noisylearn.ground.registry import Registry, checked_name
from noisylearn.tasks import (
    cifar10,
    copying,
    digits,
    linear_teacher,
    mackey_glass,
    mnist,
    mnist_in_time,
    mnist_sample,
    sarcos,
    tiny_imagenet,
    weather,
)
from noisylearn.tasks.base import ClassificationTask, Description, RegressionTask, Steps, Task, TaskModule
from noisylearn.tasks.own import from_data
from noisylearn.tasks.own_file import OwnModule, is_own
from noisylearn.tasks.sequences import Forecast, SequenceClassification, SequenceModule, SequenceTask

__all__ = [
    "ClassificationTask",
    "Description",
    "Forecast",
    "RegressionTask",
    "SequenceClassification",
    "SequenceTask",
    "Steps",
    "Task",
    "describe",
    "from_data",
    "load",
    "names",
    "register",
]

_FEEDFORWARD: tuple[TaskModule, ...] = (
    mnist_sample,
    digits,
    mnist,
    cifar10,
    cifar10.HALF,
    *tiny_imagenet.TASKS,
    sarcos,
    linear_teacher,
)
_IN_TIME: tuple[SequenceModule, ...] = (mackey_glass, *copying.TASKS, *weather.TASKS, *mnist_in_time.TASKS)
_OWN: dict[str, TaskModule] = {module.DESCRIPTION.name: module for module in (*_FEEDFORWARD, *_IN_TIME)}


def _name_of(task: Any, others: Mapping[str, TaskModule]) -> str:
    """The name of a task that can be registered. Raises UserError for what is none."""
    description = getattr(task, "DESCRIPTION", None)
    if not isinstance(description, Description) or not callable(getattr(task, "load", None)):
        raise UserError(
            f"task {task!r}: give a module or an object with DESCRIPTION, a noisylearn.tasks.Description, and a "
            "function load(data_dir, held_out, seed)"
        )
    return checked_name("task", description.name)


REGISTRY: Registry[TaskModule] = Registry("task", "noisylearn.tasks", _OWN, _name_of)


def register(task: TaskModule) -> TaskModule:
    """Add a task of your own: commands know it by the name in its description.

    Args:
        task: a module, or an object, with DESCRIPTION and load(data_dir, held_out, seed); the load of a task over time
            takes `seq_len` as well.

    Returns:
        The same.

    Raises:
        UserError: it is none, or there is another one of this name.
    """
    return REGISTRY.register(task)


def names() -> list[str]:
    """Names of all tasks."""
    return list(REGISTRY)


def describe(name: str) -> Description:
    """Title, notes and needed files of a task, without reading its data.

    Args:
        name: one of `names()`, or FILE.py:NAME, a task in a file of yours, which is run.

    Returns:
        The description; `str()` of it is a text to print.

    Raises:
        UserError: no task has this name, or the file raises an error.
    """
    return _module(name).DESCRIPTION


def load(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    held_out: str = "test",
    seed: int = 0,
    seq_len: int | None = None,
) -> Task:
    """Read or generate a task.

    Args:
        name: one of `names()`, or FILE.py:NAME, a task in a file of yours, which is run.
        data_dir: folder with the data files, for the tasks that need some; else the environment variable
            NOISYLEARN_DATA, else `~/.cache/noisylearn`.
        held_out: "test" for the test part, or "validation": the last block of the training part is held out
            instead, so that hyper-parameters can be chosen without a look at the test part.
        seed: what generated tasks draw from; data sets are fixed and do not depend on it.
        seq_len: for tasks over time: steps of a sequence (for copying: symbols); None for what the task's notes say.

    Returns:
        The task.

    Raises:
        UserError: the name or the part is unknown, a data file is missing or damaged, or `seq_len` does not fit.
    """
    module = _module(name)
    if isinstance(module, OwnModule):
        return module.load(data_dir, held_out, seed, seq_len)
    if seq_len is None:
        return module.load(data_dir, held_out, seed)
    if not module.DESCRIPTION.in_time:
        raise UserError(f"task {name} has no sequences: leave seq_len out")
    return cast(SequenceModule, module).load(data_dir, held_out, seed, seq_len=seq_len)


def _module(name: str) -> TaskModule:
    """The definition of a task by its name."""
    if is_own(name):
        return OwnModule(name)
    if name not in REGISTRY:
        if name.endswith(".py"):
            raise UserError(f"task {name}: say which task in the file, {name}:NAME")
        raise unknown_name("task", name, REGISTRY)
    return REGISTRY[name]
