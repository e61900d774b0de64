"""Every rule against its formula in the papers, recomputed in plain numpy from the recorded random numbers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.checks import (
    ONE_OVER_F,
    Array,
    gradients,
    machine,
    node_profile,
    sample_batch,
    tanh_net,
    weight_profile,
)
from torch import Tensor, nn
from torch.nn.utils import prune

from noisylearn import Chip, UserError
from noisylearn.ground.draws import RecordedDraws, ReplayedDraws
from noisylearn.networks.layers import parameter_gradients
from noisylearn.profiles import load_profile
from noisylearn.rules import ANP, BP, INP, NP, REINFORCE, WP, Delta, LearnedFeedback, PerLayer, Perturbation, Rule

SIGMA = 0.03
BATCH, SIZES = 5, (3, 4, 2)


def _loss(targets: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda output: ((output - targets) ** 2).sum(1) + 0.1 * output.sum(1) ** 3


def _np_loss(output: Array, target: Array) -> float:
    return float(((output - target) ** 2).sum() + 0.1 * output.sum() ** 3)


class Net:
    """The 3-4-2 tanh network in numpy, one sample at a time."""

    def __init__(self, model: nn.Sequential) -> None:
        self.W1, self.b1, self.W2, self.b2 = (p.detach().numpy().copy() for p in model.parameters())

    def forward(self, x: Array, e1: Any = 0.0, e2: Any = 0.0) -> tuple[Array, Array, Array]:
        """Hidden pre-activation, hidden output, output."""
        a1 = self.W1 @ x + self.b1 + e1
        h = np.tanh(a1)
        return a1, h, self.W2 @ h + self.b2 + e2


def _estimate(rule: Rule, profile: Any) -> tuple[nn.Sequential, RecordedDraws, float, Array, Array]:
    model, (x, t) = tanh_net(*SIZES), sample_batch(BATCH, SIZES[0], SIZES[-1])
    draws = RecordedDraws(11)
    loss = rule.estimate(Chip(model, profile, draws=draws), x, _loss(t))
    return model, draws, float(loss), x.numpy(), t.numpy()


def _node_noise(draws: RecordedDraws, layer: str) -> Array:
    """(passes with noise, batch, units)"""
    (z,) = draws.record[(layer, "gaussian-node", "pass", "read")]
    return SIGMA * z.double().numpy()


def _sum_up(net: Net, g1: Array, g2: Array, x: Array, h: Array) -> dict[str, Array]:
    """Batch means of g pre^T and g; every argument (batch, units)."""
    batch = len(x)
    return {
        "0.weight": sum(np.outer(g1[s], x[s]) for s in range(batch)) / batch,
        "0.bias": g1.mean(0),
        "2.weight": sum(np.outer(g2[s], h[s]) for s in range(batch)) / batch,
        "2.bias": g2.mean(0),
    }


def _expected(rule: Perturbation, net: Net, e1: Array, e2: Array, x: Array, t: Array) -> tuple[dict[str, Array], float]:
    """NP and ANP: the passes of one sample side by side, then the formula."""
    K, n1, n2 = rule.draws, e1.shape[2], e2.shape[2]
    g1, g2, pre, reference_losses = np.zeros((len(x), n1)), np.zeros((len(x), n2)), np.zeros((len(x), n1)), []
    for s in range(len(x)):
        noisy = [net.forward(x[s], e1[p, s], e2[p, s]) for p in range(len(e1))]
        losses = [_np_loss(y, t[s]) for _, _, y in noisy]
        if rule.baseline == "clean":
            assert len(e1) == K
            base, terms = net.forward(x[s]), range(K)
            L0 = _np_loss(base[2], t[s])
        elif rule.baseline == "noisy":
            assert len(e1) == K + 1
            base, terms, L0 = noisy[0], range(1, K + 1), losses[0]
        else:
            assert len(e1) == K + 1
            base = tuple(np.mean([n[i] for n in noisy], axis=0) for i in range(3))
            terms, L0 = range(K + 1), float(np.mean(losses))
        pre[s] = base[1]
        reference_losses.append(L0)
        differences = {p: (noisy[p][0] - base[0], noisy[p][2] - base[2]) for p in terms}
        pooled = [sum(np.sum(d[i] ** 2) for d in differences.values()) / K for i in (0, 1)]
        for p in terms:
            dL = losses[p] - L0
            if isinstance(rule, NP):
                g1[s] += dL * e1[p, s] / SIGMA**2 / K
                g2[s] += dL * e2[p, s] / SIGMA**2 / K
                continue
            d1, d2 = differences[p]
            q1, q2 = pooled if rule.baseline == "mean" else (np.sum(d1**2), np.sum(d2**2))
            scale = {
                "network": ((n1 + n2) / (q1 + q2), (n1 + n2) / (q1 + q2)),
                "layer": (n1 / q1, n2 / q2),
                "rnn-paper": ((n1 + n2) / q1, (n1 + n2) / q2),
            }[rule.scale]
            g1[s] += dL * scale[0] * d1 / K
            g2[s] += dL * scale[1] * d2 / K
    return _sum_up(net, g1, g2, x, pre), float(np.mean(reference_losses))


def _agree(model: nn.Module, expected: dict[str, Array]) -> None:
    found = gradients(model)
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6, atol=1e-9, err_msg=name)


NP_AND_ANP = [NP(baseline=b, draws=k) for b in ("clean", "noisy", "mean") for k in (1, 3)] + [
    ANP(baseline=b, draws=k, scale=s)
    for b in ("clean", "noisy", "mean")
    for k in (1, 3)
    for s in ("network", "layer", "rnn-paper")
]


@pytest.mark.parametrize("rule", NP_AND_ANP, ids=lambda rule: rule.describe())
def test_np_and_anp_follow_their_formulas(rule: Perturbation) -> None:
    model, draws, loss, x, t = _estimate(rule, node_profile(SIGMA))
    expected, reference_loss = _expected(
        rule, Net(tanh_net(*SIZES)), _node_noise(draws, "0"), _node_noise(draws, "2"), x, t
    )
    _agree(model, expected)
    assert loss == pytest.approx(reference_loss, rel=1e-12)


@pytest.mark.parametrize("baseline", ["clean", "noisy"])
@pytest.mark.parametrize("k", [1, 3])
def test_inp_perturbs_one_layer_at_a_time(baseline: Any, k: int) -> None:
    model, draws, loss, x, t = _estimate(INP(baseline=baseline, draws=k), node_profile(SIGMA))
    net, v1, v2 = Net(tanh_net(*SIZES)), _node_noise(draws, "0"), _node_noise(draws, "2")
    first = 1 if baseline == "noisy" else 0
    assert len(v1) == len(v2) == first + k
    g1, g2, pre, losses = np.zeros((BATCH, 4)), np.zeros((BATCH, 2)), np.zeros((BATCH, 4)), []
    for s in range(BATCH):
        base = net.forward(x[s], v1[0, s], v2[0, s]) if first else net.forward(x[s])
        L0, pre[s] = _np_loss(base[2], t[s]), base[1]
        losses.append(L0)
        for p in range(first, first + k):
            dL1 = _np_loss(net.forward(x[s], e1=v1[p, s])[2], t[s]) - L0
            dL2 = _np_loss(net.forward(x[s], e2=v2[p, s])[2], t[s]) - L0
            g1[s] += 4 * dL1 * v1[p, s] / (v1[p, s] @ v1[p, s]) / k
            g2[s] += 2 * dL2 * v2[p, s] / (v2[p, s] @ v2[p, s]) / k
    _agree(model, _sum_up(net, g1, g2, x, pre))
    assert loss == pytest.approx(np.mean(losses), rel=1e-12)


@pytest.mark.parametrize("baseline", ["clean", "noisy", "mean"])
@pytest.mark.parametrize("k", [1, 3])
def test_wp_uses_one_draw_of_the_weights_for_the_whole_batch(baseline: Any, k: int) -> None:
    model, draws, loss, x, t = _estimate(WP(baseline=baseline, draws=k), weight_profile(SIGMA))
    clean = [p.detach().numpy().copy() for p in tanh_net(*SIZES).parameters()]
    streams = [(layer, "gaussian-weight", key, "pass", "pass") for layer in "02" for key in ("weight", "bias")]
    xi = [[SIGMA * z.double().numpy() for z in draws.record[name][0]] for name in streams]
    n_noisy = k if baseline == "clean" else k + 1
    assert all(len(tensors) == n_noisy for tensors in xi)

    def batch_loss(W1: Array, b1: Array, W2: Array, b2: Array) -> float:
        outputs = [W2 @ np.tanh(W1 @ x[s] + b1) + b2 for s in range(BATCH)]
        return float(np.mean([_np_loss(outputs[s], t[s]) for s in range(BATCH)]))

    losses = [batch_loss(*(w + noise[p] for w, noise in zip(clean, xi, strict=True))) for p in range(n_noisy)]
    L0 = {"clean": batch_loss(*clean), "noisy": losses[0], "mean": float(np.mean(losses))}[baseline]
    terms = range(1, n_noisy) if baseline == "noisy" else range(n_noisy)
    names = ["0.weight", "0.bias", "2.weight", "2.bias"]
    _agree(
        model,
        {
            name: sum((losses[p] - L0) * noise[p] for p in terms) / SIGMA**2 / k
            for name, noise in zip(names, xi, strict=True)
        },
    )
    assert loss == pytest.approx(L0, rel=1e-12)


@pytest.mark.parametrize("baseline", ["clean", "noisy", "mean"])
@pytest.mark.parametrize("k", [1, 3])
def test_reinforce_perturbs_the_output_and_goes_back_by_the_chain_rule(baseline: Any, k: int) -> None:
    model, draws, _, x, t = _estimate(REINFORCE(baseline=baseline, draws=k), node_profile(SIGMA))
    assert ("0", "gaussian-node", "pass", "read") not in draws.record
    net, xi = Net(tanh_net(*SIZES)), _node_noise(draws, "2")
    g1, g2, pre = np.zeros((BATCH, 4)), np.zeros((BATCH, 2)), np.zeros((BATCH, 4))
    for s in range(BATCH):
        _, pre[s], y = net.forward(x[s])
        losses = [_np_loss(y + e[s], t[s]) for e in xi]
        L0 = {"clean": _np_loss(y, t[s]), "noisy": losses[0], "mean": np.mean(losses)}[baseline]
        for p in range(1 if baseline == "noisy" else 0, len(xi)):
            g2[s] += (losses[p] - L0) * xi[p, s] / SIGMA**2 / k
        g1[s] = (net.W2.T @ g2[s]) * (1 - pre[s] ** 2)
    _agree(model, _sum_up(net, g1, g2, x, pre))


def test_reinforce_with_hidden_noise_uses_that_of_the_output_alone() -> None:
    model, draws, _, x, t = _estimate(REINFORCE(hidden_noise=True), node_profile(SIGMA))
    net, hidden, output = Net(tanh_net(*SIZES)), _node_noise(draws, "0")[0], _node_noise(draws, "2")[0]
    g1, g2, pre = np.zeros((BATCH, 4)), np.zeros((BATCH, 2)), np.zeros((BATCH, 4))
    for s in range(BATCH):
        _, pre[s], y = net.forward(x[s])
        noisy = net.forward(x[s], hidden[s], output[s])[2]
        g2[s] = (_np_loss(noisy, t[s]) - _np_loss(y, t[s])) * output[s] / SIGMA**2
        g1[s] = (net.W2.T @ g2[s]) * (1 - pre[s] ** 2)
    _agree(model, _sum_up(net, g1, g2, x, pre))


def test_bp_is_the_gradient_by_finite_differences() -> None:
    model, _, _, x, t = _estimate(BP(), "ideal")
    for name, parameter in model.named_parameters():
        index = tuple(0 for _ in parameter.shape)
        losses = []
        for step in (1e-5, -1e-5):
            moved = tanh_net(*SIZES)
            with torch.no_grad():
                dict(moved.named_parameters())[name][index] += step
            net = Net(moved)
            losses.append(np.mean([_np_loss(net.forward(x[s])[2], t[s]) for s in range(BATCH)]))
        assert float(parameter.grad[index]) == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-6)


def test_replayed_draws_give_the_same_update_bit_for_bit() -> None:
    for rule, profile in ((ANP(draws=2), node_profile(SIGMA)), (WP(draws=2), weight_profile(SIGMA))):
        model, draws, loss, x, t = _estimate(rule, profile)
        again = tanh_net(*SIZES)
        replay = Chip(again, profile, draws=ReplayedDraws(draws.record))
        repeated = rule.estimate(replay, torch.from_numpy(x), _loss(torch.from_numpy(t)))
        assert float(repeated) == loss
        for name, value in gradients(model).items():
            assert np.array_equal(value, gradients(again)[name]), name


def test_one_draw_against_the_mean_of_two_passes_is_a_noisy_baseline_for_anp() -> None:
    """The reference input differs (mean of two passes instead of one), so only what sees the same input compares."""
    noisy, *_ = _estimate(ANP(baseline="noisy"), node_profile(SIGMA))
    mean, *_ = _estimate(ANP(baseline="mean"), node_profile(SIGMA))
    for name in ("0.weight", "0.bias", "2.bias"):
        np.testing.assert_allclose(gradients(noisy)[name], gradients(mean)[name], rtol=1e-6)


def test_anp_ignores_the_size_of_noise_that_a_linear_network_sees() -> None:
    """In a linear network with a linear loss dL, da scale together: sigma cancels from ANP, bar rounding."""
    found = []
    for sigma in (1e-3, 3e-2):
        model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).double()
        with torch.no_grad():
            for p in model.parameters():
                p.copy_(torch.linspace(-1, 1, p.numel()).reshape(p.shape))
        chip = Chip(model, node_profile(sigma), seed=3)
        ANP().estimate(chip, sample_batch(BATCH, 3, 2)[0], lambda y: y.sum(1))
        found.append(gradients(model))
    for name in found[0]:
        np.testing.assert_allclose(found[0][name], found[1][name], rtol=1e-8)


@pytest.mark.parametrize("baseline", ["noisy", "mean"])
@pytest.mark.parametrize("scale", ["network", "layer", "rnn-paper"])
def test_anp_gives_zero_and_no_nan_where_nothing_moves(scale: Any, baseline: Any) -> None:
    """Weights of zero have no read noise on devices: every norm that the rule divides by is zero."""
    model, (x, t) = tanh_net(*SIZES), sample_batch(BATCH, 3, 2)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    ANP(scale=scale, baseline=baseline).estimate(Chip(model, machine(ONE_OVER_F, devices=True)), x, _loss(t))
    assert len(gradients(model)) == 4
    assert all((value == 0).all() for value in gradients(model).values())


def test_delta_at_the_readout_is_exact_and_leaves_the_inner_rule_alone() -> None:
    mixed, _, loss, _, _ = _estimate(PerLayer(rules={"2": Delta(), "*": NP()}), node_profile(SIGMA))
    alone, *_ = _estimate(NP(), node_profile(SIGMA))
    exact, _, exact_loss, _, _ = _estimate(BP(), "ideal")
    for name in ("0.weight", "0.bias"):
        assert np.array_equal(gradients(mixed)[name], gradients(alone)[name])
    for name in ("2.weight", "2.bias"):
        np.testing.assert_allclose(gradients(mixed)[name], gradients(exact)[name], rtol=1e-9)
    assert loss == pytest.approx(exact_loss)


def test_delta_takes_the_error_of_the_noisy_reference_pass() -> None:
    rule = PerLayer(rules={"2": Delta(), "*": ANP(baseline="noisy")})
    model, draws, _, x, t = _estimate(rule, node_profile(SIGMA))
    net, e1, e2 = Net(tanh_net(*SIZES)), _node_noise(draws, "0"), _node_noise(draws, "2")
    total = np.zeros((2, 4))
    for s in range(BATCH):
        _, h, y = net.forward(x[s], e1[0, s], e2[0, s])
        total += np.outer(2 * (y - t[s]) + 0.3 * y.sum() ** 2, h) / BATCH
    np.testing.assert_allclose(gradients(model)["2.weight"], total, rtol=1e-6)


def test_per_layer_shares_passes_and_counts_them() -> None:
    assert PerLayer(rules={"2": ANP(), "*": NP()}).forward_passes(2) == 2
    assert PerLayer(rules={"2": INP(), "*": NP()}).forward_passes(2) == 2 + 3
    assert PerLayer(rules={"2": Delta(), "*": NP(draws=3)}).forward_passes(2) == 4
    model, _, _, _, _ = _estimate(PerLayer(rules={"0": ANP(), "2": NP()}), node_profile(SIGMA))
    anp, *_ = _estimate(ANP(), node_profile(SIGMA))
    np_, *_ = _estimate(NP(), node_profile(SIGMA))
    assert np.array_equal(gradients(model)["0.weight"], gradients(anp)["0.weight"])
    assert np.array_equal(gradients(model)["2.weight"], gradients(np_)["2.weight"])


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (PerLayer(rules={"readout": Delta(), "*": NP()}), "no layer is named readout; there are 0, 2"),
        (PerLayer(rules={"2": Delta()}), "no rule for layer '0'"),
        (PerLayer(rules={"0": Delta(), "*": NP()}), "knows the error of the readout alone"),
        (Delta(), "knows the error of the readout alone"),
    ],
)
def test_per_layer_refuses_a_map_that_does_not_fit(rule: Rule, message: str) -> None:
    with pytest.raises(UserError, match=message):
        _estimate(rule, node_profile(SIGMA))


@given(
    kind=st.sampled_from([nn.Conv1d, nn.Conv2d, nn.Conv3d]),
    groups=st.sampled_from([1, 2]),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    size=st.integers(5, 8),
    batch=st.integers(1, 3),
    mode=st.sampled_from(["zeros", "circular"]),
    bias=st.booleans(),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_convolution_update_is_the_gradient_of_the_surrogate(
    kind: Any,
    groups: int,
    kernel: int,
    stride: int,
    padding: int,
    dilation: int,
    size: int,
    batch: int,
    mode: str,
    bias: bool,
) -> None:
    """dW = mean over the batch of d/dW sum(a * g), by autograd through torch's own forward."""
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    layer = kind(2, 4, kernel, bias=bias, padding_mode=mode, **options).double()
    dimensions = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}[kind]
    x = torch.randn(batch, 2, *[size] * dimensions, dtype=torch.float64)
    activity = layer(x)
    signal = torch.randn_like(activity)
    expected = torch.autograd.grad((activity * signal).sum() / batch, list(layer.parameters()))
    found = parameter_gradients(layer, x, signal)
    assert len(found) == 1 + bias
    for value, (name, _) in zip(expected, layer.named_parameters(), strict=True):
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9)


