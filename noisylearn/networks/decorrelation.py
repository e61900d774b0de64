"""Decorrelation of the inputs of a network's layers: a learned transform x* = R x before every weight layer."""

import copy
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from noisylearn.ground.errors import UserError
from noisylearn.networks.layers import weight_layers


class Decorrelation(nn.Module):
    """A decorrelating transform over the features of a layer's input.

        x* = R x,   R <- R - rate C R,   C = mean over samples of x* x*^T, with its diagonal set to zero

    R, the attribute `matrix` (n_features, n_features), starts as the identity. It is a digital buffer, not a
    parameter: it learns by `update`, without the loss.

    Args:
        n_features: size of the feature dimension.
        rate: learning rate of R.
        channels_first: whether the features are the channels of (batch, n_features, height, width), rather than the
            last dimension of (batch, ..., n_features).
        before: name of the weight layer that x* enters as its first input features; a name beside this module's own.

    Source:
        [ANP] section 2.2; Ahmad et al. 2023.
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
        """Transform inputs: x* = R x.

        Args:
            x: inputs (batch, ..., n_features), or (batch, n_features, height, width) where channels come first.

        Returns:
            x*, in the shape of x.
        """
        if self.channels_first:
            return torch.einsum("ij,bj...->bi...", self.matrix, x)
        return x @ self.matrix.T

    @torch.no_grad()
    def update(self, decorrelated: Float[Tensor, " batch *features"]) -> None:
        """Take one step of R, and keep the decorrelation loss in `covariance_loss`.

            R <- R - rate C R,   covariance_loss = mean of the squared off-diagonal elements of C

        With few samples C is not formed: C R = mean x* (x*^T R) - diag(mean x*^2) R costs O(samples n_features^2).

        Args:
            decorrelated: outputs x* of `forward`.
        """
        x = self._samples(decorrelated)
        n_samples, n_features = x.shape
        squares = x.square().mean(0)
        if 2 * n_samples < n_features * 3:
            gram = x @ x.T / n_samples  # has the squared norm of the covariance
            step = x @ self.matrix
            self.matrix.mul_(1 + self.rate * squares[:, None]).addmm_(x.T, step, alpha=-self.rate / n_samples)
            total = gram.square().sum() - squares.square().sum()
            self._keep_loss(total)
        else:
            self.learn((x / n_samples).T @ x)

    @torch.no_grad()
    def learn(self, covariance: Float[Tensor, "n_features n_features"]) -> None:
        """Take one step of R, as `update`, from C itself.

        Args:
            covariance: mean over samples of x* x*^T; its diagonal is set to zero.
        """
        covariance.fill_diagonal_(0)
        self.matrix.sub_(covariance @ self.matrix, alpha=self.rate)
        self._keep_loss(covariance.square().sum())

    def products(self, decorrelated: Float[Tensor, " batch *features"]) -> tuple[Tensor, int]:
        """Sum over samples of x* x*^T, and the number of samples: sums over several places give `learn` its C.

        Args:
            decorrelated: outputs x* of `forward`.
        """
        x = self._samples(decorrelated)
        return x.T @ x, len(x)

    def _samples(self, decorrelated: Tensor) -> Tensor:
        """Outputs x* as (samples, n_features)."""
        if self.channels_first:
            decorrelated = decorrelated.movedim(1, -1)
        return decorrelated.reshape(-1, self.matrix.shape[0])

    def _keep_loss(self, total: Tensor) -> None:
        n_features = len(self.matrix)
        self.covariance_loss.copy_(total / max(n_features * (n_features - 1), 1))  # buffers stay where they are


def decorrelate(model: nn.Module, rate: float) -> nn.Module:
    """Copy a model and put a decorrelation before every weight layer; every rule works on the copy unchanged.

    A Linear layer `name` becomes Sequential(decorrelation, layer), so that its weights are now `name.layer`. A Conv2d
    becomes Sequential(patches, decorrelation, 1 x 1 convolution): its flattened patches are decorrelated.

    Args:
        model: any model that `weight_layers` accepts.
        rate: learning rate of the decorrelations.

    Returns:
        The copy; the model is left as it is.

    Raises:
        UserError: the rate is not a positive number, the model decorrelates already, or a layer is neither Linear nor
            an ungrouped, zero-padded Conv2d.

    Source:
        [ANP] section 2.2.
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
    """Decorrelations of a model, each under the name of the weight layer that it feeds."""
    return {
        ".".join([*name.split(".")[:-1], module.before]): module
        for name, module in model.named_modules()
        if isinstance(module, Decorrelation)
    }


def update_decorrelations(model: nn.Module, inputs: Mapping[str, Float[Tensor, "batch ..."]]) -> None:
    """Take one step of every decorrelation of a model.

    Args:
        model: the model, with decorrelations or without.
        inputs: weight layer's name -> its inputs, which begin with the outputs of the decorrelation before it.
    """
    for name, decorrelation in decorrelations(model).items():
        decorrelation.update(_fed(decorrelation, inputs[name]))


def products_of(model: nn.Module, inputs: Mapping[str, Float[Tensor, "batch ..."]]) -> dict[str, tuple[Tensor, int]]:
    """What the decorrelations of a model learn from, of some samples among more; see `Decorrelation.products`.

    Args:
        model: the model, with decorrelations or without.
        inputs: as for `update_decorrelations`.

    Returns:
        Weight layer's name -> sum over samples of x* x*^T, and their number.
    """
    found = decorrelations(model).items()
    return {name: decorrelation.products(_fed(decorrelation, inputs[name])) for name, decorrelation in found}


def _fed(decorrelation: Decorrelation, inputs: Tensor) -> Tensor:
    """The outputs of a decorrelation, among the inputs of the layer that it feeds."""
    seen = inputs.detach()
    return seen if decorrelation.channels_first else seen[..., : len(decorrelation.matrix)]


def _decorrelated(name: str, layer: nn.Module, rate: float) -> nn.Sequential:
    """The layer behind a decorrelation of its own."""
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
    """Whether a convolution pads with a stated number of zeros."""
    return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


class Patches(nn.Module):
    """The patches that a convolution sees, flattened into channels.

    Args:
        layer: the convolution, for its kernel size k, dilation, padding and stride.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.kernel_size, self.dilation = layer.kernel_size, layer.dilation
        self.padding, self.stride = tuple(int(p) for p in layer.padding), layer.stride

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch patch_size out_height out_width"]:
        """Cut images into patches.

        Args:
            x: images (batch, channels, height, width).

        Returns:
            Patches (batch, channels k k, out_height, out_width), one for every pixel of the convolution's output.
        """
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
