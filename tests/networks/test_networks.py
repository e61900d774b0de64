"""Feed-forward networks: shapes of the published ConvNets, and how weights start."""

import math

import pytest
import torch
from torch import nn

from noisylearn import networks
from noisylearn.ground.errors import UserError


@pytest.mark.parametrize(
    ("shape", "name", "features", "hidden"),
    [
        ((3, 32, 32), "convnet", 64 * 5 * 5, [1024]),
        ((784,), "convnet", 64 * 4 * 4, [1024]),
        ((3, 64, 64), "convnet-64", 128 * 10 * 10, [512, 512]),
    ],
)
def test_published_convnets(shape, name, features, hidden):
    model = networks.convnet(shape, 10, name=name)
    linear = [layer for layer in model if isinstance(layer, nn.Linear)]
    assert [layer.in_features for layer in linear] == [features, *hidden]
    assert [layer.out_features for layer in linear] == [*hidden, 10]
    assert model(torch.zeros(2, *shape)).shape == (2, 10)


def test_the_smallest_image_that_a_convnet_takes():
    assert networks.convnet((1, 15, 15), 3)(torch.zeros(1, 1, 15, 15)).shape == (1, 3)
    with pytest.raises(UserError, match="takes larger images than 14 x 15"):
        networks.convnet((1, 14, 15), 3)


@pytest.mark.parametrize("shape", [(21,), (3, 32), (4, 3, 32, 32)])
def test_what_is_no_image(shape):
    with pytest.raises(UserError, match="takes images"):
        networks.convnet(shape, 3)


def test_layers_have_units():
    assert [tuple(p.shape) for p in networks.mlp(4, 3, 2).parameters()] == [(3, 4), (3,), (2, 3), (2,)]
    assert [tuple(p.shape) for p in networks.mlp(4, (), 2).parameters()] == [(2, 4), (2,)]
    for make in (networks.mlp, networks.RNN):
        with pytest.raises(UserError, match=r"hidden layers of \(3, 0\) units"):
            make(4, (3, 0), 2)


def test_glorot_weights_have_their_variance_and_no_bias():
    model = networks.mlp(300, (200,), 100, seed=1, initialisation="glorot")
    for layer, variance in ((model.hidden1, 2 / 500), (model.readout, 2 / 300)):
        assert float(layer.weight.detach().var()) == pytest.approx(variance, rel=0.03)
        assert float(layer.weight.detach().abs().max()) <= math.sqrt(3 * variance)
        assert not layer.bias.any()
    torchs = networks.mlp(300, (200,), 100, seed=1)
    assert float(torchs.hidden1.weight.detach().var()) == pytest.approx(1 / 900, rel=0.03)
    again = networks.mlp(300, (200,), 100, seed=1, initialisation="glorot")
    assert torch.equal(model.readout.weight, again.readout.weight)


def test_unknown_names_are_refused() -> None:
    for wrong in ({"activation": "gelu"}, {"initialisation": "kaiming"}):
        with pytest.raises(UserError, match="unknown"):
            networks.mlp(3, [4], 2, **wrong)
