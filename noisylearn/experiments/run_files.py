"""Run files of folders: those that can be read, and why the others cannot."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from noisylearn.experiments.run_file import HEAVY, RunFile
from noisylearn.ground.errors import UserError
from noisylearn.ground.tree_file import SUFFIX, Tree


def scan(
    paths: Iterable[Path], read: Callable[[RunFile], Tree] = RunFile.read
) -> tuple[dict[Path, Tree], dict[Path, str]]:
    """Read run files, and all run files of folders; what cannot be read is named and left out.

    Args:
        paths: files, or folders, of which every file that ends in .h5 is read, those of folders in it not. What is
            named twice is read once.
        read: how a file is read: whole, or `RunFile.facts`, which is faster and compares no checksum.

    Returns:
        File -> its content without weights and checkpoint, finished or not; and file -> why it cannot be read, in one
        line. Both in the order given, in folders by name.

    Raises:
        UserError: there is no such file or folder, or a folder cannot be read.
    """
    found: dict[Path, Tree] = {}
    damaged: dict[Path, str] = {}
    seen: set[Path] = set()
    for path in (file for place in paths for file in _files(place)):
        if path.resolve() in seen:
            continue
        seen.add(path.resolve())
        try:
            found[path] = {key: value for key, value in read(RunFile(path)).items() if key not in HEAVY}
        except UserError as error:
            damaged[path] = str(error)
    return found, damaged


def _files(place: Path) -> Iterator[Path]:
    """The files that a path stands for."""
    try:
        if place.is_dir():
            yield from sorted(path for path in place.iterdir() if path.suffix == SUFFIX and path.name[0] != ".")
            return
        place.lstat()
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{place}: cannot be read: {reason}; give run files, or folders of them") from None
    yield place
