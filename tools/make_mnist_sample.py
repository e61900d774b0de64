"""Draw the packaged sample of MNIST: python tools/make_mnist_sample.py [DATA_DIR]

The bytes written depend only on the MNIST files, the constants below and the version of zlib. After a change,
copy the printed size and checksum to noisylearn/tasks/mnist_sample.py and noisylearn/data/README.md.
"""

import hashlib
import sys
from pathlib import Path

import numpy as np

from noisylearn.tasks.files import data_folder
from noisylearn.tasks.mnist import N_CLASSES, read_arrays

TARGET = Path(__file__).resolve().parents[1] / "noisylearn" / "data" / "mnist_sample.npz"
PER_CLASS = {"train": 400, "test": 100}
SEED = 20221128


def main() -> None:
    """Write the sample, and print the file's size and checksum."""
    folder = data_folder(sys.argv[1] if len(sys.argv) > 1 else None)
    rng = np.random.default_rng(SEED)
    arrays = {}
    for part, per_class in PER_CLASS.items():
        images, labels = read_arrays(folder, part)
        index = balanced_index(labels, per_class, rng)
        arrays[f"{part}_images"], arrays[f"{part}_labels"] = images[index], labels[index]
        arrays[f"{part}_index"] = index.astype(np.uint16)
    np.savez_compressed(TARGET, **arrays)  # its zip entries carry a fixed date
    content = TARGET.read_bytes()
    print(f"{TARGET}: {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}")


def balanced_index(labels: np.ndarray, per_class: int, rng: np.random.Generator) -> np.ndarray:
    """Draw samples of every class without replacement.

    Args:
        labels: of all samples, (n,).
        per_class: samples to draw of each class.
        rng: random numbers.

    Returns:
        Indices in ascending order.
    """
    drawn = [rng.choice(np.flatnonzero(labels == k), per_class, replace=False) for k in range(N_CLASSES)]
    return np.sort(np.concatenate(drawn))


if __name__ == "__main__":
    main()
