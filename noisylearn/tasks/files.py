"""Find data files, and check that they are the published ones byte for byte."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from noisylearn.ground.errors import UserError

ENVIRONMENT_VARIABLE = "NOISYLEARN_DATA"
CACHE = "~/.cache/noisylearn"


@dataclass(frozen=True)
class DataFile:
    """A published file: its place below the data folder, the bytes it must hold, and where it is offered.

    Args:
        path: relative to the data folder, with `/`.
        size: in bytes.
        checksum: hexadecimal digest of the whole file.
        origin: web address (or other source) named in error messages.
        algorithm: name of the checksum in `hashlib`.
    """

    path: str
    size: int
    checksum: str
    origin: str
    algorithm: str = "sha256"


def data_folder(data_dir: str | os.PathLike[str] | None = None) -> Path:
    """The folder that holds `mnist/`, `cifar10/`, `sarcos/`.

    `data_dir`, else the environment variable NOISYLEARN_DATA, else `~/.cache/noisylearn`.

    Raises:
        UserError: a folder was named, by argument or environment, and does not exist.
    """
    from_environment = os.environ.get(ENVIRONMENT_VARIABLE)
    for value, source in ((data_dir, "data_dir"), (from_environment, ENVIRONMENT_VARIABLE)):
        if value:
            folder = Path(os.path.expanduser(value))
            if not folder.is_dir():
                raise UserError(
                    f"data folder '{folder}' (from {source}) is not a folder; name the one "
                    f"that holds mnist/, cifar10/ or sarcos/ with --data-dir or {ENVIRONMENT_VARIABLE}"
                )
            return folder
    return Path(os.path.expanduser(CACHE))


def find(folder: Path, *forms: DataFile) -> Path:
    """Path of the first of `forms` (the same content in different files) that exists, verified.

    Raises:
        UserError: none of them is there, or the one found is damaged or cannot be read.
    """
    for file in forms:
        path = folder / file.path
        if path.is_file():
            verify(path, file)
            return path
    raise UserError(
        f"missing data file '{folder / forms[0].path}'; get it from {forms[0].origin} and put it there, "
        f"or name another data folder with --data-dir or {ENVIRONMENT_VARIABLE}"
    )


def verify(path: Path, file: DataFile) -> None:
    """Compare the file at `path` with the size and checksum of `file`, reading it as a stream.

    Raises:
        UserError: the bytes differ, or cannot be read.
    """
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            checksum = hashlib.file_digest(stream, file.algorithm).hexdigest()
    except OSError as error:
        raise UserError(f"cannot read data file '{path}': {error.strerror}; check its permissions") from error
    if (size, checksum) != (file.size, file.checksum):
        raise UserError(
            f"damaged data file '{path}': {size} bytes, {file.algorithm} {checksum[:12]}, "
            f"expected {file.size} bytes, {file.algorithm} {file.checksum[:12]}; "
            f"download it again from {file.origin}"
        )
