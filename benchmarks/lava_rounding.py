"""Float Lava beside torch, and torch beside itself from weights that differ in their last bits: what rounding makes.

    OMP_NUM_THREADS=1 python benchmarks/lava_rounding.py [--steps 1000] [--hidden 32]

Digits, neurons with a noise of 1e-3, the same draws in all runs; largest difference of any weight or bias after so
many updates. Where learning amplifies rounding, Lava differs from torch as much as torch does from itself; where Lava
computed something else, it would differ more.
"""

import argparse
import json
from typing import Any

import numpy as np
import torch

import noisylearn as nl
from noisylearn.backends.lava.export import to_lava_net, training_data
from noisylearn.backends.lava.launch import replay_here
from noisylearn.backends.lava.netfile import LavaNet

LMS = nl.rules.LearnedFeedback(route="direct", regression="lms", baseline="noisy")
CASES = ((LMS, 0.05, 10), (LMS, 0.05, 1), (LMS, 0.01, 1), (nl.rules.ANP(baseline="noisy"), 0.01, 1))
INFINITY = torch.tensor(torch.inf, dtype=torch.float64)
OTHERS = 3  # runs of torch from other last bits


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--hidden", default="32")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    hidden = [int(units) for units in options.hidden.split(",")]
    rows = [measured(rule, lr, batch, options.steps, hidden) for rule, lr, batch in CASES]
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'rule':8}{'lr':>6}{'batch':>7}{'loss':>16}{'Lava, torch':>14}   torch, torch")
    for row in rows:
        loss = f"{row['loss_first']:.2f} to {row['loss_last']:.2f}"
        others = ", ".join(f"{one:.1e}" for one in row["torch_torch"])
        print(f"{row['rule']:8}{row['lr']:6g}{row['batch']:7}{loss:>16}{row['lava_torch']:14.1e}   {others}")


def measured(rule: nl.rules.Rule, lr: float, batch: int, steps: int, hidden: list[int]) -> dict[str, Any]:
    """Differences after so many updates."""
    first, *others = (network(rule, lr, batch, steps, hidden, seed) for seed in range(1 + OTHERS))
    result, tenth = replay_here(first), max(steps // 10, 1)
    return {
        "rule": rule.name,
        "lr": lr,
        "batch": batch,
        "steps": steps,
        "hidden": hidden,
        "loss_first": float(result.losses[:tenth].mean()),
        "loss_last": float(result.losses[-tenth:].mean()),
        "lava_torch": max(result.difference(first).values()),
        "torch_torch": [difference(first, other) for other in others],
    }


def network(rule: nl.rules.Rule, lr: float, batch: int, steps: int, hidden: list[int], seed: int) -> LavaNet:
    """A network file's content; from seed 1 on the last bits of the weights are others."""
    model = nl.networks.mlp(64, hidden, 10).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters() if seed else ():
            up = torch.randint(2, parameter.shape, generator=generator, dtype=torch.bool)
            parameter.copy_(parameter.nextafter(torch.where(up, INFINITY, -INFINITY)))
    data = training_data(nl.tasks.load("digits"), steps, batch)
    return to_lava_net(model, rule, nl.load_profile("gaussian-node"), data, lr)


def difference(one: LavaNet, other: LavaNet) -> float:
    """Largest difference of what torch learned."""
    return max(float(np.abs(one.torch[key] - other.torch[key]).max()) for key in one.torch if key != "losses")


if __name__ == "__main__":
    main()
