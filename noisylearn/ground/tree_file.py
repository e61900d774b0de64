"""A tree of numbers, strings and arrays in one HDF5 file, with a checksum."""

import glob
import hashlib
import io
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
import torch
from torch import Tensor

from noisylearn.ground.errors import UserError
from noisylearn.ground.replace import replace_file

FORMAT_VERSION = 1
SUFFIX = ".h5"
LARGE = 4096  # bytes of an array above which compression is worth its overhead
Tree = dict[str, Any]  # of numbers, strings, tensors, numpy arrays and further trees


class TreeFile(ABC):
    """A tree of numbers, strings and arrays in one HDF5 file, with a checksum.

    what: the kind of file, for messages.  mend: what to do about a damaged one.  compresses: whether arrays are.
    """

    what: ClassVar[str]
    mend: ClassVar[str]
    compresses: ClassVar[bool] = False

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @abstractmethod
    def missing(self, tree: Tree) -> set[str]:
        """Keys that such a file needs and this tree lacks."""

    def write(self, tree: Tree) -> None:
        """Replace the file by one that holds `tree`. Raises UserError where it cannot be written."""
        content = io.BytesIO()  # in memory first: HDF5 handles a full disk badly
        with h5py.File(content, "w") as file:
            file.attrs["format_version"] = FORMAT_VERSION
            _write_group(file, tree, self.compresses)
            file.attrs["checksum"] = _checksum(file)
        replace_file(self.path, content.getbuffer(), self.what)

    def read(self) -> Tree:
        """Everything the file holds. Raises UserError for a damaged file or one of another format."""
        try:
            with h5py.File(self.path, "r") as file:
                version = file.attrs["format_version"]
                if version != FORMAT_VERSION:
                    raise UserError(
                        f"{self.what} {self.path}: format {version}, this version of noisylearn reads "
                        f"{FORMAT_VERSION}; use the version that wrote it, or another --out"
                    )
                tree = _read_group(file)
                checksum = tree.pop("checksum", None)
                del tree["format_version"]
                if not _is_whole(file, checksum):
                    raise ValueError("altered")
                if not self._is_complete(tree):
                    raise UserError(f"{self.what} {self.path}: this is a file of noisylearn's, but no {self.what}")
                return tree
        except UserError:
            raise
        except (PermissionError, FileNotFoundError) as error:
            reason = os.strerror(error.errno) if error.errno else error.strerror
            raise UserError(f"{self.what} {self.path}: cannot be read: {reason}") from None
        except Exception:  # whatever HDF5 makes of damaged bytes
            mend = f"; {self.mend}" if self.path.suffix == SUFFIX else ""
            raise UserError(f"{self.what} {self.path}: damaged or not a {self.what}{mend}") from None

    def _is_complete(self, tree: Tree) -> bool:
        try:
            return not self.missing(tree)
        except KeyError:
            return False

    def remove_leftovers(self) -> None:
        """Remove what writers that were killed left beside the file."""
        for part in self.path.parent.glob(f".{glob.escape(self.path.name)}.*.part"):
            part.unlink(missing_ok=True)

    def exists(self) -> bool:
        return self.path.exists()


def _write_group(group: h5py.Group, tree: Mapping[str, Any], compresses: bool) -> None:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            _write_group(group.create_group(key, track_order=True), value, compresses)
        elif isinstance(value, Tensor | np.ndarray):
            array = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
            group.create_dataset(key, data=array, compression="gzip" if compresses and array.nbytes > LARGE else None)
        elif isinstance(value, list):
            group.create_dataset(key, data=np.asarray(value, dtype=np.float64))
        else:
            group.attrs[key] = value


def _read_group(group: h5py.Group) -> Tree:
    tree: Tree = {key: value.item() if isinstance(value, np.generic) else value for key, value in group.attrs.items()}
    for key, item in group.items():
        tree[key] = _read_group(item) if isinstance(item, h5py.Group) else np.asarray(item[()])
    return tree


def _is_whole(file: h5py.File, checksum: str | None) -> bool:
    return checksum in (None, _checksum(file)) or checksum == _checksum(file, of_arrays_alone=True)


def _checksum(file: h5py.File, of_arrays_alone: bool = False) -> str:
    """Digest of every array in the file, with its place, shape and type, and of every attribute but the checksum.

    of_arrays_alone: as files of the first versions have it.
    """
    digest = hashlib.sha256()

    def add(name: str, item: h5py.Group | h5py.Dataset) -> None:
        for key, value in [] if of_arrays_alone else sorted(item.attrs.items()):
            plain = value.item() if isinstance(value, np.generic) else value
            digest.update(f"{name}@{key}={plain!r};".encode() if key != "checksum" else b"")
        if isinstance(item, h5py.Dataset):
            digest.update(f"{name} {item.shape} {item.dtype.str}".encode())
            digest.update(item[()].tobytes())

    add("", file)
    file.visititems(add)
    return digest.hexdigest()


def tensors(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays of a tree as tensors, its groups likewise; what is neither is left out."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found[key] = tensors(value)
        elif isinstance(value, np.ndarray):
            found[key] = torch.from_numpy(value)
    return found
