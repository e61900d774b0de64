"""A sample of MNIST that is packaged, so that the demo and the tests need no download."""

import os
from importlib import resources

import numpy as np

from noisylearn.tasks.base import ClassificationTask, Description, Samples, split_parts
from noisylearn.tasks.files import DataFile, verify
from noisylearn.tasks.mnist import N_CLASSES, as_samples

N_VALIDATION = 800
FILE = DataFile(
    "mnist_sample.npz",
    839792,
    "403ed145cce5a5f2db7fcce3dbe8e67dac931607d60eb7c4d5e08285ff3db46f",
    "the noisylearn distribution (install the package again)",
)

DESCRIPTION = Description(
    name="mnist-sample",
    title="MNIST sample packaged with noisylearn, 10 classes",
    notes=(
        "LeCun, Cortes, Burges; terms usually given: CC BY-SA 3.0. 400 training and 100 test images of every "
        "class, drawn at random from MNIST's own training and test files, 784 pixels scaled to 0..1 and not "
        "centred; the validation part is the last 800 training images. Do not compare accuracies with those on full "
        "MNIST."
    ),
)


def load(data_dir: str | os.PathLike[str] | None = None, held_out: str = "test", seed: int = 0) -> ClassificationTask:
    """Read the packaged sample: inputs (n, 784) in 0..1, labels (n,).

    Args:
        data_dir: not used: the data is packaged.
        held_out: "test" or "validation".
        seed: not used: the data is fixed.

    Returns:
        The task.

    Raises:
        UserError: the packaged file is damaged, or `held_out` is unknown.
    """
    arrays = _read_arrays()

    def part(name: str) -> Samples:
        return as_samples(arrays[f"{name}_images"], arrays[f"{name}_labels"])

    train, test = split_parts(held_out, lambda: part("train"), lambda: part("test"), N_VALIDATION)
    return ClassificationTask(DESCRIPTION, held_out, *train, *test, n_outputs=N_CLASSES)


def _read_arrays() -> dict[str, np.ndarray]:
    """All arrays of the packaged file, as `data/README.md` describes them."""
    with resources.as_file(resources.files("noisylearn") / "data" / FILE.path) as path:
        verify(path, FILE)
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
