"""The decorrelating transform of a network: a learned x* = R x before every weight layer."""

import copy
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from noisylearn.ground.errors import UserError
from noisylearn.networks.layers import weight_layers


class Decorrelation(nn.Module):
    """x* = R x over the features, R starting as the identity.

    R <- R - rate (mean over samples of x* x*^T, diagonal set to zero) R

    before: name, beside this module's own, of the weight layer whose first input features these are.
    Features are the last dimension of (batch, ..., n), or the channels of (batch, n, height, width). R is a
    digital buffer, not a parameter: it learns without the loss, by `update`. [ANP] section 2.2, Ahmad et al. 2023.
    """

    matrix: Float[Tensor, "n_features n_features"]
    covariance_loss: Float[Tensor, ""]

    def __init__(self, n_features: int, rate: float, channels_first: bool = False, before: str = "layer") -> None:
        super().__init__()
        self.before = before
        self.rate = rate
        self.channels_first = channels_first
        self.register_buffer("matrix", torch.eye(n_features))
        self.register_buffer("covariance_loss", torch.tensor(torch.nan))

    def forward(self, x: Float[Tensor, " batch *features"]) -> Float[Tensor, " batch *features"]:
        if self.channels_first:
            return torch.einsum("ij,bj...->bi...", self.matrix, x)
        return x @ self.matrix.T

    @torch.no_grad()
    def update(self, decorrelated: Float[Tensor, " batch *features"]) -> None:
        """One step of R from outputs x* of `forward`; also records the decorrelation loss.

        Formed from whichever is smaller, the samples (mean x* (x*^T R) - diag(mean x*^2) R, of cost O(samples n^2)) or
        the covariance. The loss is the mean squared off-diagonal covariance of x*.
        """
        if self.channels_first:
            decorrelated = decorrelated.movedim(1, -1)
        x = decorrelated.reshape(-1, self.matrix.shape[0])
        n_samples, n_features = x.shape
        squares = x.square().mean(0)
        if 2 * n_samples < n_features * 3:
            gram = x @ x.T / n_samples  # has the squared norm of the covariance
            step = x @ self.matrix
            self.matrix.mul_(1 + self.rate * squares[:, None]).addmm_(x.T, step, alpha=-self.rate / n_samples)
            total = gram.square().sum() - squares.square().sum()
        else:
            covariance = (x / n_samples).T @ x
            covariance.fill_diagonal_(0)
            self.matrix.sub_(covariance @ self.matrix, alpha=self.rate)
            total = covariance.square().sum()
        self.covariance_loss.copy_(total / max(n_features * (n_features - 1), 1))  # buffers stay where they are


def decorrelate(model: nn.Module, rate: float) -> nn.Module:
    """A copy of the model with a decorrelation before every weight layer; all rules work on it unchanged.

    A Linear layer `name` becomes Sequential(decorrelation, layer), so that its weights are now `name.layer`. A Conv2d
    decorrelates its flattened patches and becomes Sequential(patches, decorrelation, 1 x 1 convolution).

    Raises UserError for a rate that is not a positive number, for a model that decorrelates already, and for layers
    other than Linear and ungrouped, zero-padded Conv2d.
    """
    if not 0 < rate < float("inf"):
        raise UserError(f"decorrelation rate {rate}: give a positive number, for example 1e-4")
    if there := decorrelations(model):
        raise UserError(f"the input of layer '{next(iter(there))}' is decorrelated already")
    model = copy.deepcopy(model)
    for name, layer in weight_layers(model).items():
        if not name:
            return _decorrelated(name, layer, rate)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, _decorrelated(name, layer, rate))
    return model


def decorrelations(model: nn.Module) -> dict[str, Decorrelation]:
    """Name of the weight layer -> the decorrelation in front of it."""
    return {
        ".".join([*name.split(".")[:-1], module.before]): module
        for name, module in model.named_modules()
        if isinstance(module, Decorrelation)
    }


def update_decorrelations(model: nn.Module, inputs: Mapping[str, Float[Tensor, "batch ..."]]) -> None:
    """One step of every decorrelation in the model from the inputs of the weight layers behind them."""
    for name, decorrelation in decorrelations(model).items():
        seen = inputs[name].detach()
        decorrelation.update(seen if decorrelation.channels_first else seen[..., : len(decorrelation.matrix)])


def _decorrelated(name: str, layer: nn.Module, rate: float) -> nn.Sequential:
    block = nn.Sequential()
    if isinstance(layer, nn.Linear):
        block.add_module("decorrelation", Decorrelation(layer.in_features, rate))
        block.add_module("layer", layer)
    elif isinstance(layer, nn.Conv2d) and layer.groups == 1 and _zero_padded(layer):
        block.add_module("patches", Patches(layer))
        block.add_module("decorrelation", Decorrelation(layer.weight[0].numel(), rate, channels_first=True))
        block.add_module("layer", _over_patches(layer))
    else:
        raise UserError(
            f"layer '{name}' ({type(layer).__name__}) cannot be decorrelated: only Linear and ungrouped, zero-padded "
            "Conv2d can"
        )
    return block.to(layer.weight.device, layer.weight.dtype)


def _zero_padded(layer: nn.Conv2d) -> bool:
    return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


class Patches(nn.Module):
    """The patches that a convolution sees, as channels: (b, c, h, w) -> (b, c k k, h', w')."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.kernel_size, self.dilation = layer.kernel_size, layer.dilation
        self.padding, self.stride = tuple(int(p) for p in layer.padding), layer.stride

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch patch_size out_height out_width"]:
        geometry = zip(x.shape[2:], self.kernel_size, self.padding, self.dilation, self.stride, strict=True)
        height, width = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, p, d, s in geometry)
        columns = nn.functional.unfold(x, self.kernel_size, self.dilation, self.padding, self.stride)
        return columns.unflatten(2, (height, width))


def _over_patches(layer: nn.Conv2d) -> nn.Conv2d:
    """The same weights as a 1 x 1 convolution over patches."""
    pointwise = nn.Conv2d(layer.weight[0].numel(), layer.out_channels, 1, bias=layer.bias is not None)
    pointwise.weight = nn.Parameter(layer.weight.detach().reshape(layer.out_channels, -1, 1, 1).clone())
    if layer.bias is not None:
        pointwise.bias = nn.Parameter(layer.bias.detach().clone())
    return pointwise
