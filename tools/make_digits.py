"""Make the packaged digits from the copy in scikit-learn: python tools/make_digits.py PATH/digits.csv.gz

After a change, copy the printed size and checksum to noisylearn/tasks/digits.py and noisylearn/data/README.md.
"""

import gzip
import hashlib
import sys
from pathlib import Path

import numpy as np

TARGET = Path(__file__).resolve().parents[1] / "noisylearn" / "data" / "digits.npz"
SOURCE_SHA256 = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"
TEST_SHARE, SEED = 0.2, 20261121


def main() -> None:
    """Write images, labels and the split, and print the file's size and checksum."""
    text = gzip.decompress(Path(sys.argv[1]).read_bytes())
    if hashlib.sha256(text).hexdigest() != SOURCE_SHA256:
        sys.exit(f"{sys.argv[1]}: not the file this tool was written for (sha256 of its text differs)")
    table = np.loadtxt(text.decode().splitlines(), delimiter=",").astype(np.uint8)
    rng = np.random.default_rng(SEED)
    table = rng.permutation(table)  # neighbours in the file have the same writer
    images, labels = table[:, :64], table[:, 64]
    test = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        places = np.flatnonzero(labels == digit)
        test[rng.choice(places, round(TEST_SHARE * len(places)), replace=False)] = True
    np.savez_compressed(TARGET, images=images, labels=labels, is_test=test)  # its zip entries carry a fixed date
    content = TARGET.read_bytes()
    print(f"{TARGET}: {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}, {test.sum()} test images")


if __name__ == "__main__":
    main()
