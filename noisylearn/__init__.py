"""Train networks on noisy chips with forward passes only.

chip = nl.Chip(model, "pcm-nandakumar-2019", seed=0)
rule = nl.rules.ANP(baseline="noisy")
loss = rule.estimate(chip, x, loss_fn)      # in place of loss.backward(): fills .grad
optimizer.step()
chip.program()
"""

from noisylearn.ground import interrupt  # noqa: F401 (before what takes seconds to import)

# isort: split
import importlib
from typing import TYPE_CHECKING, Any

from noisylearn import callbacks, distributed, networks, rules, tasks
from noisylearn.chips.interface import Hardware
from noisylearn.chips.own import OwnChip
from noisylearn.chips.simulated import Chip
from noisylearn.ground.allocator import keep_freed_memory
from noisylearn.ground.errors import UserError
from noisylearn.networks.decorrelation import decorrelate
from noisylearn.networks.norms import NeuronNorms
from noisylearn.profiles import HardwareProfile, load_profile
from noisylearn.version import __version__

if TYPE_CHECKING:
    from noisylearn import runs
    from noisylearn.experiments.fit import fit
    from noisylearn.experiments.shortcuts import compare, train
    from noisylearn.fitting import fit_profile

__all__ = [
    "Chip",
    "Hardware",
    "HardwareProfile",
    "NeuronNorms",
    "OwnChip",
    "UserError",
    "__version__",
    "callbacks",
    "compare",
    "decorrelate",
    "distributed",
    "fit",
    "fit_profile",
    "keep_freed_memory",
    "load_profile",
    "networks",
    "rules",
    "runs",
    "tasks",
    "train",
]


# What needs HDF5 or SciPy is imported at its first use.
_AT_FIRST_USE = {
    "compare": "noisylearn.experiments.shortcuts",
    "fit": "noisylearn.experiments.fit",
    "fit_profile": "noisylearn.fitting",
    "train": "noisylearn.experiments.shortcuts",
}


def __getattr__(name: str) -> Any:
    if name == "runs":
        return importlib.import_module("noisylearn.runs")
    if name in _AT_FIRST_USE:
        return getattr(importlib.import_module(_AT_FIRST_USE[name]), name)
    raise AttributeError(f"module 'noisylearn' has no attribute {name!r}")
