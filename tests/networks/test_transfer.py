"""The element-wise function after each weight layer, for many ways to write a network."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisylearn.networks import RNN, Spiking, convnet, decorrelate, mlp
from noisylearn.networks.layers import weight_layers
from noisylearn.networks.transfer import identity, slope, transfer_functions

A = torch.linspace(-2, 2, 9)


class Written(nn.Module):
    """Layers "first" and "second" with whatever is written between them."""

    def __init__(self, between: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.between = nn.Linear(3, 3), nn.Linear(3, 2), between

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.between(self.first(x), x))
        return y


def found(model: nn.Module, *x: Any) -> dict[str, Callable[[Tensor], Tensor]]:
    return transfer_functions(weight_layers(model), lambda: model(*x))


@pytest.mark.parametrize(
    ("between", "expected"),
    [
        (lambda a, x: F.relu(a), F.relu),
        (lambda a, x: a.tanh(), torch.tanh),
        (lambda a, x: F.leaky_relu(a, 0.3), lambda a: F.leaky_relu(a, 0.3)),
        (lambda a, x: 0.5 * F.gelu(a).clamp(max=1), lambda a: 0.5 * F.gelu(a).clamp(max=1)),
        (lambda a, x: F.relu(a) + x, F.relu),  # a connection that skips the layer joins after f
        (lambda a, x: F.relu(a + x), identity),
        (lambda a, x: F.softmax(a, 1), identity),
        (lambda a, x: F.layer_norm(a, (3,)), identity),
        (lambda a, x: a * torch.tensor([1.0, 2.0, 3.0]), identity),
        (lambda a, x: a * torch.sigmoid(a), identity),  # two uses of a: nothing is said of either
        (lambda a, x: torch.cat([F.relu(a)[:, :2], x[:, :1]], 1), F.relu),
    ],
)  # fmt: skip
def test_the_function_between_two_layers(
    between: Callable[[Tensor, Tensor], Tensor], expected: Callable[[Tensor], Tensor]
) -> None:
    torch.manual_seed(0)
    functions = found(Written(between), torch.randn(2, 3))
    torch.testing.assert_close(functions["first"](A), expected(A))
    assert functions["second"] is identity


@pytest.mark.parametrize("model", [mlp(4, (5, 5), 2), decorrelate(mlp(4, (5, 5), 2), 0.1), convnet((1, 16, 16), 2)])
def test_networks_of_the_package(model: nn.Module) -> None:
    x = torch.randn(2, 4) if isinstance(model[0], nn.Flatten) else torch.randn(2, 1, 16, 16)
    *hidden, readout = found(model, x).values()
    assert len(hidden) in (2, 4)
    for f in hidden:
        torch.testing.assert_close(f(A), F.leaky_relu(A))
    assert readout is identity


@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_recurrent_network(rate: float) -> None:
    functions = found(RNN(2, 4, 2, decorrelation_rate=rate), torch.randn(2, 2))
    torch.testing.assert_close(functions["hidden1"](A), torch.tanh(A))


def test_spiking_neurons_have_no_function_of_the_current_alone() -> None:
    assert set(found(Spiking(3, 4, 2), torch.randn(2, 3)).values()) == {identity}


def test_slope_is_the_derivative() -> None:
    torch.testing.assert_close(slope(torch.tanh, A), 1 - torch.tanh(A) ** 2)
    torch.testing.assert_close(slope(identity, A), torch.ones_like(A))


def test_the_probe_leaves_the_model_as_it_is() -> None:
    model = mlp(4, 5, 2)
    found(model, torch.randn(2, 4))
    assert not any(module._forward_hooks for module in model.modules())
