"""Decorrelation against its naive formula, its fixed point, and its place in a network."""

import copy
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.checks import Array, gradients, node_profile, sample_batch, tanh_net, weight_profile
from torch import Tensor, nn

from noisylearn import Chip, NeuronNorms, UserError, decorrelate, networks
from noisylearn.networks.decorrelation import Decorrelation, decorrelations, update_decorrelations
from noisylearn.networks.layers import weight_layers
from noisylearn.rules import ANP, BP, INP, NP, REINFORCE, WP, Delta, PerLayer, Rule

RATE = 0.05


def _naive_step(R: Array, x: Array, rate: float) -> Array:
    """R - rate mean_b(x* x*^T - diag(x*^2)) R, from inputs x (samples, n): one outer product a sample."""
    covariance = np.zeros_like(R)
    for row in x:
        star = R @ row
        covariance += (np.outer(star, star) - np.diag(star**2)) / len(x)
    return R - rate * covariance @ R


@given(samples=st.integers(1, 12), n=st.integers(1, 6), seed=st.integers(0, 99), places=st.integers(0, 3))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_update_is_the_naive_formula(samples: int, n: int, seed: int, places: int) -> None:
    rng = np.random.default_rng(seed)
    x, R = rng.standard_normal((samples, n)), np.eye(n) + 0.3 * rng.standard_normal((n, n))
    for channels_first in (False, True):
        module = Decorrelation(n, RATE, channels_first).double()
        module.matrix = torch.from_numpy(R.copy())
        rows = x
        if places:  # every place of a sample counts as one
            wide = rng.standard_normal((samples, places, n))
            rows, value = wide.reshape(-1, n), torch.from_numpy(wide)
            value = value.movedim(2, 1) if channels_first else value
        else:
            value = torch.from_numpy(x)
        star = module(value)
        module.update(star)
        np.testing.assert_allclose(module.matrix.numpy(), _naive_step(R, rows, RATE), rtol=1e-9, atol=1e-9)
        transformed = rows @ R.T
        covariance = transformed.T @ transformed / len(rows)
        below = covariance[np.tril_indices(n, -1)]
        loss = float(np.mean(below**2)) if n > 1 else 0.0
        assert float(module.covariance_loss) == pytest.approx(loss, rel=1e-7, abs=1e-12)


