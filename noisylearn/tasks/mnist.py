"""MNIST: 28 x 28 handwritten digits, as flat vectors."""

import gzip
import os
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from noisylearn.tasks.base import ClassificationTask, Description, Samples, split_parts
from noisylearn.tasks.files import DataFile, data_folder, find

N_CLASSES = 10
N_VALIDATION = 10_000
_ORIGIN = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_FILES = {
    ("train", "images"): DataFile(
        "mnist/train-images-idx3-ubyte.gz",
        9912422,
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        _ORIGIN,
    ),
    ("train", "labels"): DataFile(
        "mnist/train-labels-idx1-ubyte.gz",
        28881,
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        _ORIGIN,
    ),
    ("test", "images"): DataFile(
        "mnist/t10k-images-idx3-ubyte.gz",
        1648877,
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        _ORIGIN,
    ),
    ("test", "labels"): DataFile(
        "mnist/t10k-labels-idx1-ubyte.gz",
        4542,
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        _ORIGIN,
    ),
}

DESCRIPTION = Description(
    name="mnist",
    title="MNIST handwritten digits, 10 classes",
    notes=(
        "LeCun, Cortes, Burges; terms usually given: CC BY-SA 3.0. 60,000 training and 10,000 test images, "
        "784 pixels scaled to 0..1 and not centred; the validation part is the last 10,000 training images."
    ),
    files=tuple(_FILES.values()),
)


def load(data_dir: str | os.PathLike[str] | None = None, held_out: str = "test", seed: int = 0) -> ClassificationTask:
    """Read the digits: inputs (n, 784) in 0..1, labels (n,).

    Args:
        data_dir: folder that holds `mnist/`.
        held_out: "test" or "validation".
        seed: not used: the data is fixed.

    Returns:
        The task.

    Raises:
        UserError: a file is missing or damaged, or `held_out` is unknown.
    """
    folder = data_folder(data_dir)
    train, test = split_parts(
        held_out,
        lambda: as_samples(*read_arrays(folder, "train")),
        lambda: as_samples(*read_arrays(folder, "test")),
        N_VALIDATION,
    )
    return ClassificationTask(DESCRIPTION, held_out, *train, *test, n_outputs=N_CLASSES)


def read_arrays(folder: Path, part: str) -> tuple[UInt8[np.ndarray, "n 784"], UInt8[np.ndarray, " n"]]:
    """Read the stored bytes of one part.

    The files are in idx format: a header of one 32-bit word and one per dimension, then the bytes.

    Args:
        folder: data folder that holds `mnist/`.
        part: "train" or "test".

    Returns:
        Images and labels.

    Raises:
        UserError: a file is missing or damaged.
    """
    images = gzip.decompress(find(folder, _FILES[part, "images"]).read_bytes())
    labels = gzip.decompress(find(folder, _FILES[part, "labels"]).read_bytes())
    pixels = np.frombuffer(images, np.uint8, offset=16)
    return pixels.reshape(-1, 784), np.frombuffer(labels, np.uint8, offset=8)


def as_samples(images: UInt8[np.ndarray, "n 784"], labels: UInt8[np.ndarray, " n"]) -> Samples:
    """Convert stored bytes to float32 pixels in 0..1 and int64 labels.

    Args:
        images: pixels in 0..255.
        labels: 0..9.

    Returns:
        Inputs and targets.
    """
    return torch.tensor(images, dtype=torch.float32).div_(255.0), torch.tensor(labels, dtype=torch.int64)
