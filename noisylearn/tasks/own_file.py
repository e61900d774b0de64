"""Tasks in a Python file of one's own, named FILE.py:NAME. The file is run: name none that you would not run."""

import hashlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

from noisylearn.ground.errors import UserError, shortened, unknown_name
from noisylearn.ground.toml import read_text
from noisylearn.tasks.base import HELD_OUT_PARTS, ClassificationTask, Description, Task
from noisylearn.tasks.own import check_labels
from noisylearn.tasks.sequences import SequenceTask

VALIDATION_SHARE = 5  # a fifth of the training part, where the file does not say what to validate on


def is_own(name: str) -> bool:
    """Whether the name of a task is FILE.py:NAME.

    Args:
        name: of a task.
    """
    return name.rpartition(":")[0].endswith(".py")


def source(name: str) -> str:
    """The text of the file that a task is in.

    Args:
        name: FILE.py:NAME.

    Raises:
        UserError: it cannot be read.
    """
    return read_text(_path(name), "task file " + str(_path(name)))


class OwnModule:
    """A task in a file of one's own; a `TaskModule` like those of this package.

    NAME is a Task; a function that gives one, with any of the arguments data_dir, held_out, seed and seq_len; or an
    object with DESCRIPTION and load, such as a module.

    Args:
        name: FILE.py:NAME.

    Raises:
        UserError: the file cannot be read, raises an error, or has no such name.
    """

    def __init__(self, name: str) -> None:
        self.name, attribute = name, name.rpartition(":")[2]
        with errors_of(name):
            module = _module(name)
        if not hasattr(module, attribute):
            raise unknown_name(f"name in {_path(name)}", attribute, (key for key in vars(module) if key[0] != "_"))
        self.given = getattr(module, attribute)
        if not isinstance(self.given, Task) and not callable(getattr(self.given, "load", self.given)):
            raise UserError(
                f"{name} is of type {type(self.given).__name__}; a Task is needed, or a function that gives one"
            )

    @property
    def DESCRIPTION(self) -> Description:  # noqa: N802 (of a module: a constant)
        """What is known before the data is read; of a function, by its name, docstring and the type it returns."""
        name, given = self.name.rpartition(":")[2], self.given
        if isinstance(given, Task):
            return replace(given.description, name=name, in_time=isinstance(given, SequenceTask))
        if isinstance(found := getattr(given, "DESCRIPTION", None), Description):
            return replace(found, name=name)
        title = next(iter((inspect.getdoc(given) or "").splitlines()), "") or "own task"
        return Description(name, title, f"of {_path(self.name)}", in_time=_gives_sequences(given))

    def load(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        held_out: str = "test",
        seed: int = 0,
        seq_len: int | None = None,
    ) -> Task:
        """Make the task; arguments as those of `tasks.load`.

        Raises:
            UserError: the file raises an error, or gives no task.
        """
        if held_out not in HELD_OUT_PARTS:
            raise unknown_name("held-out part", held_out, HELD_OUT_PARTS)
        given = {"data_dir": data_dir, "held_out": held_out, "seed": seed, "seq_len": seq_len}
        with errors_of(self.name):
            task = self.given if isinstance(self.given, Task) else _called(self.name, self.given, given)
        if not isinstance(task, Task):
            raise UserError(f"{self.name} gives {type(task).__name__}, not a Task")
        if seq_len is not None and not isinstance(task, SequenceTask):
            raise UserError(f"task {self.name} has no sequences: leave seq_len out")
        if isinstance(task, SequenceTask) != self.DESCRIPTION.in_time:
            raise UserError(f"{self.name}: gives sequences: say so, def ...() -> nl.tasks.SequenceTask")
        if isinstance(task, ClassificationTask):
            check_labels([task.train_targets, task.test_targets], task.n_outputs, f"{self.name} has")
        task = replace(task, description=self.DESCRIPTION)
        return task if task.held_out == held_out else _validation(task)


@contextmanager
def errors_of(name: str) -> Iterator[None]:
    """Raise an error that a task file raises, in this block, as one line that names the file and its line.

    Args:
        name: of a task; errors in a block for a task that is in no file stay as they are.

    Raises:
        UserError: the file raised an error.
    """
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        line = _line(name, error) if is_own(name) else None
        if line is None:
            raise
        said = f"{type(error).__name__}: {shortened(str(error), 300)}" if str(error) else type(error).__name__
        notes = "; ".join(["", *getattr(error, "__notes__", [])])
        raise UserError(f"task file {_path(name)}, line {line}: {said}{notes}") from None


def _line(name: str, error: BaseException) -> int | None:
    """The last line of the file that an error has passed; None where it has not."""
    path = str(_path(name).resolve())
    if isinstance(error, SyntaxError) and error.filename == path:
        return error.lineno
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno for frame in reversed(frames) if frame.filename == path), None)


def _path(name: str) -> Path:
    return Path(name.rpartition(":")[0])


def _module(name: str) -> ModuleType:
    """The file as a module, run once in a process as long as its text is the same."""
    path, text = _path(name).resolve(), source(name)
    own_name = f"noisylearn_task_{hashlib.sha256(f'{path} {text}'.encode()).hexdigest()[:16]}"
    if own_name in sys.modules:
        return sys.modules[own_name]
    spec = importlib.util.spec_from_file_location(own_name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[own_name] = module  # where dataclasses look up their module
    sys.path.insert(0, str(path.parent))  # as for a script: it may import what lies beside it
    try:
        exec(compile(text, str(path), "exec"), module.__dict__)
    except BaseException:
        del sys.modules[own_name]
        raise
    finally:
        sys.path.remove(str(path.parent))
    return module


def _called(name: str, function: Any, given: dict[str, Any]) -> Any:
    """Call a function, or the `load` of an object, with those arguments that it has."""
    if hasattr(function, "DESCRIPTION"):
        function = function.load
    if unknown := [name for name in _arguments(function, needed=True) if name not in given]:
        raise UserError(f"{name} needs {', '.join(unknown)}, but is given any of {', '.join(given)}; say a default")
    return function(**{key: value for key, value in given.items() if key in _arguments(function)})


def _arguments(function: Callable[..., Any], needed: bool = False) -> list[str]:
    """The names of its arguments; or of those alone that it cannot be called without."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    many = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [one.name for one in found if not needed or (one.default is one.empty and one.kind not in many)]


def _gives_sequences(function: Callable[..., Any]) -> bool:
    """Whether a function says that it returns a task with sequences."""
    try:
        returns = get_type_hints(function).get("return")
    except (NameError, TypeError):
        return False
    return isinstance(returns, type) and issubclass(returns, SequenceTask)


def _validation(task: Task) -> Task:
    """The task with the last fifth of its training part held out, which takes the place of the test part."""
    n = len(task.train_inputs) // VALIDATION_SHARE
    if not n:
        raise UserError(f"task {task.name}: {len(task.train_inputs)} training samples are too few to hold some out")
    inputs, targets = task.train_inputs, task.train_targets
    return replace(
        task, held_out="validation", train_inputs=inputs[:-n], train_targets=targets[:-n],
        test_inputs=inputs[-n:], test_targets=targets[-n:],
    )  # fmt: skip
