"""A tree of numbers, strings and arrays in one HDF5 file, with a checksum."""

import glob
import hashlib
import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import h5py
import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from noisylearn.ground.errors import UserError, shortened
from noisylearn.ground.hdf5 import opened
from noisylearn.ground.lock import held
from noisylearn.ground.records import one_line
from noisylearn.ground.regular import read_regular
from noisylearn.ground.replace import FORCE, check_replaceable, replace_file

FORMAT_VERSION = 1
SUFFIX = ".h5"
SIGNATURE = b"\x89HDF"
LARGE = 4096  # bytes of an array above which compression is worth its overhead
Tree = dict[str, Any]  # of numbers, strings, tensors, numpy arrays and further trees
Content = TypeVar("Content")
Checked = TypeVar("Checked")


def differences(one: Any, other: Any, apart_from: Collection[str] = (), place: str = "") -> Iterator[str]:
    """Places where two trees, as they are read, differ in type or content; NaN is like NaN.

    Args:
        one: a tree, or what stands in one.
        other: likewise.
        apart_from: keys that may differ.
        place: of both.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other} - {*apart_from}):
            yield from differences(one.get(key), other.get(key), apart_from, f"{place}/{key}")
        return
    with_nan = isinstance(one, float | np.ndarray)
    if type(one) is not type(other) or not np.array_equal(one, other, equal_nan=with_nan):
        yield place


class TreeFile(ABC, Generic[Content]):
    """A tree of numbers, strings and arrays in one HDF5 file, with a checksum; on reading, a `Content` is made of it.

    what: the kind of file, for messages.  mend: what to do about a damaged one.  compresses: whether arrays are.
    """

    what: ClassVar[str]
    mend: ClassVar[str]
    compresses: ClassVar[bool] = False

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @abstractmethod
    def checked(self, tree: Tree) -> Content:
        """What the file holds, once names, types, shapes and bounds of all of it were checked.

        Raises:
            ValidationError: something is missing or wrong.
        """

    def write(self, tree: Tree, force: bool = False) -> None:
        """Replace the file by one that holds `tree`.

        Args:
            tree: what it shall hold.
            force: whether to replace a file that is no HDF5 file.

        Raises:
            UserError: it cannot be written, or something else is there.
        """
        content = io.BytesIO()  # in memory first: HDF5 handles a full disk badly
        with h5py.File(content, "w") as file:
            file.attrs["format_version"] = FORMAT_VERSION
            _write_group(file, tree, self.compresses)
            file.attrs["checksum"] = _checksum(file)
        replace_file(self.path, content.getbuffer(), self.what, force=force)

    def check_free(self, force: bool = False) -> None:
        """Check, before long work, that the file may be written.

        Args:
            force: whether to replace whatever is there.

        Raises:
            UserError: what is there is no whole file of this kind.
        """
        check_replaceable(self.path, SIGNATURE, self.what, FORCE, force)
        if not force and self.exists() and self.path.stat().st_size:
            try:
                self.read()
            except UserError as error:
                raise UserError(f"{shortened(str(error), 500)}; {FORCE}") from None

    def read(self) -> Content:
        """Everything the file holds. Raises UserError for a damaged file or one of another format."""
        return self._valid(self._tree(), self.checked)

    def _valid(self, tree: Tree, check: Callable[[Tree], Checked]) -> Checked:
        """What a check makes of a tree. Raises UserError where it finds something missing or wrong."""
        try:
            return check(tree)
        except ValidationError as error:
            raise UserError(
                f"{self.what} {self.path}: a file of noisylearn's, but no {self.what} that is whole: {one_line(error)}"
            ) from None

    def _tree(self, without: Collection[str] = ()) -> Tree:
        """What the file holds; its checksum is compared where no group is left out."""
        where = f"{self.what} {self.path}"
        mend = f"; {self.mend}" if self.path.suffix == SUFFIX else ""
        damaged = f"damaged or not a {self.what} of noisylearn{mend}"
        with opened(read_regular(self.path, where), where, damaged, without) as file:
            if "format_version" not in file.attrs:
                raise UserError(
                    f"a file of another program, or damaged: move it elsewhere, or give a {self.what} of noisylearn"
                )
            version = _plain(file.attrs["format_version"])
            if version != FORMAT_VERSION:
                raise UserError(
                    f"format {shortened(str(version))}, this version of noisylearn reads {FORMAT_VERSION}; use the "
                    "version that wrote it, or another --out"
                )
            tree = _read_group(file, without)
            checksum = tree.pop("checksum", None)
            del tree["format_version"]
            if not without and not any(checksum == _checksum(file, of_arrays) for of_arrays in (False, True)):
                raise UserError(f"damaged, its checksum is not that of its content{mend}")
        return tree

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the one process that computes the file in this block; what killed ones left beside it is removed.

        Where another process is at work on it, wait for its end.
        """
        with held(self.path, self.what):
            for part in self.path.parent.glob(f".{glob.escape(self.path.name)}.*.part"):
                part.unlink(missing_ok=True)
            yield

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


def _read_group(group: h5py.Group, without: Collection[str] = ()) -> Tree:
    tree: Tree = {key: _plain(value) for key, value in group.attrs.items()}
    for key in (key for key in group if key not in without):
        item = group[key]
        tree[key] = _read_group(item) if isinstance(item, h5py.Group) else np.asarray(item[()])
    return tree


def _plain(value: Any) -> Any:
    """A number or text of Python in place of one of numpy."""
    return value.item() if isinstance(value, np.generic) else value


def _checksum(file: h5py.File, of_arrays_alone: bool = False) -> str:
    """Digest of every array in the file, with its place, shape and type, and of every attribute but the checksum.

    of_arrays_alone: as files of the first versions have it.
    """
    digest = hashlib.sha256()

    def add(name: str, item: h5py.Group | h5py.Dataset) -> None:
        for key, value in [] if of_arrays_alone else sorted(item.attrs.items()):
            digest.update(f"{name}@{key}={_plain(value)!r};".encode() if key != "checksum" else b"")
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
