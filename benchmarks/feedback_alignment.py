"""Cosine of estimates with the true gradient, against the number of passes and against depth, with plots.

python benchmarks/feedback_alignment.py [--out docs/images] [--steps 300] [--profile pcm-nandakumar-2019]

Networks train on the packaged MNIST sample; the true gradient is autograd's through the weights that the devices hold.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from timing import machine
from torch import Tensor, nn

import noisylearn as nl
from noisylearn import tasks

BATCH, WIDTH, DEPTHS = 100, 200, (1, 2, 3, 4, 6, 8)
MEASURED_EVERY = 10


@dataclass(frozen=True)
class Line:
    """One curve: a rule, and the profile that shows what it needs."""

    label: str
    rule: nl.rules.Rule
    profile: str
    style: str = "-"


def lines(profile: str) -> list[Line]:
    feedback = {route: nl.rules.LearnedFeedback(baseline="noisy", route=route) for route in ("direct", "layerwise")}
    return [
        Line("learned feedback, layerwise", feedback["layerwise"], profile),
        Line("learned feedback, direct", feedback["direct"], profile),
        Line("ANP with control variate", nl.rules.ANP(baseline="noisy", control_variate="error"), profile),
        Line("ANP, 8 draws", nl.rules.ANP(baseline="mean", draws=8), profile),
        Line("ANP", nl.rules.ANP(baseline="noisy"), profile),
        Line("INP, injected noise", nl.rules.INP(), "gaussian-node", "--"),
        Line("NP, injected noise", nl.rules.NP(), "gaussian-node", "--"),
    ]


def hidden_gradients(chip: nl.Chip) -> list[Tensor]:
    """Gradients of all hidden layers, first layer first."""
    return [layer.weight.grad.flatten().clone() for layer in list(chip.layers.values())[:-1]]


def alignments(line: Line, depth: int, n_steps: int) -> tuple[list[int], list[float], list[float]]:
    """Passes over a batch so far, cosine of all hidden layers together, and cosine of each at the end."""
    task = tasks.load("mnist-sample")
    model: nn.Module = nl.networks.mlp(784, [WIDTH] * depth, 10, seed=0, initialisation="glorot")
    chip, truth = nl.Chip(model, line.profile, seed=0), nl.rules.BP(forward="chip")
    optimizer, generator = torch.optim.Adam(model.parameters(), lr=1e-3), torch.Generator().manual_seed(0)
    passes, found, by_layer = [], [], []
    for step in range(n_steps):
        chosen = torch.randint(len(task.train_inputs), (BATCH,), generator=generator)
        x, t = task.train_inputs[chosen], task.train_targets[chosen]

        def loss_fn(y: Tensor, t: Tensor = t) -> Tensor:
            return F.cross_entropy(y, t, reduction="none")

        line.rule.estimate(chip, x, loss_fn)
        if step % MEASURED_EVERY == MEASURED_EVERY - 1:
            kept, estimate = [p.grad.clone() for p in model.parameters()], hidden_gradients(chip)
            truth.estimate(chip, x, loss_fn)
            exact = hidden_gradients(chip)
            passes.append((step + 1) * line.rule.forward_passes(depth + 1))
            found.append(float(F.cosine_similarity(torch.cat(estimate), torch.cat(exact), dim=0)))
            by_layer.append([float(F.cosine_similarity(a, b, dim=0)) for a, b in zip(estimate, exact, strict=True)])
            for p, gradient in zip(model.parameters(), kept, strict=True):
                p.grad = gradient
        optimizer.step()
        chip.program()
    last = torch.tensor(by_layer[len(by_layer) // 2 :]).mean(0)
    return passes, found, last.tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--profile", default="pcm-nandakumar-2019")
    arguments = parser.parse_args()
    print(machine(torch.device("cpu")))
    figure, (over_passes, over_depth) = plt.subplots(1, 2, figsize=(10, 4.5), constrained_layout=True)
    for line in lines(arguments.profile):
        passes, found, _ = alignments(line, 2, arguments.steps)
        over_passes.semilogx(passes, found, line.style, label=line.label)
        late = found[len(found) // 2 :]
        print(f"{line.label}: {sum(late) / len(late):.3f} (second half, two hidden layers)")
    for line in lines(arguments.profile)[:5]:
        first = [alignments(line, depth, arguments.steps)[2][0] for depth in DEPTHS]
        over_depth.plot(DEPTHS, first, f"o{line.style}", label=line.label)
        print(f"{line.label}, first layer: " + ", ".join(f"{d}: {c:.3f}" for d, c in zip(DEPTHS, first, strict=True)))
    over_passes.set(xlabel="passes over a batch", ylabel="cosine with the true gradient, hidden layers")
    over_depth.set(xlabel="hidden layers", ylabel="cosine with the true gradient, first layer")
    over_passes.set_title(f"784-{WIDTH}-{WIDTH}-10 on {arguments.profile}, batch {BATCH}", fontsize=10)
    over_depth.set_title(f"784-{WIDTH}-...-10, mean over the second half of {arguments.steps} steps", fontsize=10)
    for axes in (over_passes, over_depth):
        axes.set_ylim(-0.1, 1.05)
        axes.grid(alpha=0.3)
    figure.legend(*over_passes.get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=4)
    figure.savefig(arguments.out / "feedback-alignment.png", dpi=120)


if __name__ == "__main__":
    main()
