"""SARCOS: inverse dynamics of a robot arm, from 21 joint readings to 7 torques."""

import os
from pathlib import Path

import torch

from noisylearn.tasks.base import Description, RegressionTask, Samples, split_parts, standardise_
from noisylearn.tasks.files import DataFile, data_folder, find

N_INPUTS = 21
N_OUTPUTS = 7
BLOCK_ROWS = 889  # a fifth of the 4,449
_FILE = DataFile(
    "sarcos/sarcos_inv_test.mat",
    996776,
    "161a59b5c3b4f4b404584323f181607b2acbe620eb134dc720760dc3f38f5cec",
    "http://www.gaussianprocess.org/gpml/data/sarcos_inv_test.mat",
)

DESCRIPTION = Description(
    name="sarcos",
    title="SARCOS arm inverse dynamics, 7 torques (own split of the published test file)",
    notes=(
        "Vijayakumar and Schaal 2000, gaussianprocess.org/gpml/data; no explicit licence. Only the published "
        "test file, split by contiguous blocks of its trajectory: the first 3,560 of 4,449 rows for training "
        "(the last 889 of these are the validation part), the last 889 for test; never compare its errors "
        "with published SARCOS numbers. Inputs and torques are standardised with the training part's "
        "statistics, so the MSE is in units of each torque's training variance."
    ),
    files=(_FILE,),
)


def load(data_dir: str | os.PathLike[str] | None = None, held_out: str = "test", seed: int = 0) -> RegressionTask:
    """Read the recordings: inputs (n, 21) and targets (n, 7), both standardised per column.

    Args:
        data_dir: folder that holds `sarcos/`.
        held_out: "test" or "validation".
        seed: not used: the data is fixed.

    Returns:
        The task.

    Raises:
        UserError: the file is missing or damaged, or `held_out` is unknown.
    """
    inputs, targets = read_samples(data_folder(data_dir))
    train, test = split_parts(
        held_out,
        lambda: (inputs[:-BLOCK_ROWS], targets[:-BLOCK_ROWS]),
        lambda: (inputs[-BLOCK_ROWS:], targets[-BLOCK_ROWS:]),
        BLOCK_ROWS,
    )
    for train_values, test_values in zip(train, test, strict=True):
        standardise_(train_values, test_values, dim=(0,))
    return RegressionTask(DESCRIPTION, held_out, *train, *test, n_outputs=N_OUTPUTS)


def read_samples(folder: Path) -> Samples:
    """Read all rows in order.

    Args:
        folder: data folder that holds `sarcos/`.

    Returns:
        Positions, velocities and accelerations (4449, 21), and torques (4449, 7); float32.

    Raises:
        UserError: the file is missing or damaged.
    """
    from scipy.io import loadmat  # here, so that importing the package stays light

    rows = torch.tensor(loadmat(find(folder, _FILE))["sarcos_inv_test"], dtype=torch.float32)
    return rows[:, :N_INPUTS].contiguous(), rows[:, N_INPUTS:].contiguous()
