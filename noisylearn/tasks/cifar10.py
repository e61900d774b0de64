"""CIFAR-10: 32 x 32 colour photographs."""

import lzma
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8

from noisylearn.tasks.base import ClassificationTask, Description, Samples, split_parts, standardise_
from noisylearn.tasks.files import DataFile, data_folder, find

N_CLASSES = 10
N_VALIDATION = 5_000
_RECORD_BYTES = 1 + 3 * 32 * 32
_BATCH_BYTES = 10_000 * _RECORD_BYTES
_ORIGIN = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz (unpacked .bin files will do)"
# batch: published MD5 of the binary file; bytes and SHA-256 of its xz form
_CHECKSUMS = {
    "data_batch_1": (
        "5dd7e06a14cb22eb9f671a540d1b7c25",
        20700692,
        "01a49bcabd163578684136666288db1d2566d0a074f5f8eed570286b07169ae7",
    ),
    "data_batch_2": (
        "5ea93a67294ea407fff1d09f752e9692",
        20746348,
        "52159de7b46a39a4d65ae08f2abe3aeee83135673d476bc0973880ab42a247ab",
    ),
    "data_batch_3": (
        "942cd6a4bcdd0dd3c604fbe906cb4421",
        20739092,
        "c2816050ad48a00e9823af7c248888a92992d31240714e3fb4fe85b0ef34b85c",
    ),
    "data_batch_4": (
        "ae636b3ba5c66a11e91e8cb52e771fcb",
        20721048,
        "b596c9d1ac2f48b6a343d9dc04cb9c0b2b4cf0dc6aeff9814c3110c2cf26688b",
    ),
    "data_batch_5": (
        "53f37980c15c3d472c316c40844f3f0d",
        20683032,
        "a4a6b90cecd43ff1cce064b47713411899186f7676dc7a55373d586c9214ac47",
    ),
    "test_batch": (
        "803d5f7f4d78ea53de84dbe85f74fb6d",
        20717144,
        "74ce5d8e341c09344f635c5cb996be28e27dd74e6d947ff011f9e806ed44d4ea",
    ),
}
_BINARY_FILES = {
    batch: DataFile(f"cifar10/{batch}.bin", _BATCH_BYTES, md5, _ORIGIN, "md5")
    for batch, (md5, _, _) in _CHECKSUMS.items()
}
_XZ_FILES = {
    batch: DataFile(f"cifar10/{batch}.bin.xz", size, sha256, _ORIGIN) for batch, (_, size, sha256) in _CHECKSUMS.items()
}
_TRAIN_BATCHES = tuple(batch for batch in _CHECKSUMS if batch != "test_batch")

DESCRIPTION = Description(
    name="cifar10",
    title="CIFAR-10 photographs, 10 classes",
    notes=(
        "Krizhevsky 2009; no formal licence, the author asks to cite the report 'Learning Multiple Layers of "
        "Features from Tiny Images'. 50,000 training and 10,000 test images (3, 32, 32), standardised per "
        "channel with the training part's statistics; the validation part is the last 5,000 training images."
    ),
    files=tuple(_BINARY_FILES.values()),
)


def load(
    data_dir: str | os.PathLike[str] | None = None, held_out: str = "test", seed: int = 0, *, shrink: int = 1
) -> ClassificationTask:
    """Read the photographs: inputs (n, 3, 32 / shrink, 32 / shrink) standardised per channel, labels (n,).

    Args:
        data_dir: folder that holds `cifar10/`.
        held_out: "test" or "validation".
        seed: not used: the data is fixed.
        shrink: side of the squares of pixels that are averaged into one.

    Returns:
        The task.

    Raises:
        UserError: a file is missing or damaged, or `held_out` is unknown.
    """
    folder = data_folder(data_dir)
    train, test = split_parts(
        held_out,
        lambda: read_samples(folder, *_TRAIN_BATCHES),
        lambda: read_samples(folder, "test_batch"),
        N_VALIDATION,
    )
    (train_images, train_labels), (test_images, test_labels) = train, test
    if shrink > 1:
        train_images, test_images = (F.avg_pool2d(images, shrink) for images in (train_images, test_images))
    standardise_(train_images, test_images, dim=(0, 2, 3))
    description = DESCRIPTION if shrink == 1 else HALF.DESCRIPTION
    return ClassificationTask(
        description, held_out, train_images, train_labels, test_images, test_labels, n_outputs=N_CLASSES
    )


@dataclass(frozen=True)
class _Shrunk:
    """The same photographs with fewer pixels, as a task of its own."""

    DESCRIPTION: Description  # in capitals as in the modules that define a task
    shrink: int

    def load(
        self, data_dir: str | os.PathLike[str] | None = None, held_out: str = "test", seed: int = 0
    ) -> ClassificationTask:
        """Read the photographs; arguments as those of `tasks.load`."""
        return load(data_dir, held_out, seed, shrink=self.shrink)


HALF = _Shrunk(
    replace(
        DESCRIPTION,
        name="cifar10-16",
        title="CIFAR-10 photographs averaged to 16 x 16 pixels, 10 classes",
        notes=DESCRIPTION.notes.replace("(3, 32, 32)", "averaged over 2 x 2 pixels to (3, 16, 16)"),
    ),
    shrink=2,
)


def read_samples(folder: Path, *batches: str) -> Samples:
    """Read batches and join them.

    Args:
        folder: data folder that holds `cifar10/`, with the published `.bin` files or else `.bin.xz`.
        *batches: "data_batch_1" to "data_batch_5", or "test_batch".

    Returns:
        Pixels (n, 3, 32, 32) float32 in 0..255, and labels (n,) int64.

    Raises:
        UserError: a file is missing or damaged.
    """
    records = torch.from_numpy(np.concatenate([_read_records(folder, batch) for batch in batches]))
    return records[:, 1:].reshape(-1, 3, 32, 32).float(), records[:, 0].long()


def _read_records(folder: Path, batch: str) -> UInt8[np.ndarray, "n_images n_bytes"]:
    """Records (10000, 3073) uint8: the label, then the red, green and blue planes."""
    path = find(folder, _BINARY_FILES[batch], _XZ_FILES[batch])
    content = path.read_bytes()
    if path.suffix == ".xz":
        content = lzma.decompress(content)
    return np.frombuffer(content, np.uint8).reshape(-1, _RECORD_BYTES)
