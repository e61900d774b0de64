"""Spiking networks in the integers of Loihi against float: accuracy, equal predictions, equal spikes.

A network is trained by backprop through time on latency-coded digits, then run in float (snntorch) and in integers (the
emulator, which equals Lava's processes bit for bit) on the test part.

python benchmarks/lif_quantisation.py [--epochs 3] [--neuron leaky] [--reset zero] [--hidden 100] [--seeds 3]
"""

import argparse

import numpy as np
import torch
import torch.nn.functional as F

import noisylearn as nl
from noisylearn.backends.loihi.lif import Counts, run_lif
from noisylearn.backends.loihi.lif_quantisation import quantise_spiking
from noisylearn.backends.netlist.spiking import from_spiking

PARTS = 10  # of the test part, to bound memory


def trained(options: argparse.Namespace, seed: int) -> tuple[nl.tasks.SequenceTask, nl.networks.Spiking]:
    task = nl.tasks.load("latency-mnist-sample")
    assert isinstance(task, nl.tasks.SequenceTask)
    model = nl.networks.Spiking(784, options.hidden, 10, options.neuron, threshold=0.3, reset=options.reset, seed=seed)
    chip, rule = nl.Chip(model, seed=seed), nl.rules.BPTT()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(options.epochs):
        order = torch.randperm(len(task.train_inputs), generator=torch.Generator().manual_seed(1000 * seed + epoch))
        for batch in order.split(100):
            steps = task.steps(task.train_inputs[batch], task.train_targets[batch])
            rule.run(chip, steps.inputs, steps.targets, task.loss_fn, optimizer, steps.counts)
            optimizer.step()
    return task, model


def followed(model: nl.networks.Spiking, inputs: torch.Tensor) -> tuple[list[np.ndarray], np.ndarray]:
    """Spikes of every layer and outputs, in float."""
    spikes: list[list[np.ndarray]] = [[] for _ in model.sizes]
    hooks = [
        model.get_submodule(f"neurons{i + 1}").register_forward_hook(
            lambda module, args, output, kept=kept: kept.append(output[0].numpy() > 0)
        )
        for i, kept in enumerate(spikes)
    ]
    state, outputs = None, []
    with torch.no_grad():
        for x in inputs:
            y, state = model(x, state)
            outputs.append(y.numpy())
    for hook in hooks:
        hook.remove()
    return [np.stack(kept) for kept in spikes], np.stack(outputs)


def predictions(outputs: np.ndarray) -> np.ndarray:
    """The class of the largest summed log-probability, as the task scores."""
    return F.log_softmax(torch.from_numpy(outputs).double(), dim=2).sum(0).argmax(1).numpy()


def compared(options: argparse.Namespace, seed: int) -> dict[str, float]:
    task, model = trained(options, seed)
    quantised = quantise_spiking(from_spiking(model), approximate_reset=True)
    right, same, spikes_same, rate, counts = [], [], [], [], Counts()
    for inputs, targets in zip(task.test_inputs.chunk(PARTS), task.test_targets.chunk(PARTS), strict=True):
        steps = task.steps(inputs, targets)
        exact, outputs = followed(model, steps.inputs)
        result = run_lif(quantised.network, quantised.padded(steps.inputs.numpy()))
        found, integer = quantised.answer(result)
        chosen = predictions(outputs), predictions(integer)
        right.append([(c == targets.numpy()).mean() for c in chosen])
        same.append((chosen[0] == chosen[1]).mean())
        spikes_same.append(np.mean([(a == b).mean() for a, b in zip(exact, found, strict=True)]))
        rate.append(np.mean([a.mean() for a in exact]))
        counts = counts + result.counts
    floats, integers = np.mean(right, axis=0)
    return {
        "float accuracy": floats, "integer accuracy": integers, "same prediction": float(np.mean(same)),
        "same spikes": float(np.mean(spikes_same)), "spike rate": float(np.mean(rate)),
        "current wraps": counts.current_wraps, "voltage saturations": counts.voltage_saturations,
        "accumulator overflows": counts.accumulator_overflows, "clipped": quantised.clipped,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--neuron", default="leaky")
    parser.add_argument("--reset", default="zero")
    parser.add_argument("--hidden", type=int, nargs="+", default=[100])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    results = [compared(options, seed) for seed in range(options.seeds)]
    print(f"{options.neuron}, reset {options.reset}, hidden {options.hidden}, {options.seeds} seeds")
    for key in results[0]:
        values = [found[key] for found in results]
        print(f"{key:24s} {np.mean(values):10.4f} ({min(values):.4f} to {max(values):.4f})")


if __name__ == "__main__":
    main()
