"""Regular files, the only ones that are read or replaced: a pipe never ends, a device is endless or no file at all."""

import os
import stat
from pathlib import Path

from noisylearn.ground.errors import UserError


def read_regular(path: Path, what: str, most_bytes: int | None = None) -> bytes:
    """The whole content of a regular file, or of the one that a link leads to.

    Args:
        path: of the file.
        what: names it in messages, such as "profile mine.toml".
        most_bytes: size above which the file is refused; None for any size.

    Raises:
        UserError: there is no such file, it is none that ends, it is too large, or it cannot be read.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise UserError(f"{what}: cannot be read: {kind_of(found.st_mode)}, not a regular file")
            if most_bytes is not None and found.st_size > most_bytes:
                raise UserError(f"{what}: larger than {most_bytes // 1024} KiB, which none is; is it another file?")
            return file.read()
    except UserError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        raise UserError(f"{what}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def kind_of(mode: int) -> str:
    """What a file of this mode is, in words."""
    for is_kind, name in _KINDS:
        if is_kind(mode):
            return name
    return "a regular file" if stat.S_ISREG(mode) else "a file of an unknown kind"


_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISLNK, "a link"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def _without_waiting(path: str, flags: int) -> int:
    """Open without waiting for a writer at the other end of a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
