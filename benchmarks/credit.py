"""Which gradient each credit assignment estimates, by Monte Carlo: mean estimates of a small network against autograd.

python benchmarks/credit.py [--draws 20000] [--units 20] [--steps 15]
"""

import argparse

import torch
import torch.nn.functional as F
from timing import machine
from torch import Tensor

import noisylearn as nl

BATCH = 2_000  # copies of one sequence: as many draws in one call
CREDITS = ("local", "trace", "reward-to-go", "sequence")


def squared_error(output: Tensor, target: Tensor) -> Tensor:
    return (output - target).square().sum(1)


def gradient(rule: nl.rules.Rule, units: int, inputs: Tensor, targets: Tensor, repeats: int) -> Tensor:
    """Mean estimate over all draws, flattened to one vector."""
    model = nl.networks.RNN(1, units, 1, seed=1).double()
    chip = nl.Chip(model, "gaussian-node", seed=0)
    total = torch.zeros(sum(p.numel() for p in model.parameters()), dtype=torch.float64)
    for _ in range(repeats):
        rule.run(chip, inputs, targets, squared_error)
        total += torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]) / repeats
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=20_000)
    parser.add_argument("--units", type=int, default=20)
    parser.add_argument("--steps", type=int, default=15)
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(arguments.steps, 1, 1, generator=generator, dtype=torch.float64)
    wanted = torch.randn(arguments.steps, 1, 1, generator=generator, dtype=torch.float64)
    exact = [gradient(nl.rules.BPTT(truncate=k), arguments.units, one, wanted, 1) for k in (1, None)]
    inputs, targets = one.expand(-1, BATCH, -1), wanted.expand(-1, BATCH, -1)
    repeats = max(1, arguments.draws // BATCH)
    print(machine(torch.device("cpu")))
    print(f"{arguments.units} units, {arguments.steps} steps, {repeats * BATCH} draws; cosine with tbptt1, with bptt")
    print(f"the two exact gradients: {float(F.cosine_similarity(*exact, dim=0)):.3f}")
    for kind in (nl.rules.NP, nl.rules.ANP):
        for credit in CREDITS:
            found = gradient(kind(credit=credit), arguments.units, inputs, targets, repeats)
            cosines = [float(F.cosine_similarity(found, g, dim=0)) for g in exact]
            print(f"{kind.name} {credit}: {cosines[0]:.3f}, {cosines[1]:.3f}")


if __name__ == "__main__":
    main()
