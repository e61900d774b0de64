"""One HDF5 file per run: written beside and renamed, so that a kill at any moment leaves the last whole one."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from noisylearn.errors import UserError

FORMAT_VERSION = 1
Tree = dict[str, Any]  # of numbers, strings, tensors, numpy arrays and further trees


class RunFile:
    """The file of one run. Groups: config and facts as attributes, `metrics`, `weights`, `final`, `checkpoint`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, tree: Tree) -> None:
        """Replace the file by one that holds `tree`. Raises UserError where it cannot be written."""
        try:
            handle, name = tempfile.mkstemp(prefix=f".{self.path.name}.", suffix=".part", dir=self.path.parent)
            os.close(handle)
            try:
                with h5py.File(name, "w") as file:
                    file.attrs["format_version"] = FORMAT_VERSION
                    _write_group(file, tree)
                with open(name, "rb") as written:
                    os.fsync(written.fileno())
                os.replace(name, self.path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"run file {self.path}: cannot be written: {reason}; choose another --out") from None

    def read(self) -> Tree:
        """Everything the file holds. Raises UserError for a damaged file or one of another format."""
        try:
            with h5py.File(self.path, "r") as file:
                version = file.attrs.get("format_version")
                if version != FORMAT_VERSION:
                    raise UserError(f"run file {self.path}: format {version}, this version reads {FORMAT_VERSION}")
                return _read_group(file)
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(
                f"run file {self.path}: damaged or not a run file; remove it to start this run anew"
            ) from None

    def exists(self) -> bool:
        return self.path.exists()


def prepare_folder(out: Path) -> None:
    """Make the output folder and see that it can be written. Raises UserError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise UserError(f"output folder {out}: cannot be written: {error.strerror}; choose another --out") from None


def _write_group(group: h5py.Group, tree: Mapping[str, Any]) -> None:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            _write_group(group.create_group(key, track_order=True), value)
        elif isinstance(value, Tensor | np.ndarray):
            group.create_dataset(key, data=value.detach().cpu().numpy() if isinstance(value, Tensor) else value)
        elif isinstance(value, list):
            group.create_dataset(key, data=np.asarray(value, dtype=np.float64))
        else:
            group.attrs[key] = value


def _read_group(group: h5py.Group) -> Tree:
    tree: Tree = {key: value.item() if isinstance(value, np.generic) else value for key, value in group.attrs.items()}
    for key, item in group.items():
        tree[key] = _read_group(item) if isinstance(item, h5py.Group) else item[()]
    return tree


def tensors(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays of a tree as tensors, its groups likewise; what is neither is left out."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found[key] = tensors(value)
        elif isinstance(value, np.ndarray | np.generic):
            found[key] = torch.from_numpy(np.array(value))
    return found
