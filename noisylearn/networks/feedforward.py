"""Feed-forward networks."""

import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import nn

from noisylearn.ground.errors import UserError, unknown_name

Activation = Literal["leaky-relu", "relu", "tanh", "identity"]
Initialisation = Literal["torch", "glorot"]
ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    "leaky-relu": nn.LeakyReLU,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "identity": nn.Identity,
}
ConvnetName = Literal["convnet", "convnet-64"]
# Convolutions (kernel, channels, stride) and hidden layers of [ANP] table 1: ConvNet, and ConvNet Tiny ImageNet.
CONVNETS: dict[ConvnetName, tuple[tuple[tuple[int, int, int], ...], tuple[int, ...]]] = {
    "convnet": (((3, 16, 2), (3, 32, 2), (3, 64, 1)), (1024,)),
    "convnet-64": (((5, 32, 2), (3, 64, 2), (5, 128, 1)), (512, 512)),
}


def mlp(
    n_in: int,
    hidden: int | Sequence[int],
    n_out: int,
    seed: int = 0,
    activation: Activation = "leaky-relu",
    initialisation: Initialisation = "torch",
) -> nn.Sequential:
    """Flatten, Linear layers hidden1, hidden2, ... each with the activation, and a Linear readout.

    hidden: units of one layer, or of several; () for the readout alone.
    Initialised from `seed`; the global random state is left alone. Raises UserError for an unknown name, and for
    layers without units.
    """
    kind, hidden = activation_type(activation), layer_sizes(hidden)
    sizes = [n_in, *hidden]
    with seeded(seed):
        modules: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        for i, (fan_in, fan_out) in enumerate(zip(sizes, hidden, strict=False), start=1):
            modules[f"hidden{i}"] = nn.Linear(fan_in, fan_out)
            modules[f"activation{i}"] = kind()
        modules["readout"] = nn.Linear(sizes[-1], n_out)
        return initialised(nn.Sequential(modules), initialisation)


def convnet(
    input_shape: tuple[int, ...],
    n_out: int,
    seed: int = 0,
    initialisation: Initialisation = "torch",
    name: ConvnetName = "convnet",
) -> nn.Sequential:
    """A ConvNet of [ANP] table 1, leaky ReLU: convolutions conv1, conv2, ..., hidden layers, readout.

    input_shape: (channels, height, width), or (pixels,) of flattened square images with one channel.
    Raises UserError for anything else, or images that are too small.
    """
    convolutions, hidden = CONVNETS[name]
    shape = _image_shape(input_shape)
    height, width = (_left(n, convolutions) for n in shape[1:])
    if min(height, width) < 1:
        raise UserError(f"network {name} takes larger images than {shape[1]} x {shape[2]} pixels")
    with seeded(seed):
        modules: OrderedDict[str, nn.Module] = OrderedDict()
        if len(input_shape) == 1:
            modules["unflatten"] = nn.Unflatten(1, shape)
        channels = shape[0]
        for i, (kernel, n_channels, stride) in enumerate(convolutions, start=1):
            modules[f"conv{i}"] = nn.Conv2d(channels, n_channels, kernel, stride)
            modules[f"activation{i}"] = nn.LeakyReLU()
            channels = n_channels
        modules["flatten"] = nn.Flatten()
        sizes = [channels * height * width, *hidden]
        for i, (fan_in, fan_out) in enumerate(zip(sizes, hidden, strict=False), start=1):
            modules["hidden" if len(hidden) == 1 else f"hidden{i}"] = nn.Linear(fan_in, fan_out)
            modules[f"activation{len(convolutions) + i}"] = nn.LeakyReLU()
        modules["readout"] = nn.Linear(sizes[-1], n_out)
        return initialised(nn.Sequential(modules), initialisation)


def _image_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) == 3:
        return shape
    side = math.isqrt(shape[0])
    if len(shape) != 1 or side**2 != shape[0]:
        raise UserError(f"a convnet takes images (channels, height, width), or square ones flattened, not {shape}")
    return 1, side, side


def _left(pixels: int, convolutions: Sequence[tuple[int, int, int]]) -> int:
    """Pixels along one side that convolutions without padding leave."""
    for kernel, _, stride in convolutions:
        pixels = (pixels - kernel) // stride + 1
    return pixels


def initialised(model: nn.Sequential, initialisation: Initialisation) -> nn.Sequential:
    """The model as torch left it, or with weights uniform of variance 2 / (fan in + fan out) and biases 0 ("glorot").

    Torch's own weights have variance 1 / (3 fan in): a third, where layers are as wide as one another. Source: Glorot
    and Bengio, AISTATS 2010.
    """
    if initialisation not in get_args(Initialisation):
        raise unknown_name("initialisation", initialisation, get_args(Initialisation))
    if initialisation == "glorot":
        for layer in model.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
    return model


def activation_type(name: Activation) -> type[nn.Module]:
    """The module of an element-wise function. Raises UserError for an unknown name."""
    if name not in ACTIVATIONS:
        raise unknown_name("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]


def hidden_sizes(n_hidden: int | Sequence[int]) -> list[int]:
    """Units of every hidden layer, of which a network in time has one at least. Raises UserError for none."""
    sizes = layer_sizes(n_hidden)
    if not sizes:
        raise UserError(f"n_hidden = {n_hidden}: give the units of at least one hidden layer")
    return sizes


def layer_sizes(units: int | Sequence[int]) -> list[int]:
    """Units of every hidden layer. Raises UserError for a layer without any."""
    sizes = [units] if isinstance(units, int) else list(units)
    if sizes and min(sizes) < 1:
        raise UserError(f"hidden layers of {units} units: give at least 1 to each")
    return sizes


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds torch's CPU generator inside a with block and puts its state back after it."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
