"""Train networks on noisy chips with forward passes only.

chip = nl.Chip(model, "pcm-nandakumar-2019", seed=0)
rule = nl.rules.ANP(baseline="noisy")
loss = rule.estimate(chip, x, loss_fn)      # in place of loss.backward(): fills .grad
optimizer.step()
chip.program()
"""

from noisylearn import networks, rules, tasks
from noisylearn.allocator import keep_freed_memory
from noisylearn.chip import Chip
from noisylearn.decorrelate import decorrelate
from noisylearn.errors import UserError
from noisylearn.normalize import NeuronNorms
from noisylearn.own_chip import Hardware, OwnChip
from noisylearn.profiles import HardwareProfile, load_profile
from noisylearn.version import __version__

__all__ = [
    "Chip",
    "Hardware",
    "HardwareProfile",
    "NeuronNorms",
    "OwnChip",
    "UserError",
    "__version__",
    "decorrelate",
    "keep_freed_memory",
    "load_profile",
    "networks",
    "rules",
    "tasks",
]
