"""Tiny ImageNet: 64 x 64 colour photographs of 200 classes, or of every tenth class."""

import io
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from noisylearn.ground.errors import UserError
from noisylearn.tasks.base import ClassificationTask, Description, Samples, split_parts, standardise_
from noisylearn.tasks.files import DataFile, data_folder, find

SIDE, EACH_TENTH = 64, 10
PER_CLASS, N_VALIDATION_PER_CLASS = 500, 50
TRAIN, TEST = 0, 1
_ARCHIVE = DataFile(
    "tiny-imagenet-200.zip",
    248100043,
    "90528d7ca1a48142e341f4ef8d21d0de",
    "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    "md5",
)
_SUBSET = DataFile(
    "tiny_imagenet_20.npz",
    21795478,
    "a2f9c97592c814441523d27d30d37e4af42794927b3ef20d067e5b3e57ca7fa8",
    "its maker (arrays jpeg, offset, label, split of every tenth class); the whole tiny-imagenet-200.zip will do",
)
Jpegs = Iterator[tuple[bytes, int, int]]  # content, class, part


@dataclass(frozen=True)
class TinyImageNet:
    """Definition of the task.

    Args:
        DESCRIPTION: name, title, notes and files.
        every: 1 for all classes, 10 for every tenth.
        shrink: side of the squares of pixels that are averaged into one.
    """

    DESCRIPTION: Description
    every: int
    shrink: int

    def load(
        self, data_dir: str | os.PathLike[str] | None = None, held_out: str = "test", seed: int = 0
    ) -> ClassificationTask:
        """Read the photographs: inputs (n, 3, 64 / shrink, 64 / shrink) standardised per channel, labels (n,).

        Args:
            data_dir: folder that holds the files.
            held_out: "test" or "validation".
            seed: not used: the data is fixed.

        Returns:
            The task.

        Raises:
            UserError: a file is missing or damaged, or `held_out` is unknown.
        """
        folder = data_folder(data_dir)
        path = find(folder, *self.DESCRIPTION.files)
        n_classes = 200 // self.every
        read = _from_zip if path.suffix == ".zip" else _from_npz

        def part(which: int) -> Callable[[], Samples]:
            return lambda: _decoded(path, read(path, self.every), which, self.shrink)

        n_validation = n_classes * N_VALIDATION_PER_CLASS
        train, test = split_parts(held_out, part(TRAIN), part(TEST), n_validation)
        standardise_(train[0], test[0], dim=(0, 2, 3))
        return ClassificationTask(self.DESCRIPTION, held_out, *train, *test, n_outputs=n_classes)


def _decoded(path: Path, jpegs: Jpegs, part: int, shrink: int) -> Samples:
    """Pixels (n, 3, side, side) in 0..255 and labels of one part; the classes take turns."""
    found: dict[int, list[Tensor]] = {}
    for content, label, where in jpegs:
        if where == part:
            found.setdefault(label, []).append(F.avg_pool2d(_pixels(path, content), shrink))
    images = torch.stack([torch.stack(of_class) for _, of_class in sorted(found.items())], dim=1)
    labels = torch.arange(images.shape[1]).expand(images.shape[:2])
    return images.flatten(0, 1), labels.flatten()


def _pixels(path: Path, content: bytes) -> Float[Tensor, "3 64 64"]:
    """Pixels of a JPEG file's content, in 0..255."""
    from PIL import Image, UnidentifiedImageError  # here, so that importing the package stays light

    try:
        with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
            pixels = np.array(image.convert("RGB"))
    except (OSError, UnidentifiedImageError):
        raise UserError(f"data file '{path}' holds an image that cannot be decoded; download it again") from None
    if pixels.shape != (SIDE, SIDE, 3):
        raise UserError(f"data file '{path}' holds an image of shape {pixels.shape}, not {(SIDE, SIDE, 3)}")
    return torch.from_numpy(pixels).permute(2, 0, 1).float()


def _from_npz(path: Path, every: int) -> Jpegs:
    """The packed subset: all JPEG bytes in one array, with their offsets, labels and parts."""
    with np.load(path, allow_pickle=False) as arrays:
        content, offset = arrays["jpeg"].tobytes(), arrays["offset"]
        labels, parts = arrays["label"].tolist(), arrays["split"].tolist()
    for i, (label, part) in enumerate(zip(labels, parts, strict=True)):
        yield content[offset[i] : offset[i + 1]], label, part


def _from_zip(path: Path, every: int) -> Jpegs:
    """The published archive; of its classes in sorted order, every `every`-th."""
    with zipfile.ZipFile(path) as archive:
        root = "tiny-imagenet-200"
        classes = sorted(archive.read(f"{root}/wnids.txt").decode().split())[::every]
        for label, name in enumerate(classes):
            for i in range(PER_CLASS):
                yield archive.read(f"{root}/train/{name}/images/{name}_{i}.JPEG"), label, TRAIN
        for line in archive.read(f"{root}/val/val_annotations.txt").decode().splitlines():
            image, name = line.split("\t")[:2]
            if name in classes:
                yield archive.read(f"{root}/val/images/{image}"), classes.index(name), TEST


def _task(name: str, every: int, shrink: int) -> TinyImageNet:
    """A task with its description."""
    n_classes, side = 200 // every, SIDE // shrink
    averaged = f", averaged over {shrink} x {shrink} pixels" if shrink > 1 else ""
    tenth = " (every tenth in sorted order)" if every > 1 else ""
    notes = (
        "Le and Yang 2015, taken from ImageNet: for non-commercial research and education only, not to be passed on. "
        f"{n_classes} classes{tenth}, each with 500 training and 50 test images (3, {side}, {side}){averaged}, "
        "standardised per channel with the training part's statistics. The test part is the published validation part; "
        f"the validation part here is the last {N_VALIDATION_PER_CLASS} training images of every class."
    )
    title = f"Tiny ImageNet photographs of {side} x {side} pixels, {n_classes} classes"
    return TinyImageNet(
        Description(name, title, notes, (_ARCHIVE,) if every == 1 else (_SUBSET, _ARCHIVE)), every, shrink
    )


TASKS = (
    _task("tiny-imagenet", 1, 1),
    _task("tiny-imagenet-20", EACH_TENTH, 1),
    _task("tiny-imagenet-20-16", EACH_TENTH, 4),
)
