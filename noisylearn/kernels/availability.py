"""Whether kernels can run here."""

from importlib.util import find_spec

import torch

from noisylearn.ground.errors import UserError


def check_available(device: torch.device) -> None:
    """Check that kernels can run for a model.

    Args:
        device: of the model.

    Raises:
        UserError: Triton is missing, or the model is on no GPU and Triton does not interpret.
    """
    if find_spec("triton") is None:
        raise UserError("kernels: they need Triton, which is for Linux alone: pip install 'noisylearn[gpu]'")
    from triton import knobs  # it takes long to import

    if device.type != "cuda" and not knobs.runtime.interpret:
        raise UserError(
            f"kernels: the model is on {device.type}; move it to a GPU, leave the option out, or let Triton interpret "
            "kernels (slow, for tests): TRITON_INTERPRET=1 in the environment"
        )
