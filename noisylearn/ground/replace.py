"""Atomic writes: a file is written under another name and renamed, so that a kill leaves the last complete one."""

import os
from pathlib import Path

from noisylearn.ground.errors import UserError


def replace_file(path: Path, content: bytes | memoryview, what: str, remedy: str = "choose another --out") -> None:
    """Write a file completely or not at all.

    Args:
        path: of the file, which may exist.
        content: its new content.
        what: the kind of file, for the error message.
        remedy: what the user can do, for the error message.

    Raises:
        UserError: the file cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            with open(part, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(f"{what} {path}: cannot be written: {error.strerror or error}; {remedy}") from None
