"""Variance of the estimate against draws, for every baseline: mean ||estimate - gradient||^2 / ||gradient||^2.

    python benchmarks/baseline_variance.py

One linear layer 100-200 with squared error, batch 20, injected Gaussian noise; 100 estimates for each figure.
"""

import torch
from torch import Tensor

import noisylearn as nl


def main() -> None:
    torch.manual_seed(0)
    model = nl.networks.mlp(100, [], 200)
    chip = nl.Chip(model, "gaussian-node")
    inputs, targets = torch.randn(20, 100), torch.randn(20, 200)

    def gradient(rule: nl.rules.Rule) -> Tensor:
        rule.estimate(chip, inputs, lambda output: 0.5 * (output - targets).square().sum(1))
        return model.get_parameter("readout.weight").grad.clone()

    exact = gradient(nl.rules.BP())
    print("rule  draws  clean   noisy   mean")
    for kind in (nl.rules.ANP, nl.rules.NP):
        for draws in (1, 2, 4, 8, 32):
            figures = []
            for baseline in ("clean", "noisy", "mean"):
                rule = kind(baseline=baseline, draws=draws)
                errors = torch.stack([(gradient(rule) - exact).square().sum() for _ in range(100)])
                figures.append(float(errors.mean() / exact.square().sum()))
            print(f"{kind.name:5} {draws:5}" + "".join(f"{figure:8.1f}" for figure in figures))


if __name__ == "__main__":
    main()
