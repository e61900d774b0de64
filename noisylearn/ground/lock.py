"""A lock beside a file, for the process that computes it; it ends with the process, however that ends."""

import errno
import fcntl
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from noisylearn.ground.errors import UserError

WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


@contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Hold the lock of a file in this block; where another process holds it, say so and wait.

    The lock is on `.NAME.lock` in the same folder, which is removed afterwards. One that a killed process has left
    holds nothing.

    Args:
        path: of the file, which need not exist.
        what: the kind of file, for messages.

    Raises:
        UserError: the lock cannot be made there.
    """
    lock = _beside(path)
    try:
        file = _locked(lock, path, what)
    except OSError as error:
        raise UserError(f"{what} {path}: cannot be locked: {error.strerror}; choose another --out") from None
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(file)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock of a file, as far as the file system tells.

    Args:
        path: of the file.
    """
    try:
        file = os.open(_beside(path), os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(file)
    return False


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _locked(lock: Path, path: Path, what: str) -> int:
    """The locked file, still there under its name."""
    while True:
        file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            _wait(file, path, what)
            if _is_there(lock, file):
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # the process before has removed it: lock the next one


def _wait(file: int, path: Path, what: str) -> None:
    """Lock an open file, at once or when another process has ended."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        warnings.warn(f"{what} {path}: another process is at work on it; waiting until it is done", stacklevel=4)
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
        warnings.warn(
            f"{what} {path}: this file system has no locks; see that no other process is at work on it", stacklevel=4
        )


def _is_there(lock: Path, file: int) -> bool:
    try:
        found = os.stat(lock, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(file))
