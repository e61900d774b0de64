"""Feed-forward networks: multilayer perceptrons and small convolutional networks."""

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
    """Build a multilayer perceptron: flatten, Linear layers hidden1, hidden2, ... with activations, Linear readout.

    Args:
        n_in: input features, all dimensions but the batch together.
        hidden: units of the hidden layer, or of several; () for the readout alone.
        n_out: outputs.
        seed: of the initial weights; torch's global generator is not used.
        activation: element-wise function after every hidden layer.
        initialisation: "torch" or "glorot", see `initialised`.

    Returns:
        A network (batch, ...) -> (batch, n_out).

    Raises:
        UserError: a name is unknown, or a layer has no units.
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
    """Build a convolutional network: convolutions conv1, conv2, ..., hidden layers, readout; leaky ReLU between them.

    Args:
        input_shape: (channels, height, width), or (pixels,) of flattened square images with one channel.
        n_out: outputs.
        seed: of the initial weights; torch's global generator is not used.
        initialisation: "torch" or "glorot", see `initialised`.
        name: which one of `CONVNETS`.

    Returns:
        A network (batch, *input_shape) -> (batch, n_out).

    Raises:
        UserError: the input shape is not that of images, or they are too small for the convolutions.

    Source:
        [ANP] table 1.
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
    """Channels, height and width of images that may be flattened."""
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
    """Initialise the weights of a model in place.

        "torch":   uniform of variance 1 / (3 fan_in), as torch made them
        "glorot":  uniform of variance 2 / (fan_in + fan_out), biases 0

    Between layers of equal width, torch's variance is a third of Glorot's.

    Args:
        model: fresh from torch's constructors.
        initialisation: "torch" or "glorot".

    Returns:
        The same model.

    Raises:
        UserError: the initialisation is unknown.

    Source:
        Glorot and Bengio, AISTATS 2010.
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
    """Module class of an element-wise function.

    Raises:
        UserError: the name is unknown.
    """
    if name not in ACTIVATIONS:
        raise unknown_name("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]


def hidden_sizes(n_hidden: int | Sequence[int]) -> list[int]:
    """Units of every hidden layer of a network that runs over time, which needs at least one.

    Args:
        n_hidden: units of one layer, or of several.

    Raises:
        UserError: there is no hidden layer, or one without units.
    """
    sizes = layer_sizes(n_hidden)
    if not sizes:
        raise UserError(f"n_hidden = {n_hidden}: give the units of at least one hidden layer")
    return sizes


def layer_sizes(units: int | Sequence[int]) -> list[int]:
    """Units of every hidden layer.

    Args:
        units: of one layer, or of several.

    Raises:
        UserError: a layer has no units.
    """
    sizes = [units] if isinstance(units, int) else list(units)
    if sizes and min(sizes) < 1:
        raise UserError(f"hidden layers of {units} units: give at least 1 to each")
    return sizes


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's CPU generator inside a with block, and put its state back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