def test_converges_to_a_diagonal_covariance_on_correlated_gaussian_data() -> None:
    """x ~ N(0, C): after training R C R^T, with the true C, is diagonal to 2 % and none of its units has died."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((6, 6)) / 6**0.5 + 0.5
    C = mixing @ mixing.T
    module = Decorrelation(6, 0.05).double()
    before = C[np.tril_indices(6, -1)]
    losses = []
    for _ in range(1500):
        module.update(module(torch.from_numpy(rng.standard_normal((400, 6)) @ mixing.T)))
        losses.append(float(module.covariance_loss))
    R = module.matrix.numpy()
    after = R @ C @ R.T
    deviation = np.sqrt(np.diag(after))
    correlation = after / np.outer(deviation, deviation) - np.eye(6)
    assert np.abs(correlation).max() < 0.06
    assert np.abs(before).max() > 0.5
    assert deviation.min() > 0.05
    assert np.mean(losses[-100:]) < 1e-3 * losses[0]


def _conv_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)),
        nn.LeakyReLU(),
        nn.Conv2d(3, 4, 2, bias=False),
        nn.Flatten(),
        nn.Linear(4 * 2 * 3, 3),
    ).double()


@pytest.mark.parametrize("kind", ["linear", "conv", "nested", "single"])
def test_a_fresh_decorrelation_changes_nothing_and_leaves_the_original_alone(kind: str) -> None:
    model: nn.Module = {
        "linear": lambda: tanh_net(3, 4, 2),
        "conv": _conv_net,
        "nested": lambda: nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.Tanh()), nn.Linear(4, 2)).double(),
        "single": lambda: nn.Linear(3, 2).double(),
    }[kind]()
    x = torch.randn(5, 2, 5, 6, dtype=torch.float64) if kind == "conv" else sample_batch(5, 3, 2)[0]
    kept, output = copy.deepcopy(model.state_dict()), model(x)
    transformed = decorrelate(model, RATE)
    torch.testing.assert_close(transformed(x), output, rtol=1e-12, atol=1e-12)
    assert len(decorrelations(transformed)) == len(weight_layers(model)) == len(weight_layers(transformed))
    assert set(decorrelations(transformed)) == set(weight_layers(transformed))
    assert sum(p.numel() for p in transformed.parameters()) == sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        for p in transformed.parameters():
            p.add_(1.0)
    for module in decorrelations(transformed).values():
        module.matrix.mul_(2.0)
    assert not any(isinstance(m, Decorrelation) for m in model.modules())
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())


def test_convolution_decorrelates_its_patches() -> None:
    """With a matrix that is not the identity: against patches cut out by hand."""
    conv = nn.Conv2d(2, 3, 2, stride=2).double()
    block = decorrelate(conv, RATE)
    (module,) = decorrelations(block).values()
    module.matrix = torch.randn(8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = torch.randn(4, 2, 4, 4, dtype=torch.float64)
    output = block(x)
    for i in (0, 1):
        for j in (0, 1):
            patch = x[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].reshape(4, 8)
            expected = (patch @ module.matrix.T) @ conv.weight.detach().reshape(3, 8).T + conv.bias.detach()
            torch.testing.assert_close(output[:, :, i, j].detach(), expected)


def _loss(t: Tensor) -> Any:
    return lambda y: ((y - t) ** 2).sum(1)


def test_backpropagation_goes_through_the_decorrelation() -> None:
    model = decorrelate(tanh_net(3, 4, 2), RATE)
    (x, t), generator = sample_batch(6, 3, 2), torch.Generator().manual_seed(4)
    for module in decorrelations(model).values():
        module.matrix = torch.randn(module.matrix.shape, generator=generator, dtype=torch.float64)
    R1, R2 = (m.matrix.clone() for m in decorrelations(model).values())
    W1, b1, W2, b2 = (p.detach().clone().requires_grad_() for p in model.parameters())
    output = (torch.tanh((x @ R1.T) @ W1.T + b1) @ R2.T) @ W2.T + b2
    _loss(t)(output).mean().backward()
    BP().estimate(Chip(model), x, _loss(t))
    for p, q in zip(model.parameters(), (W1, b1, W2, b2), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


RULES: list[Rule] = [
    NP(),
    INP(),
    ANP(),
    ANP(baseline="noisy", draws=2),
    ANP(baseline="mean", draws=2),
    REINFORCE(),
    WP(),
    BP(),
    PerLayer(rules={"2": Delta(), "*": ANP()}),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.describe())
def test_every_rule_works_on_it_and_takes_one_step_of_every_matrix(rule: Rule) -> None:
    model, (x, t) = decorrelate(tanh_net(3, 4, 2), RATE), sample_batch(6, 3, 2)
    profile = weight_profile(1e-3) if isinstance(rule, WP) else node_profile(1e-3)
    rule.estimate(Chip(model, profile), x, _loss(t))
    assert set(gradients(model)) == {"0.layer.weight", "0.layer.bias", "2.layer.weight", "2.layer.bias"}
    first, second = (m.matrix.numpy() for m in decorrelations(model).values())
    np.testing.assert_allclose(first, _naive_step(np.eye(3), x.numpy(), RATE), rtol=1e-9)
    plain = tanh_net(3, 4, 2)
    hidden = torch.tanh(plain[0](x)).detach().numpy()
    np.testing.assert_allclose(second, _naive_step(np.eye(4), hidden, RATE), atol=2e-3 * RATE)


def test_every_rule_works_on_decorrelated_convolutions() -> None:
    x = torch.randn(3, 2, 5, 6, dtype=torch.float64)
    for rule in (NP(), ANP(), INP(), BP(), REINFORCE(), WP()):
        model = decorrelate(_conv_net(), 1e-3)
        profile = weight_profile(1e-3) if isinstance(rule, WP) else node_profile(1e-3)
        rule.estimate(Chip(model, profile), x, _loss(torch.ones(3, 3, dtype=torch.float64)))
        assert len(gradients(model)) == 5
        for module in decorrelations(model).values():
            assert not torch.equal(module.matrix, torch.eye(len(module.matrix), dtype=torch.float64))


def test_the_matrix_is_saved_with_the_model_and_is_no_parameter() -> None:
    model = decorrelate(tanh_net(3, 4, 2), RATE)
    update_decorrelations(model, {"0.layer": torch.ones(2, 3).double(), "2.layer": torch.ones(2, 4).double()})
    again = decorrelate(tanh_net(3, 4, 2), RATE)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again[0].decorrelation.matrix, model[0].decorrelation.matrix)
    assert not any("matrix" in name for name, _ in model.named_parameters())


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_refuses_a_rate_that_is_not_positive(rate: float) -> None:
    with pytest.raises(UserError, match="positive"):
        decorrelate(tanh_net(3, 4, 2), rate)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(2, 2, 2),
        nn.Conv2d(2, 2, 2, groups=2),
        nn.Conv2d(2, 2, 2, padding="same"),
        nn.Conv2d(2, 2, 2, padding=1, padding_mode="circular"),
    ],
)
def test_refuses_layers_it_cannot_decorrelate_by_name(layer: nn.Module) -> None:
    with pytest.raises(UserError, match="layer 'inner'"):
        decorrelate(nn.Sequential(OrderedDict(inner=layer)), RATE)


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_neuron_norms_are_held_and_directions_kept(kind: str) -> None:
    model = tanh_net(3, 4, 2) if kind == "linear" else _conv_net()
    before = {n: layer.weight.detach().clone().flatten(1) for n, layer in weight_layers(model).items()}
    norms = NeuronNorms(model)
    generator = torch.Generator().manual_seed(0)
    moved, biases = {}, {}
    with torch.no_grad():
        for name, layer in weight_layers(model).items():
            layer.weight.mul_(3).add_(torch.randn(layer.weight.shape, generator=generator, dtype=torch.float64))
            moved[name] = layer.weight.clone().flatten(1)
            biases[name] = None if layer.bias is None else layer.bias.add_(1.0).clone()
    norms.restore()
    for name, layer in weight_layers(model).items():
        after = layer.weight.detach().flatten(1)
        expected = moved[name].numpy() * (
            np.linalg.norm(before[name], axis=1) / np.linalg.norm(moved[name], axis=1)
        ).reshape(-1, 1)
        np.testing.assert_allclose(after.numpy(), expected, rtol=1e-12)
        assert biases[name] is None or torch.equal(layer.bias, biases[name]), "biases are left alone"


def test_neuron_norms_leave_a_neuron_without_weights_alone() -> None:
    model = tanh_net(3, 4, 2)
    norms = NeuronNorms(model)
    with torch.no_grad():
        model[0].weight[1].zero_()
    norms.restore()
    assert (model[0].weight[1] == 0).all()
    assert torch.isfinite(model[0].weight).all()


def test_a_decorrelated_model_is_not_decorrelated_again() -> None:
    for model in (decorrelate(tanh_net(3, 4, 2), 1e-3), networks.RNN(2, 4, 1, decorrelation_rate=1e-3)):
        with pytest.raises(UserError, match="decorrelated already"):
            decorrelate(model, 1e-3)


def test_a_sample_that_is_not_a_number_leaves_the_transform_alone() -> None:
    model = decorrelate(networks.mlp(3, [4], 2), 1e-2)
    chip, (x, y) = Chip(model, "gaussian-node"), (torch.randn(5, 3), torch.randn(5, 2))
    ANP().estimate(chip, x, lambda out: (out - y).square().sum(1))
    before = [module.matrix.clone() for module in decorrelations(model).values()]
    x[2, 1] = torch.nan
    with pytest.raises(UserError, match="the loss is not finite"):
        ANP().estimate(chip, x, lambda out: (out - y).square().sum(1))
    after = [module.matrix for module in decorrelations(model).values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_sequence_that_is_not_a_number_leaves_the_transform_alone() -> None:
    model = networks.RNN(2, 4, 1, decorrelation_rate=1e-2)
    x, optimizer = torch.randn(3, 2, 2), torch.optim.SGD(model.parameters(), lr=1e-3)
    x[0, 0, 0] = torch.nan
    rule = ANP(baseline="noisy", update="online")
    with pytest.raises(UserError, match="not finite"):
        rule.run(Chip(model, "gaussian-node"), x, x[..., :1], lambda out, t: (out - t).square().sum(1), optimizer)
    assert torch.equal(next(iter(decorrelations(model).values())).matrix, torch.eye(4))
