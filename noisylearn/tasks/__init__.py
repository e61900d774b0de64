"""Tasks to train on: a file each; `load` gives the data, the loss, the metric and trivial baselines."""

import os

from noisylearn.errors import unknown_name
from noisylearn.tasks import cifar10, digits, linear_teacher, mnist, mnist_sample, sarcos
from noisylearn.tasks.base import ClassificationTask, Description, RegressionTask, Task, TaskModule

__all__ = ["ClassificationTask", "Description", "RegressionTask", "Task", "describe", "load", "names"]

_MODULES: tuple[TaskModule, ...] = (mnist_sample, digits, mnist, cifar10, sarcos, linear_teacher)
_REGISTRY = {module.DESCRIPTION.name: module for module in _MODULES}


def names() -> list[str]:
    """Names that `load` and `describe` know."""
    return list(_REGISTRY)


def describe(name: str) -> Description:
    """Title, notes and needed files of a task, without reading its data; `str()` of it is a text to print.

    Raises:
        UserError: no task has this name.
    """
    return _module(name).DESCRIPTION


def load(name: str, data_dir: str | os.PathLike[str] | None = None, held_out: str = "test", seed: int = 0) -> Task:
    """Read or generate a task.

    Args:
        name: one of `names()`.
        data_dir: folder with the data files, for the tasks that need some; else the environment variable
            NOISYLEARN_DATA, else `~/.cache/noisylearn`.
        held_out: "test" for the test part, or "validation": the last block of the training part is held out
            instead, so that hyper-parameters can be chosen without a look at the test part.
        seed: what generated tasks draw from; data sets are fixed and do not depend on it.

    Raises:
        UserError: unknown name or part; a data file is missing or damaged.
    """
    return _module(name).load(data_dir, held_out, seed)


def _module(name: str) -> TaskModule:
    if name not in _REGISTRY:
        raise unknown_name("task", name, _REGISTRY)
    return _REGISTRY[name]
