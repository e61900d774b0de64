"""Feed-forward networks."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn

from noisylearn.errors import UserError

Activation = Literal["leaky-relu", "relu", "tanh", "identity"]
ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    "leaky-relu": nn.LeakyReLU,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "identity": nn.Identity,
}


def mlp(
    n_in: int, hidden: Sequence[int], n_out: int, seed: int = 0, activation: Activation = "leaky-relu"
) -> nn.Sequential:
    """Flatten, Linear layers hidden1, hidden2, ... each with the activation, and a Linear readout.

    Initialised by torch's defaults from `seed`; the global random state is left alone.
    """
    sizes = [n_in, *hidden]
    with seeded(seed):
        modules: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        for i, (fan_in, fan_out) in enumerate(zip(sizes, hidden, strict=False), start=1):
            modules[f"hidden{i}"] = nn.Linear(fan_in, fan_out)
            modules[f"activation{i}"] = ACTIVATIONS[activation]()
        modules["readout"] = nn.Linear(sizes[-1], n_out)
        return nn.Sequential(modules)


def convnet(input_shape: tuple[int, int, int], n_out: int, seed: int = 0) -> nn.Sequential:
    """The ConvNet of [ANP] table 1: convolutions 3 x 3 of 16, 32 and 64 channels (stride 2, 2, 1), 1024 units, readout.

    input_shape: (channels, height, width).
    """
    with seeded(seed):
        channels = [input_shape[0], 16, 32, 64]
        modules: OrderedDict[str, nn.Module] = OrderedDict()
        for i, stride in enumerate((2, 2, 1)):
            modules[f"conv{i + 1}"] = nn.Conv2d(channels[i], channels[i + 1], 3, stride)
            modules[f"activation{i + 1}"] = nn.LeakyReLU()
        modules["flatten"] = nn.Flatten()
        features = nn.Sequential(modules)(torch.zeros(1, *input_shape)).shape[1]
        modules |= {"hidden": nn.Linear(features, 1024), "activation4": nn.LeakyReLU()}
        modules["readout"] = nn.Linear(1024, n_out)
        return nn.Sequential(modules)


def hidden_sizes(n_hidden: int | Sequence[int]) -> list[int]:
    """Units of every hidden layer, of which a network in time has one at least. Raises UserError for none."""
    sizes = [n_hidden] if isinstance(n_hidden, int) else list(n_hidden)
    if not sizes or min(sizes) < 1:
        raise UserError(f"n_hidden = {n_hidden}: give the units of at least one hidden layer")
    return sizes


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds torch's CPU generator inside a with block and puts its state back after it."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
