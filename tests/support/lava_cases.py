"""Networks for Lava that several test files share, and a look at the processes that a run started."""

import os
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import noisylearn as nl
from noisylearn.backends.lava.compat import INSTALL, is_installed
from noisylearn.backends.lava.export import Data, to_lava_net
from noisylearn.backends.lava.netfile import LavaNet

needs_lava = pytest.mark.skipif(not is_installed(), reason=f"Lava is not installed: {INSTALL}")


def squared_error(output: Tensor, target: Tensor) -> Tensor:
    return F.mse_loss(output, target, reduction="none").mean(1)


def samples(steps: int, batch: int = 1, period: int = 0, n_in: int = 6, n_out: int = 3) -> Data:
    """A smooth function of random inputs, in sequences of `period` steps."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(steps, batch, n_in, generator=generator, dtype=torch.float64)
    weight = torch.randn(n_in, n_out, generator=generator, dtype=torch.float64)
    counts = torch.ones(steps, batch, dtype=torch.float64)
    return Data(inputs, torch.tanh(inputs @ weight / 2), counts, period, squared_error)


def small_net(steps: int = 20, **changes: object) -> LavaNet:
    """A feed-forward network with ANP on two noisy passes."""
    rule = nl.rules.ANP(baseline="noisy")
    model = nl.networks.mlp(6, (8,), 3, activation="tanh")
    net = to_lava_net(model, rule, nl.load_profile("gaussian-node"), samples(steps), lr=1e-3)
    return type(net)(**{**vars(net), **changes})


def processes_of(place: Path) -> list[int]:
    """Processes whose command line names a file under `place`: those of a run in Lava, with all their children."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if str(place).encode() in command and b"noisylearn.backends.lava.child" in command and state != "Z":
                found.append(int(entry.name))
    return found


def none_left(place: Path, within_s: float = 10.0) -> bool:
    deadline = time.monotonic() + within_s
    while processes_of(place):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
