"""What profiles, recipes and commands name: things of the package, and those that plug-ins add.

A plug-in is what an installed distribution names under an entry point group, or a Python file of your own that the
environment variable NOISYLEARN_PLUGINS names and that registers what it defines. Both are looked for when something is
asked that the package does not hold itself, in every process anew: workers know them too.
"""

import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from noisylearn.ground.errors import UserError, shortened

ENVIRONMENT_VARIABLE = "NOISYLEARN_PLUGINS"
T = TypeVar("T")


NAME = re.compile(r"[a-z][a-z0-9.-]*")


def checked_name(what: str, name: Any) -> str:
    """A name that a profile and the command line can state.

    Args:
        what: the thing, in words.
        name: of it.

    Raises:
        UserError: it is no text, or has other characters.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise UserError(f"{what}: its name {name!r} is not of small letters, digits, dots and hyphens")
    return name


class Registry(MutableMapping[str, T], Generic[T]):
    """Things of one kind by name.

    Args:
        what: one of them, in words, such as "rule".
        group: of the entry points that name more.
        own: those of the package.
        name_of: (thing, those there are) -> its name; it raises UserError for what is none, or clashes with another.
    """

    def __init__(
        self, what: str, group: str, own: Mapping[str, T], name_of: Callable[[Any, Mapping[str, T]], str]
    ) -> None:
        self._what, self._group, self._name_of = what, group, name_of
        self._held = dict(own)
        self._looked = False

    def register(self, thing: T) -> T:
        """Add a thing of one's own, under its name. What was defined anew, as in a notebook, replaces the old.

        Args:
            thing: to be added.

        Returns:
            The same, so that this serves as a decorator.

        Raises:
            UserError: it is none, or there is another one of this name.
        """
        others = {name: held for name, held in self._held.items() if _origin(held) != _origin(thing)}
        name = self._name_of(thing, others)
        if name in others:
            raise UserError(f"{self._what} '{name}': {_origin(others[name])} has this name; give yours another")
        self._held[name] = thing
        return thing

    def __getitem__(self, name: str) -> T:
        if name not in self._held:
            self._look_for_plugins()
        return self._held[name]

    def __setitem__(self, name: str, thing: T) -> None:
        self._held[name] = thing

    def __delitem__(self, name: str) -> None:
        del self._held[name]

    def __iter__(self) -> Iterator[str]:
        self._look_for_plugins()
        return iter(self._held)

    def __len__(self) -> int:
        self._look_for_plugins()
        return len(self._held)

    def _look_for_plugins(self) -> None:
        """Once: a distribution whose plug-in does not work is one warning, a file of the user's an error."""
        if self._looked:
            return
        self._looked = True
        for name in filter(None, os.environ.get(ENVIRONMENT_VARIABLE, "").split(os.pathsep)):
            _import(Path(name).expanduser())
        for point in entry_points(group=self._group):
            self._take(point)

    def _take(self, point: EntryPoint) -> None:
        try:
            self.register(point.load())
        except (Exception, SystemExit) as error:
            of = f"of {point.dist.name} " if point.dist else ""
            warnings.warn(f"plug-in '{point.name}' {of}({self._group}) is left out: {_why(error)}", stacklevel=2)


def _import(file: Path) -> None:
    """Import a file of the user's as the module of its name, once in a process. Raises UserError where that fails."""
    where = f"{ENVIRONMENT_VARIABLE}: {file}"
    if file.suffix != ".py" or not file.stem.isidentifier() or not file.is_file():
        raise UserError(f"{where}: no Python file; name files such as my_rules.py, separated by '{os.pathsep}'")
    folder = str(file.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        module = import_module(file.stem)
    except (Exception, SystemExit) as error:
        raise UserError(f"{where}: {_why(error)}") from None
    if not module.__file__ or Path(module.__file__).resolve() != file.resolve():
        raise UserError(f"{where}: {file.stem} is another module; rename the file")


def _why(error: BaseException) -> str:
    """What an import raised, with the line where that is no message for users."""
    if isinstance(error, UserError):
        return str(error)
    what = f"{type(error).__name__}: {shortened(str(error), 300)}"
    if isinstance(error, SyntaxError):  # which says where itself
        return what
    *_, place = traceback.extract_tb(error.__traceback__)
    return f"{what} ({Path(place.filename).name}, line {place.lineno})"


def _origin(thing: Any) -> str:
    """Where a class, a module or an object was defined."""
    module = getattr(thing, "__module__", None) or getattr(thing, "__name__", "")
    return ".".join(filter(None, (module, getattr(thing, "__qualname__", ""))))
