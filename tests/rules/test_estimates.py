"""What the estimates are on average: a mistake is noticed, and bias and alignment are those that theory says.

That every rule is unbiased where it declares so is among the checks of `support.rule_checks`. Its assertions may raise
a false alarm with probability 2e-4 (half by entries, Bonferroni; half by scale), and know the scale to better than 10 %
(WP 40 %), so that a wrong factor cannot hide in the noise.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from support.checks import (
    ONE_OVER_F,
    Array,
    flat,
    gradients,
    is_unbiased,
    machine,
    node_profile,
    sample_batch,
)
from support.rule_checks import BATCH, DEEP, SHALLOW, SIGMA, net, resolution, updates
from torch import Tensor, nn

from noisylearn import Chip
from noisylearn.chips.segments import as_segment
from noisylearn.rules import ANP, BP, INP, NP, WP, Rule
from noisylearn.rules.estimate import node_signals
from noisylearn.rules.observation import Observation

_cache: dict[Any, tuple[dict[str, Array], list[dict[str, Array]]]] = {}


def _updates(rule: Rule, sizes: tuple[int, ...]) -> tuple[dict[str, Array], list[dict[str, Array]]]:
    """The exact gradients, and independent estimates; once for all tests that look at them."""
    if (rule, sizes) not in _cache:
        _cache[rule, sizes] = updates(rule, net(*sizes), *sample_batch(BATCH, sizes[0], sizes[-1]))
    return _cache[rule, sizes]


def _samples(rule: Rule, sizes: tuple[int, ...], layer: str) -> tuple[Array, Array]:
    exact, found = _updates(rule, sizes)
    return np.stack([flat(f, layer) for f in found]), flat(exact, layer)


def _describe(rule: Rule) -> str:
    return rule.describe()


@pytest.mark.parametrize("factor", [2.0, 0.5, -1.0, SIGMA, 1 / SIGMA])
@pytest.mark.parametrize("rule", [NP(), INP(), WP(draws=80), NP(baseline="mean")], ids=_describe)
def test_a_wrong_factor_is_noticed_in_the_deep_network(rule: Rule, factor: float) -> None:
    for layer in ("hidden1", "hidden2", "readout"):
        samples, exact = _samples(rule, DEEP, layer)
        assert not is_unbiased(factor * samples, exact, resolution=resolution(rule)), f"layer {layer}"


@pytest.mark.parametrize("n_units", [4, 6, 10])
@pytest.mark.parametrize("rule", [ANP(), ANP(baseline="mean", draws=3), INP()], ids=_describe)
def test_a_wrong_number_of_units_is_noticed(rule: Rule, n_units: int) -> None:
    """N = 5 in this layer; 4 and 6 are the nearest mistakes."""
    samples, exact = _samples(rule, SHALLOW, "readout")
    assert not is_unbiased(samples * n_units / 5, exact, resolution=0.05)


def test_a_missing_bias_or_a_swapped_layer_is_noticed() -> None:
    exact, found = _updates(NP(), DEEP)
    no_bias = np.stack([np.concatenate([f["hidden2.weight"].ravel(), 0 * f["hidden2.bias"]]) for f in found])
    assert not is_unbiased(no_bias, flat(exact, "hidden2"), resolution=0.15)


def test_forgetting_to_divide_by_the_draws_is_noticed() -> None:
    samples, exact = _samples(NP(draws=3), DEEP, "hidden1")
    assert not is_unbiased(3 * samples, exact, resolution=0.15)


def test_anp_is_biased_in_a_deep_network_as_theory_says() -> None:
    """[ANP] appendix D: E[g] = N E[da da^T / ||da||^2] J^-T-like mixing. In a linear net da = J e is known.

    Expected update by an independent Monte Carlo in numpy over e (200,000 draws), compared with the rule's. Budget
    1e-4. The first hidden layer under "layer" scale is unbiased, the second is not.
    """
    model, (x, t) = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 4)).double(), sample_batch(1, 3, 4)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64))
    ((model(x) - t) ** 2).sum().backward()
    exact = gradients(model)
    W2 = model[1].weight.detach().numpy()
    g2 = exact["1.bias"]  # batch of one: the bias gradient is dL/da
    e = np.random.default_rng(0).standard_normal((200_000, 9))
    d1, d2 = e[:, :5], e[:, :5] @ W2.T + e[:, 5:]
    dL = d2 @ g2
    n = 9 * dL / ((d1**2).sum(1) + (d2**2).sum(1))
    expected = {
        "network": (n @ d1 / len(e), n @ d2 / len(e)),
        "layer": ((5 * dL / (d1**2).sum(1)) @ d1 / len(e), (4 * dL / (d2**2).sum(1)) @ d2 / len(e)),
    }
    expected["rnn-paper"] = expected["layer"][0] * 9 / 5, expected["layer"][1] * 9 / 4
    for scale, values in expected.items():
        chip, found = Chip(model, node_profile(SIGMA), seed=1), []
        for _ in range(40):
            ANP(scale=scale).estimate(chip, x.repeat(2000, 1), lambda y: ((y - t) ** 2).sum(1))
            found.append(np.concatenate([model[0].bias.grad.numpy(), model[1].bias.grad.numpy()]))
        mean, error = np.mean(found, 0), np.std(found, 0, ddof=1) / 40**0.5
        deviation = np.abs(mean - np.concatenate(values)) / (error * np.sqrt(1 + 80_000 / 200_000))
        assert deviation.max() < stats.t.ppf(1 - 1e-4 / 9 / 3 / 2, 39), scale
        if scale == "layer":
            np.testing.assert_allclose(mean[:5], exact["0.bias"], atol=6 * error[:5].max())
        assert np.abs(mean[5:] - g2).max() > 10 * error[5:].max(), "biased where da is correlated"


def test_anp_on_devices_scales_each_neuron_by_its_share_of_the_noise() -> None:
    """Device noise is not the same for every neuron: in one layer E[g_i] = g_i N E[v_i^2 / ||v||^2], not g_i.

    Rows of the weights differ in size by 8, so the noise does too: the factors run from 0.04 to 2.5. Noise by hand
    from the published fit, its expectation by a Monte Carlo of 200,000 draws. Budget 1e-4, Bonferroni over neurons.
    """
    layer, (x, t) = nn.Linear(20, 10).double(), sample_batch(1, 20, 10)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        layer.weight.copy_(torch.rand(10, 20, generator=generator, dtype=torch.float64) * 2 - 1)
        layer.weight.mul_(torch.linspace(0.25, 2, 10, dtype=torch.float64)[:, None])
        layer.bias.zero_()
    chip = Chip(layer, machine(ONE_OVER_F, devices=True), seed=0)
    exact = (2 * (x @ chip.weights()[""].T - t))[0].numpy()
    weight = layer.weight.detach().numpy()
    r = np.abs(weight) / np.abs(weight).max(1, keepdims=True)
    amplitude = np.abs(weight) * np.minimum(0.0088 / r**0.65, 0.2)
    deviation = np.sqrt(amplitude**2 @ x[0].numpy() ** 2)
    v = deviation * np.random.default_rng(0).standard_normal((200_000, 10))
    share = (10 * v**2 / (v**2).sum(1, keepdims=True)).mean(0)
    assert share.min() < 0.1
    assert share.max() > 2
    found = []
    for _ in range(40):
        ANP(baseline="noisy").estimate(chip, x.repeat(5000, 1), lambda y: ((y - t) ** 2).sum(1))
        found.append(layer.bias.grad.numpy().copy())
    error = np.std(found, 0, ddof=1) / 40**0.5
    deviations = (np.mean(found, 0) - share * exact) / (error + 0.003 * np.abs(share * exact))
    assert np.abs(deviations).max() < stats.t.ppf(1 - 1e-4 / 20, 39)


def _alignments(repeats: int) -> dict[str, Array]:
    """Cosine with backprop of the mean update over 30 draws: rule -> (repeats, layers); three leaky ReLU layers."""
    torch.manual_seed(0)
    sizes, modules = (20, 40, 40, 40, 10), []
    for a, b in pairwise(sizes):
        modules += [nn.Linear(a, b), nn.LeakyReLU()]
    model = nn.Sequential(*modules[:-1]).double()
    x, labels = torch.randn(50, 20, dtype=torch.float64), torch.randint(10, (50,))

    def loss_fn(y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(y, labels, reduction="none")

    BP().estimate(Chip(model), x, loss_fn)
    exact = [flat(gradients(model), f"{i}.weight") for i in (0, 2, 4, 6)]
    cosines: dict[str, Array] = {}
    for rule in (NP(draws=30), ANP(draws=30), INP(draws=30)):
        chip, rows = Chip(model, node_profile(SIGMA), seed=2), []
        for _ in range(repeats):
            rule.estimate(chip, x, loss_fn)
            found = [flat(gradients(model), f"{i}.weight") for i in (0, 2, 4, 6)]
            rows.append([f @ e / np.linalg.norm(f) / np.linalg.norm(e) for f, e in zip(found, exact, strict=True)])
        cosines[rule.name] = np.array(rows)
    return cosines


@pytest.mark.slow
def test_angles_to_backprop_come_in_the_published_order() -> None:
    """[ANP] figure 2: INP far best aligned, then ANP, closely followed by NP; layer 1 the same for NP and ANP.

    One-sided paired t tests over repeats for the hidden layers 2 and 3 and the readout; budget 1e-3 each.
    """
    found = _alignments(repeats=60)
    limit = stats.t.ppf(1 - 1e-3, 59)

    def t_value(better: str, worse: str, layer: int) -> float:
        difference = found[better][:, layer] - found[worse][:, layer]
        return float(difference.mean() / (difference.std(ddof=1) / np.sqrt(len(difference))))

    for layer in (1, 2, 3):
        assert t_value("inp", "anp", layer) > limit, f"layer {layer + 1}"
        assert t_value("inp", "np", layer) > limit, f"layer {layer + 1}"
        assert t_value("np", "anp", layer) < limit, f"ANP behind NP in layer {layer + 1}"
    deep = {name: values[:, 1:].mean(1) for name, values in found.items()}
    gain = deep["anp"] - deep["np"]
    assert gain.mean() > limit * gain.std(ddof=1) / len(gain) ** 0.5, "ANP must beat NP over the deep layers together"
    assert abs(t_value("anp", "np", 0)) < stats.t.ppf(1 - 5e-4, 59)


@pytest.mark.slow
def test_alignment_falls_with_one_over_the_root_of_the_width() -> None:
    """[STAB] eq. 6: cos(NP, SGD) ~ 1 / sqrt(width) of the layer. Fitted exponent, 99.9 % interval, holds -1/2.

    One hidden layer, linear; W2 ~ N(0, 1/width), so that ||g_1|| / ||g_2|| stays the same. One draw a sample.
    """
    widths, logs, weights = (16, 32, 64, 128, 256, 512), [], []
    for width in widths:
        cosines = []
        for seed in range(6):
            torch.manual_seed(seed)
            model = nn.Sequential(nn.Linear(10, width), nn.Linear(width, 10)).double()
            with torch.no_grad():
                model[1].weight.normal_(0, width**-0.5)
            x, t = torch.randn(1, 10, dtype=torch.float64), torch.randn(1, 10, dtype=torch.float64)
            exact = 2 * (model(x) - t).detach() @ model[1].weight.detach()
            chip, rule = Chip(model, node_profile(SIGMA), seed=seed), NP()
            seen = Observation(chip, as_segment(x.repeat(800, 1)), lambda y, t=t: ((y - t) ** 2).sum(1))
            plan = rule.plan(2)
            signals = node_signals(rule, plan, *seen.of(plan))["0"]
            cosines.append(nn.functional.cosine_similarity(signals, exact).numpy())
        values = np.concatenate(cosines)
        assert values.mean() <= 1 / np.sqrt(width)
        logs.append(np.log(values.mean()))
        weights.append(values.mean() / (values.std() / np.sqrt(len(values))))
    x, w = np.log(widths), np.array(weights) ** 2
    centre = (w * x).sum() / w.sum()
    slope = (w * (x - centre) * np.array(logs)).sum() / (w * (x - centre) ** 2).sum()
    error = 1 / np.sqrt((w * (x - centre) ** 2).sum())
    limit = stats.norm.ppf(1 - 5e-4)
    assert limit * error < 0.1
    assert abs(slope + 0.5) < limit * error, f"exponent {slope:.3f} +- {error:.3f}"
