"""Files written beside and renamed, so that a kill at any moment leaves the last whole one."""

import os
from pathlib import Path

from noisylearn.ground.errors import UserError


def replace_file(path: Path, content: bytes | memoryview, what: str, remedy: str = "choose another --out") -> None:
    """Put a file in the place of `path`, whole or not at all. Raises UserError, naming what it is, where it cannot."""
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
