"""Place a pretrained residual network on phase-change memory, and teach its last layers new classes there.

A small ResNet (He et al., CVPR 2016: convolutions, batch normalisation, residual links) is trained in float on the
digits 0 to 4 of the packaged sample of MNIST. In evaluation mode its normalisation needs no update: it runs digitally,
and everything else on the devices of `pcm-hermes-1-device`, with their programming errors, read noise and converters.
Its readout then starts anew: the last block and the readout learn all ten digits on the chip, from two noisy passes.

It prints what activity-based perturbation (81.6 %), learned feedback (94.2 %) and backprop with the chip in the loop
(94.6 %) reach on the test images.

Run:  python examples/finetune_pretrained.py [--epochs 5] [--pretrain-epochs 5] [--samples 4000]
"""

import argparse
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import noisylearn as nl

PROFILE, BATCH = "pcm-hermes-1-device", 50
OLD = 5  # digits 0 to 4
CHANNELS = 12
Data = tuple[Tensor, Tensor]


class Block(nn.Module):
    """Two convolutions with normalisation, around which the input is led."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False), nn.BatchNorm2d(CHANNELS)
        self.conv2, self.norm2 = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False), nn.BatchNorm2d(CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width), the same size."""
        inner = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(x + self.norm2(self.conv2(inner)))


class ResNet(nn.Module):
    """Stem, two blocks, mean over the image, readout."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, CHANNELS, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(CHANNELS)
        self.block1, self.block2, self.readout = Block(), Block(), nn.Linear(CHANNELS * 9, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Images (batch, 784) -> (batch, 10)."""
        x = torch.relu(self.norm(self.stem(x.reshape(-1, 1, 28, 28))))
        x = F.avg_pool2d(self.block1(x), 2)
        x = F.avg_pool2d(self.block2(x), 2)
        y: Tensor = self.readout(x.flatten(1))
        return y


def accuracy(network: nn.Module | nl.Chip, data: Data) -> float:
    """Share of images that the network, or one noisy read of the chip, gets right."""
    with torch.no_grad():
        right = [(network(x).argmax(1) == y).float() for x, y in zip(*(part.split(250) for part in data), strict=True)]
    return float(torch.cat(right).mean())


def pretrained(data: Data, epochs: int) -> ResNet:
    """The network after training in float by backprop."""
    torch.manual_seed(0)
    model = ResNet()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(data[0])).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(model(data[0][rows]), data[1][rows]).backward()
            optimizer.step()
    return model.eval()


def prepared(model: ResNet) -> ResNet:
    """The network with a new readout; all else frozen but the convolutions of the last block."""
    torch.manual_seed(1)
    model.requires_grad_(False)
    model.readout = nn.Linear(CHANNELS * 9, 10)
    for convolution in (model.block2.conv1, model.block2.conv2):
        convolution.requires_grad_(True)
    return model


def finetuned(model: ResNet, rule: nl.rules.Rule, train: Data, epochs: int) -> nl.Chip:
    """The chip after its last layers have learned by a rule."""
    chip = nl.Chip(model, PROFILE, seed=0)
    chip.calibrate(train[0][:200])
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 3e-3)
    torch.manual_seed(2)
    for _ in range(epochs):
        for rows in torch.randperm(len(train[0])).split(BATCH):
            x, y = (part[rows] for part in train)
            rule.estimate(chip, x, lambda output, y=y: F.cross_entropy(output, y, reduction="none"))
            optimizer.step()
            chip.program()
    return chip


def run(epochs: int, pretrain_epochs: int, samples: int) -> Iterator[tuple[str, float]]:
    """What was done, and the accuracy then."""
    task = nl.tasks.load("mnist-sample")
    train, test = (task.train_inputs[:samples], task.train_targets[:samples]), (task.test_inputs, task.test_targets)
    old, old_test = ((x[y < OLD], y[y < OLD]) for x, y in (train, test))
    model = pretrained(old, pretrain_epochs)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    chip = nl.Chip(model.requires_grad_(False), PROFILE, seed=0)
    chip.calibrate(train[0][:200])
    yield "digits 0 to 4, in float", accuracy(model, old_test)
    yield "digits 0 to 4, placed", accuracy(chip, old_test)
    rules = {
        "all digits, readout new": None,
        "all digits, activity-based perturbation": nl.rules.ANP(baseline="noisy"),
        "all digits, learned feedback": nl.rules.LearnedFeedback(baseline="noisy"),
        "all digits, backprop in the loop": nl.rules.BP(forward="chip"),
    }
    for name, rule in rules.items():
        model = ResNet().eval()
        model.load_state_dict(weights)
        chip = finetuned(prepared(model), rule or nl.rules.BP(), train, epochs if rule else 0)
        yield name, accuracy(chip, test)


def main() -> None:
    """Print the accuracies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5, help="epochs of learning on the chip")
    parser.add_argument("--pretrain-epochs", type=int, default=5, help="epochs of training in float")
    parser.add_argument("--samples", type=int, default=4000, help="training images")
    options = parser.parse_args()
    for name, share in run(options.epochs, options.pretrain_epochs, options.samples):
        print(f"{name:45} {100 * share:5.1f} %", flush=True)


if __name__ == "__main__":
    main()
