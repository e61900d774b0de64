"""Train a LeNet of one's own on a DataLoader of one's own, on phase-change memory.

The network (LeCun et al., Proc. IEEE 86, 2278, 1998: two convolutions, three linear layers) is a plain torch module,
the data a Dataset that shifts the images of the packaged sample of MNIST at random, in a DataLoader. `nl.fit` trains
one on the other with learned feedback, from two noisy passes, and then with backprop. Stopped by Ctrl-C, the same
command goes on where it was. A part of the training images is held out to stop early by; the test images are read once.

It prints the accuracy on the test images, read on the chip (learned feedback 94.5 %, backprop 95.6 %, one seed), and
what trivial predictors reach (ridge readout 81.0 %).

Run:  python examples/own_network.py [--epochs 15] [--samples 3000] [--out runs]
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import noisylearn as nl

PROFILE, HELD_OUT = "pcm-nandakumar-2019", 500


class Digits(Dataset[tuple[Tensor, Tensor]]):
    """Images (1, 28, 28) with their labels; shifted by up to two pixels, drawn anew whenever one is read."""

    def __init__(self, inputs: Tensor, targets: Tensor, shift: int = 0) -> None:
        self.inputs, self.targets, self.shift = inputs.reshape(-1, 1, 28, 28), targets, shift

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        dx, dy = torch.randint(-self.shift, self.shift + 1, (2,)).tolist()
        return torch.roll(self.inputs[index], (dy, dx), (1, 2)), self.targets[index]


class LeNet(nn.Module):
    """Two convolutions with pooling, three linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.linear1, self.linear2, self.readout = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Images (batch, 1, 28, 28) -> (batch, 10)."""
        x = F.avg_pool2d(torch.relu(self.conv1(x)), 2)
        x = F.avg_pool2d(torch.relu(self.conv2(x)), 2)
        x = torch.relu(self.linear1(x.flatten(1)))
        y: Tensor = self.readout(torch.relu(self.linear2(x)))
        return y


def run(epochs: int, samples: int, out: Path | None) -> Iterator[tuple[str, float]]:
    """What was trained, and the accuracy then."""
    task = nl.tasks.load("mnist-sample")
    x, y = task.train_inputs, task.train_targets
    train = DataLoader(Digits(x[: samples - HELD_OUT], y[: samples - HELD_OUT], shift=2), batch_size=50, shuffle=True)
    held_out, test = Digits(x[-HELD_OUT:], y[-HELD_OUT:]), Digits(task.test_inputs, task.test_targets)
    for rule in (nl.rules.LearnedFeedback(baseline="noisy"), nl.rules.BP(forward="chip")):
        torch.manual_seed(0)
        found = nl.fit(
            LeNet(), train, nn.CrossEntropyLoss, PROFILE, rule, held_out=held_out, lr=2e-3, epochs=epochs,
            name="shifted-digits", out=out, resume=True, callbacks=[nl.callbacks.EarlyStopping(patience=3)],
        )  # fmt: skip
        with torch.no_grad():
            right = found.chip(test.inputs).argmax(1) == test.targets
        yield type(rule).__name__, float(right.float().mean())
    yield from ((f"{name}, of the held-out part", score) for name, score in found.baselines.items())


def main() -> None:
    """Print the accuracies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=15, help="passes over the training images")
    parser.add_argument("--samples", type=int, default=3000, help="images to train on, of which 500 are held out")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder for the run files")
    options = parser.parse_args()
    for name, accuracy in run(options.epochs, options.samples, options.out):
        print(f"{name:40} {100 * accuracy:5.1f} %", flush=True)


if __name__ == "__main__":
    main()
