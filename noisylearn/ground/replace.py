"""Atomic writes: a file is written under another name and renamed, so that a kill leaves the last complete one.

What stands in the way is replaced only where it is a regular file of the same kind, so that no slip of the hand
overwrites a thesis, a device or a pipe.
"""

import os
import secrets
import stat
from pathlib import Path

from noisylearn.ground.errors import UserError
from noisylearn.ground.regular import kind_of

ELSEWHERE = "choose another place"
FORCE = f"{ELSEWHERE}, or say --force to replace it"
SAME_KIND = 4  # first bytes by which files of a kind are known: those of HDF5, PNG or a page of ours


def replace_file(
    path: Path,
    content: bytes | memoryview,
    what: str,
    remedy: str = "choose another --out",
    force: bool = False,
) -> None:
    """Write a file completely or not at all.

    Args:
        path: of the file, which may exist.
        content: its new content.
        what: the kind of file, for the error message.
        remedy: what the user can do, for the error message.
        force: whether to replace whatever is there, except a folder.

    Raises:
        UserError: the file cannot be written, or what is there is no regular file that begins like the new content.
    """
    check_replaceable(path, bytes(content[:SAME_KIND]), what, remedy, force)
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        try:
            with open(part, "xb", opener=_exclusively) as file:
                if stat.S_ISREG(mode := _mode(path)):
                    os.fchmod(file.fileno(), stat.S_IMODE(mode))
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except FileExistsError:
            raise
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(f"{what} {path}: cannot be written: {error.strerror or error}; {_unforced(remedy)}") from None


def check_replaceable(path: Path, begins: bytes, what: str, remedy: str, force: bool = False) -> None:
    """Check that a file may be written in the place of what is there.

    Args:
        path: of the file, which may exist.
        begins: how files of this kind begin.
        what: the kind of file, for the error message.
        remedy: what the user can do, for the error message.
        force: whether to replace whatever is there, except a folder.

    Raises:
        UserError: what is there is a folder, or, without `force`, no regular file that is empty or begins like this.
    """
    mode = _mode(path)
    if mode == 0 or (force and not stat.S_ISDIR(mode)):
        return
    if not stat.S_ISREG(mode):
        remedy = _unforced(remedy) if stat.S_ISDIR(mode) else remedy
        raise UserError(f"{what} {path}: cannot be written: there is {kind_of(mode)}; {remedy}")
    try:
        with open(path, "rb") as file:
            found = file.read(len(begins))
    except OSError:  # a file that nobody may read, but whose folder may be written to
        found = b"unknown"
    if found not in (b"", begins):
        raise UserError(f"{what} {path}: there is a file of another kind, which is not replaced; {remedy}")


def _unforced(remedy: str) -> str:
    """What the user can do where `--force` would not help."""
    return ELSEWHERE if remedy == FORCE else remedy


def _mode(path: Path) -> int:
    """Kind and permissions of what is there, of a link itself; 0 where nothing is."""
    try:
        return os.lstat(path).st_mode
    except (OSError, ValueError):  # what cannot be looked at cannot be written to either, and says so there
        return 0


def _exclusively(path: str, flags: int) -> int:
    """Make a file that was not there, in place of no link that was planted."""
    return os.open(path, flags | os.O_EXCL | os.O_NOFOLLOW, 0o666)
