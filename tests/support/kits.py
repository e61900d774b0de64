"""The toolkits that kernels are written in, and where they run here."""

from importlib import import_module
from types import ModuleType

import torch


class Kit:
    """A toolkit: "triton", on a GPU or in its interpreter, or "numba"."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.device = torch.device("cuda" if name == "triton" and torch.cuda.is_available() else "cpu")

    def module(self, name: str) -> ModuleType:
        return import_module(f"noisylearn.kernels.{'on_gpu' if self.name == 'triton' else 'on_cpu'}.{name}")
