"""Whether kernels can run here, and in which toolkit."""

import os
from importlib.util import find_spec
from typing import Literal

import torch

from noisylearn.ground.errors import UserError, not_installed

Toolkit = Literal["triton", "numba"]


def toolkit_for(device: torch.device) -> Toolkit:
    """What kernels for a model are written in: Numba on a CPU, unless Triton interprets its own there, for tests.

    Args:
        device: of the model.

    Raises:
        UserError: there are no kernels for this device, or the toolkit is missing.
    """
    if device.type not in ("cuda", "cpu"):
        raise UserError(
            f"kernels: the model is on {device.type}; there are some for cuda and cpu, leave the option out"
        )
    if device.type == "cuda" or os.environ.get("TRITON_INTERPRET") == "1":
        if find_spec("triton") is None:
            raise not_installed("kernels on a GPU (under Linux) need", "triton", "gpu")
        return "triton"
    if find_spec("numba") is None:
        raise not_installed("kernels on a CPU need", "numba", "numba")
    return "numba"
