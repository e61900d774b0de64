"""Handwritten digits of 8 x 8 pixels, packaged: small enough for training sample by sample."""

import os
from importlib import resources

import numpy as np
import torch

from noisylearn.tasks.base import ClassificationTask, Description, Samples, split_parts
from noisylearn.tasks.files import DataFile, verify

N_CLASSES, N_VALIDATION = 10, 300
FILE = DataFile(
    "digits.npz",
    46776,
    "e95922d95bd8965c8846496bac340ce2e697b3ddd27796074fc116df62710d86",
    "the noisylearn distribution (install the package again)",
)

DESCRIPTION = Description(
    name="digits",
    title="handwritten digits of 8 x 8 pixels packaged with noisylearn, 10 classes",
    notes=(
        "Alpaydin and Kaynak, UCI Machine Learning Repository, 1998, doi 10.24432/C50P49, CC BY 4.0; the 1797 images "
        "of its test file, 64 counts of 0 to 16 scaled to 0..1 and not centred. A fifth of every class, drawn at "
        "random, is the test part; the validation part is the last 300 training images. All parts share writers, so "
        "accuracies do not hold for new writers."
    ),
)


def load(data_dir: str | os.PathLike[str] | None = None, held_out: str = "test", seed: int = 0) -> ClassificationTask:
    """Read the packaged images: inputs (n, 64) in 0..1, labels (n,).

    Args:
        data_dir: not used: the data is packaged.
        held_out: "test" or "validation".
        seed: not used: the data is fixed.

    Returns:
        The task.

    Raises:
        UserError: the packaged file is damaged, or `held_out` is unknown.
    """
    with resources.as_file(resources.files("noisylearn") / "data" / FILE.path) as path:
        verify(path, FILE)
        with np.load(path, allow_pickle=False) as arrays:
            images, labels, is_test = arrays["images"], arrays["labels"], arrays["is_test"]

    def part(chosen: np.ndarray) -> Samples:
        inputs = torch.tensor(images[chosen], dtype=torch.float32).div_(16.0)
        return inputs, torch.tensor(labels[chosen], dtype=torch.int64)

    train, test = split_parts(held_out, lambda: part(~is_test), lambda: part(is_test), N_VALIDATION)
    return ClassificationTask(DESCRIPTION, held_out, *train, *test, n_outputs=N_CLASSES)
