"""Finding data files, and checking byte for byte that they are the published ones."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from noisylearn.ground.errors import UserError

ENVIRONMENT_VARIABLE = "NOISYLEARN_DATA"
CACHE = "~/.cache/noisylearn"


@dataclass(frozen=True)
class DataFile:
    """A published file: its place in the data folder, a checksum of its content, and where to download it.

    Args:
        path: relative to the data folder, with `/`.
        size: in bytes.
        checksum: hexadecimal digest of the whole file.
        origin: web address or other source, named in error messages.
        algorithm: name of the checksum in `hashlib`.
    """

    path: str
    size: int
    checksum: str
    origin: str
    algorithm: str = "sha256"


def data_folder(data_dir: str | os.PathLike[str] | None = None) -> Path:
    """Folder that holds the data files, such as `mnist/`, `cifar10/`, `sarcos/`.

    Args:
        data_dir: the folder; None for the environment variable NOISYLEARN_DATA, or else `~/.cache/noisylearn`.

    Returns:
        Its path; the default may not exist.

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
    """Find a data file and verify it.

    Args:
        folder: data folder.
        *forms: files with the same content in different forms; the first that exists is taken.

    Returns:
        Path of the file found.

    Raises:
        UserError: none of them exists, or the one found is damaged or cannot be read.
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
    """Check the size and checksum of a file, reading it as a stream.

    Args:
        path: where it lies.
        file: what it must be.

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