def test_padding_same_and_unsquare_geometry() -> None:
    for layer in (
        nn.Conv2d(2, 3, 3, padding="same").double(),
        nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2).double(),
    ):
        x = torch.randn(2, layer.in_channels, 7, 6, dtype=torch.float64)
        activity = layer(x)
        signal = torch.randn_like(activity)
        expected = torch.autograd.grad((activity * signal).sum() / 2, list(layer.parameters()))
        found = parameter_gradients(layer, x, signal)
        torch.testing.assert_close(found["weight"], expected[0], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(found["bias"], expected[1], rtol=1e-9, atol=1e-9)


@given(batch=st.integers(1, 4), steps=st.lists(st.integers(1, 3), max_size=2), n=st.integers(1, 4), m=st.integers(1, 4))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_linear_update_sums_over_places_and_averages_over_samples(batch: int, steps: list[int], n: int, m: int) -> None:
    layer = nn.Linear(n, m).double()
    x = torch.randn(batch, *steps, n, dtype=torch.float64)
    activity = layer(x)
    signal = torch.randn_like(activity)
    expected = torch.autograd.grad((activity * signal).sum() / batch, list(layer.parameters()))
    found = parameter_gradients(layer, x, signal)
    torch.testing.assert_close(found["weight"], expected[0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found["bias"], expected[1], rtol=1e-9, atol=1e-9)


def test_node_perturbation_of_a_convolution_follows_the_formula() -> None:
    """Every output place is a perturbed unit: g = dL e / sigma^2 there, dW by autograd of the surrogate."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 2, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(8, 2)).double()
    x, draws = torch.randn(3, 1, 4, 4, dtype=torch.float64), RecordedDraws(2)

    def loss_fn(y: Tensor) -> Tensor:
        return (y**2).sum(1)

    NP().estimate(Chip(model, node_profile(SIGMA), draws=draws), x, loss_fn)
    e1, e2 = (SIGMA * draws.record[(n, "gaussian-node", "pass", "read")][0][0].double() for n in ("0", "3"))
    conv, readout = model[0], model[3]
    clean = conv(x)
    noisy = readout(torch.tanh(clean + e1).flatten(1)) + e2
    dL = loss_fn(noisy) - loss_fn(readout(torch.tanh(clean).flatten(1)))
    surrogate = (clean * (dL.reshape(-1, 1, 1, 1) * e1 / SIGMA**2).detach()).sum() / 3
    expected = torch.autograd.grad(surrogate, [conv.weight, conv.bias])
    torch.testing.assert_close(conv.weight.grad, expected[0], rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(conv.bias.grad, expected[1], rtol=1e-7, atol=1e-9)


def test_weights_that_are_computed_from_others_are_refused() -> None:
    model, (x, t) = tanh_net(*SIZES), sample_batch(BATCH, 3, 2)
    prune.l1_unstructured(model[0], "weight", amount=0.5)
    chip = Chip(model, node_profile(SIGMA))
    with pytest.raises(UserError, match=r"layer '0': its weight is computed .*prune\.remove does"):
        ANP().estimate(chip, x, _loss(t))


def test_what_each_packaged_profile_must_refuse() -> None:
    """Intrinsic device noise cannot be read out or switched off; without noise nothing can be learned by it."""
    pcm, ideal = load_profile("pcm-nandakumar-2019"), load_profile("ideal")
    node, weight = load_profile("gaussian-node"), load_profile("gaussian-weight")
    assert not ANP(baseline="noisy").missing(pcm)
    assert not ANP(baseline="mean").missing(pcm)
    for rule in (NP(baseline="noisy"), INP(), INP(baseline="noisy"), WP(baseline="noisy"), REINFORCE(), ANP()):
        assert rule.missing(pcm), rule.describe()
    assert all(kind().missing(ideal) for kind in (NP, INP, ANP, WP, REINFORCE))
    assert not any(kind().missing(node) for kind in (NP, INP, ANP, REINFORCE, BP))
    assert WP().missing(node)
    assert not WP().missing(weight)
    assert NP().missing(weight)
    assert all(not BP().missing(profile) for profile in (pcm, ideal, node, weight))


@pytest.mark.parametrize(
    "make",
    [
        lambda: NP(draws=0),
        lambda: ANP(draws=1.5),  # type: ignore[arg-type]
        lambda: ANP(draws="2"),  # type: ignore[arg-type]
        lambda: NP(baseline="none"),
        lambda: INP(baseline="mean"),
        lambda: ANP(scale="both"),
        lambda: BP(forward="elsewhere"),
    ],
)
def test_impossible_options_are_refused_in_one_line(make: Callable[[], Rule]) -> None:
    with pytest.raises(UserError) as refused:
        make()
    assert "\n" not in str(refused.value)


def test_reinforce_refuses_a_model_whose_last_defined_layer_is_not_its_output() -> None:
    class ReadoutFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.readout = nn.Linear(4, 2)
            self.hidden = nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.readout(torch.tanh(self.hidden(x)))

    with pytest.raises(UserError, match="last"):
        REINFORCE().estimate(Chip(ReadoutFirst(), node_profile(SIGMA)), torch.ones(2, 3), lambda y: y.sum(1))


def test_a_map_inside_a_map_is_refused() -> None:
    with pytest.raises(UserError, match="one map"):
        PerLayer(rules={"*": PerLayer(rules={"*": NP()})})


@pytest.mark.parametrize("rule", [BP(), LearnedFeedback(baseline="noisy")], ids=["bp", "lf"])
def test_a_loss_that_does_not_depend_on_the_output_is_one_line(rule):
    chip = Chip(nn.Linear(4, 2), "gaussian-node", seed=0)
    with pytest.raises(UserError, match="does not depend on the output"):
        rule.estimate(chip, torch.zeros(5, 4), lambda output: torch.zeros(len(output)))
