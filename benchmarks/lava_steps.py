"""Steps per second of a learning network in Lava beside a bare chain of Lava's own Dense processes, in one run.

    python benchmarks/lava_steps.py [--steps 2000] [--hidden 100,500]

The chain has as many processes and is as wide as the network's hidden layer, with the messages of a single pass; it
learns nothing, and sends one message per process where the network has to send two. A third contender is the network
itself with one hidden unit: the same processes and messages, and almost no arithmetic. Each contender runs in a process
of its own, one after the other, in several rounds.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F

import noisylearn as nl
from noisylearn.backends.lava.export import Data, to_lava_net
from noisylearn.backends.lava.launch import run_net
from noisylearn.backends.lava.netfile import write_net

CHAIN = """
import sys, time, numpy as np
from noisylearn.backends.lava.compat import load_lava
load_lava()
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.dense.process import Dense
from lava.proc.io.source import RingBuffer
n_processes, width, steps = map(int, sys.argv[1:])
source = RingBuffer(data=np.ones((width, 1)))
chain = [Dense(weights=np.full((width, width), 1e-3)) for _ in range(n_processes - 1)]
source.s_out.connect(chain[0].s_in)
for one, other in zip(chain, chain[1:]):
    one.a_out.connect(other.s_in)
config = Loihi2SimCfg(select_tag="floating_pt")
source.run(condition=RunSteps(num_steps=10), run_cfg=config)
start = time.perf_counter()
source.run(condition=RunSteps(num_steps=steps), run_cfg=config)
print(steps / (time.perf_counter() - start))
source.stop()
"""


def main() -> None:
    """Print one table of medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--hidden", default="100,500")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = [
        measured(name, units, options.steps, options.repeats)
        for units in map(int, options.hidden.split(","))
        for name in ("feed-forward", "recurrent", "recurrent, decorrelated")
    ]
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'network':26}{'hidden':>8}{'processes':>11}{'steps/s':>10}{'chain':>10}{'ratio':>8}{'of one unit':>13}")
    for row in rows:
        numbers = f"{row['steps_per_s']:10.0f}{row['chain_steps_per_s']:10.0f}{row['ratio']:8.2f}"
        print(f"{row['network']:26}{row['hidden']:8}{row['processes']:11}{numbers}{row['of_one_unit']:13.2f}")


def measured(name: str, hidden: int, steps: int, repeats: int) -> dict[str, object]:
    """Medians over runs that take turns, for ANP with two noisy passes."""
    with tempfile.TemporaryDirectory() as folder:
        path, tiny = Path(folder) / "net.h5", Path(folder) / "tiny.h5"
        write_net(path, network(name, hidden))
        write_net(tiny, network(name, 1))
        ours, chains, ones = [], [], []
        for _ in range(repeats):
            result = run_net(path, steps, learns=True)
            ours.append(result.steps_per_s)
            chains.append(chain(result.n_processes, hidden, steps))
            ones.append(run_net(tiny, steps, learns=True).steps_per_s)
    ratio = statistics.median(one / other for one, other in zip(ours, chains, strict=True))
    return {
        "network": name,
        "hidden": hidden,
        "processes": result.n_processes,
        "steps_per_s": statistics.median(ours),
        "chain_steps_per_s": statistics.median(chains),
        "ratio": ratio,
        "of_one_unit": statistics.median(one / other for one, other in zip(ours, ones, strict=True)),
    }


def network(name: str, hidden: int):
    """A network of one hidden layer with ten steps of data."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(10, 1, 8, generator=generator, dtype=torch.float64)
    targets = torch.randn(10, 1, 2, generator=generator, dtype=torch.float64)
    period = 0 if name == "feed-forward" else 10
    data = Data(inputs, targets, torch.ones(10, 1, dtype=torch.float64), period, loss)
    rule = nl.rules.ANP(baseline="noisy", update="sequence" if name == "feed-forward" else "online")
    if name == "feed-forward":
        model = nl.networks.mlp(8, (hidden,), 2, activation="tanh")
    else:
        model = nl.networks.RNN(8, hidden, 2, decorrelation_rate=1e-4 if "decorrelated" in name else 0.0)
    return to_lava_net(model, rule, nl.load_profile("gaussian-node"), data, lr=1e-4)


def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Squared error of every sample."""
    return F.mse_loss(output, target, reduction="none").mean(1)


def chain(n_processes: int, width: int, steps: int) -> float:
    """Steps per second of a chain of Dense."""
    command = [sys.executable, "-c", CHAIN, str(n_processes), str(width), str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


if __name__ == "__main__":
    main()
