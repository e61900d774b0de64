"""Learned feedback against autograd, closed forms and theory.

Statistical bounds are stated with each test. Seeds are fixed; networks are float64 with noise of sigma = 1e-3.
"""

import copy
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support.checks import machine, node_profile
from torch import Tensor, nn

from noisylearn import Chip, HardwareProfile, OwnChip, UserError
from noisylearn.chips.segments import Segment
from noisylearn.networks import RNN, Spiking, mlp
from noisylearn.profiles import load_profile, parse_profile
from noisylearn.rules import ANP, BP, BPTT, INP, NP, LearnedFeedback, Learner
from noisylearn.rules.feedback import direct, filtering, layerwise
from noisylearn.rules.feedback.regression import Regression, followed, solved
from noisylearn.rules.feedback.window import observed
from noisylearn.rules.observation import Observation

pytestmark = pytest.mark.filterwarnings("ignore::noisylearn.chips.simulated.NoiseLevelWarning")

SIGMA = 1e-3
TIMING = "[specification.timing]\nCITEDt0_s = 20.0\npass_interval_us = 1.0\n"
generator = torch.Generator


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosines(chip: Any, rule: LearnedFeedback, x: Tensor, loss: Callable[[Tensor], Tensor]) -> dict[str, float]:
    """Of the estimate with the gradient by autograd, by layer."""
    rule.estimate(chip, x, loss)
    found = {n: layer.weight.grad.clone() for n, layer in chip.layers.items()}
    BP().estimate(chip, x, loss)
    return {n: float(nn.functional.cosine_similarity(found[n].flatten(), layer.weight.grad.flatten(), dim=0))
            for n, layer in chip.layers.items()}  # fmt: skip


def squared(t: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda y: (y - t).square().sum(1)


# ---- regressions ----


def test_least_squares_are_those_of_numpy() -> None:
    x, true = normals(200, 5), normals(3, 5, seed=1)
    y = x @ true.T + 0.1 * normals(200, 3, seed=2)
    state = Regression("least-squares", ridge=1e-12).updated({}, x, y)
    expected = np.linalg.lstsq(x.numpy(), y.numpy(), rcond=None)[0].T
    np.testing.assert_allclose(state["coefficients"], expected, rtol=1e-8)


def test_least_squares_forget() -> None:
    """Rows of k steps ago count with lambda^k; with few rows the ridge is tr C / N."""
    regression, state = Regression("least-squares", forgetting=0.7, ridge=0.1), {}
    rows = [(normals(2, 4, seed=s), normals(2, 3, seed=100 + s)) for s in range(3)]
    for x, y in rows:
        state = regression.updated(state, x, y)
    weights = [0.7**2, 0.7, 1.0]
    c = sum(w * x.T @ x for w, (x, _) in zip(weights, rows, strict=True))
    d = sum(w * y.T @ x for w, (x, y) in zip(weights, rows, strict=True))
    expected = d @ torch.linalg.inv(c + 0.1 * c.trace() / (2 * sum(weights)) * torch.eye(4))
    torch.testing.assert_close(state["coefficients"], expected)


def test_a_covariance_that_rounding_made_indefinite_is_solved_all_the_same() -> None:
    covariance = torch.diag(torch.tensor([1.0, 1.0, -1e-4]))
    found, n_determined = solved(covariance, torch.ones(2, 3), ridge=1e-6)
    assert 0 <= float(n_determined) <= 3
    assert bool(torch.isfinite(found).all())
    torch.testing.assert_close(found[:, :2], torch.ones(2, 2), rtol=1e-2, atol=1e-2)


def test_the_ridge_is_the_best_one() -> None:
    """Of inputs of very unequal size and much noise: no fixed ridge comes closer by 10 %."""
    x = normals(300, 20) * torch.logspace(0, -2, 20, dtype=torch.float64)
    true, noise = normals(200, 20, seed=1), normals(300, 200, seed=2)
    y, state = x @ true.T + noise, {}
    for part_x, part_y in zip(x.split(100), y.split(100), strict=True):
        state = Regression("least-squares", forgetting=1.0).updated(state, part_x, part_y)
    error = (state["coefficients"] - true).norm()
    others = [(solved(x.T @ x, y.T @ x, float(ridge))[0] - true).norm() for ridge in np.logspace(-3, 3, 25)]
    assert error < 1.1 * min(others)
    assert error < 0.7 * min(others[0], others[-1])


def test_as_many_coefficients_are_determined_as_eigenvalues_exceed_the_ridge() -> None:
    eigenvalues = torch.tensor([0.0, 0.1, 1.0, 50.0], dtype=torch.float64)
    axes = torch.linalg.qr(normals(4, 4)).Q
    covariance = axes @ eigenvalues.diag() @ axes.T
    _, n_determined = solved(covariance, normals(2, 4), ridge=0.5)
    torch.testing.assert_close(n_determined, (eigenvalues / (eigenvalues + 0.5)).sum())


@pytest.mark.parametrize("spread", [0, 2], ids=["alike", "unequal"])
@pytest.mark.parametrize("share", [0.01, 0.1, 1.0])
def test_the_ridge_is_the_noise_over_the_size_of_the_coefficients(share: float, spread: int) -> None:
    """sigma^2 / var(w), within a factor of 1.4, from a hundredth of the mean eigenvalue of the inputs to all of it.

    500 coefficients tell their size to some 12 % (two standard deviations), 1.4 times more with as much noise in them.
    """
    n_steps, rows, n_in, size = 20, 100, 50, 0.1
    scales = torch.logspace(0, -spread, n_in, dtype=torch.float64)
    expected = share * n_steps * rows * float(scales.square().mean())
    true, state = size * normals(10, n_in), {}
    for s in range(n_steps):
        x = normals(rows, n_in, seed=100 + s) * scales
        y = x @ true.T + size * expected**0.5 * normals(rows, 10, seed=200 + s)
        state = Regression("least-squares", forgetting=1.0).updated(state, x, y)
    found, rest = state["coefficients"], state["cross"] - state["coefficients"] @ state["covariance"]
    ridge = float((rest * found).sum() / found.square().sum())  # B (C + ridge I) = D
    assert expected / 1.4 < ridge < 1.4 * expected


def test_lms_step_and_limit() -> None:
    true, regression, state = normals(3, 5, seed=1), Regression("lms"), {}
    for s in range(300):
        x = normals(50, 5, seed=s)
        before = state.get("coefficients", torch.zeros(3, 5, dtype=torch.float64))
        rate = 1.5 if s < 100 else 1.0
        state = regression.updated(state, x, x @ true.T)
        expected = before + rate * (x @ true.T - x @ before.T).T @ x / x.square().sum()
        torch.testing.assert_close(state["coefficients"], expected)
    torch.testing.assert_close(state["coefficients"], true, rtol=1e-6, atol=1e-6)


def test_least_squares_of_what_known_changes_leave() -> None:
    """B moves by known steps while it is learned from few rows a time: all rows together tell the B of the end."""
    true, regression, state = normals(3, 5, seed=1), Regression("least-squares", forgetting=1.0, ridge=1e-12), {}
    sent = normals(3, 5, seed=2)
    rows = []
    for s in range(6):
        x = normals(2, 5, seed=10 + s)
        y = x @ true.T + 0.1 * normals(2, 3, seed=20 + s)
        rows.append((x, y - x @ true.T))
        state = regression.updated(state, x, y, sent)
        step = normals(3, 5, seed=30 + s)
        true, sent = true + step, sent + step
    noise = np.linalg.lstsq(torch.cat([x for x, _ in rows]), torch.cat([e for _, e in rows]), rcond=None)[0].T
    np.testing.assert_allclose(followed(state, sent)["coefficients"], true + noise, rtol=1e-6)


def test_lms_goes_on_from_what_known_changes_made() -> None:
    true, regression, state, sent = normals(3, 5, seed=1), Regression("lms"), {}, torch.zeros(3, 5).double()
    for s in range(300):
        x = normals(50, 5, seed=s)
        state = regression.updated(state, x, x @ true.T, sent)
        step = normals(3, 5, seed=1000 + s)
        true, sent = true + step, sent + step
    torch.testing.assert_close(followed(state, sent)["coefficients"], true, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("method", ["least-squares", "lms"])
def test_sums_over_parts_teach_what_all_rows_teach(method: Any) -> None:
    """With changes that are followed: after every step the coefficients are those of one place with all rows."""
    regression, true, together, apart = Regression(method), normals(3, 5), {}, {}
    for s in range(6):
        x, sent = normals(40, 5, seed=10 + s), normals(3, 5, seed=50 + s)
        y = x @ true.T + 0.1 * normals(40, 3, seed=90 + s)
        sums = [regression.sums(apart, x[rows], y[rows], sent) for rows in (slice(0, 7), slice(7, 40))]
        apart = regression.taught(apart, {key: sums[0][key] + sums[1][key] for key in sums[0]}, sent)
        together = regression.updated(together, x, y, sent)
        torch.testing.assert_close(apart["coefficients"], together["coefficients"])


def test_kalman_filter_is_the_posterior_of_independent_coefficients() -> None:
    """After known changes with errors: mean and variance of a Gaussian, by the inverse of its precision."""
    regression, x, y, sent = Regression(errors_stay=True), normals(20, 5), normals(20, 3, seed=1), normals(3, 5, seed=2)
    first = regression.updated({}, x, y, sent)
    change = torch.zeros(3, 5).double()
    change[0, 1], change[2, 3] = 0.3, -0.2
    x, y = normals(7, 5, seed=3), normals(7, 3, seed=4)
    second = regression.updated(first, x, y, sent + change)
    size = change.abs() + filtering.NOT_SENT * change.abs().mean()
    error = size.square().sum() / size.sum() * size  # at first as large as the change
    prior = torch.minimum(first["variance"], first["coefficients"].square().mean()) + error
    noise = first["noise"] / first["n_noise"]
    for n in range(3):
        posterior = torch.linalg.inv(torch.diag(1 / prior[n]) + x.T @ x / noise)
        mean = posterior @ ((first["coefficients"] + change)[n] / prior[n] + x.T @ y[:, n] / noise)
        torch.testing.assert_close(second["coefficients"][n], mean)
        torch.testing.assert_close(second["variance"][n], posterior.diagonal())


@pytest.mark.parametrize(("error", "noise"), [(0.5, 0.1), (0.05, 0.3)])
def test_kalman_filter_finds_the_errors_of_changes_and_the_noise(error: float, noise: float) -> None:
    """Each change c of a few coefficients comes with an error of variance `error` |c|: both variances within 40 %."""
    true, sent, state, missed = normals(10, 20, seed=1), torch.zeros(10, 20).double(), {}, []
    for step in range(300):
        change = 0.2 * normals(10, 20, seed=3 * step).sign() * (normals(10, 20, seed=3 * step + 1) > 1.5)
        sent, true = sent + change, true + change + normals(10, 20, seed=5000 + step) * (error * change.abs()).sqrt()
        x = normals(20, 20, seed=7000 + step)
        y = x @ true.T + noise * normals(20, 10, seed=9000 + step)
        state = Regression(errors_stay=True).updated(state, x, y, sent)
        missed.append(float((state["coefficients"] - true).norm() / true.norm()))
    assert max(missed[100:]) < 0.2
    assert float(state["noise"] / state["n_noise"]) == pytest.approx(noise**2, rel=0.4)
    assert float(state["errors"] / state["changed"]) == pytest.approx(error, rel=0.4)


def test_kalman_filter_forgets_where_no_changes_are_known() -> None:
    state, before, after = {}, normals(3, 5, seed=1), normals(3, 5, seed=2)
    for step in range(400):
        x = normals(10, 5, seed=step)
        y = x @ (before if step < 100 else after).T + 0.01 * normals(10, 3, seed=1000 + step)
        state = Regression(errors_stay=True, forgetting=0.9).updated(state, x, y)
    torch.testing.assert_close(state["coefficients"], after, rtol=0.02, atol=0.02)


def test_a_kalman_filter_is_for_errors_that_stay() -> None:
    assert [Regression(errors_stay=stays).method_of(n) for stays in (False, True) for n in (1024, 1025)] == [
        "least-squares", "lms", "kalman", "lms",
    ]  # fmt: skip
    pulsed, programmed = load_profile("reram-hfo2-gong-2022"), load_profile("pcm-nandakumar-2019")
    assert [layerwise.suited(Regression(), p).method_of(9) for p in (pulsed, programmed)] == ["kalman", "least-squares"]
    assert layerwise.suited(Regression("lms"), pulsed).method_of(9) == "lms"


@pytest.mark.parametrize("regression", [Regression("least-squares"), Regression("lms"), Regression(errors_stay=True)])
def test_regression_changes_no_state_it_was_given_and_bears_silence(regression: Regression) -> None:
    first = regression.updated({}, normals(9, 4), normals(9, 2))
    kept = {key: value.clone() for key, value in first.items()}
    regression.updated(first, normals(9, 4, seed=1), normals(9, 2, seed=1))
    assert all(torch.equal(first[key], value) for key, value in kept.items())
    silent = regression.updated({}, torch.zeros(9, 4), torch.zeros(9, 2))
    assert torch.equal(silent["coefficients"], torch.zeros(2, 4))


# ---- single samples ----


def linear_net() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        OrderedDict(hidden1=nn.Linear(4, 6), hidden2=nn.Linear(6, 5), readout=nn.Linear(5, 3))
    ).double()


@pytest.mark.parametrize("baseline", ["clean", "noisy", "mean"])
def test_linear_network_feedback_is_the_product_of_the_weights(baseline: Any) -> None:
    """B_l = W_K ... W_{l+1}; with 20 x 2000 rows the standard error is 2 to 5 % of the norm."""
    model = linear_net()
    rule = LearnedFeedback(baseline=baseline, route="direct", ridge=1e-6, forgetting=1.0)
    chip, (x, t) = Chip(model, node_profile(SIGMA)), (normals(2000, 4), normals(2000, 3, seed=1))
    for _ in range(20):
        rule.estimate(chip, x, squared(t))
    feedback = Learner(rule, chip).state["feedback"]
    expected = {"hidden1": model.readout.weight @ model.hidden2.weight, "hidden2": model.readout.weight}
    assert set(feedback) == set(expected)
    for name, product in expected.items():
        assert (feedback[name]["coefficients"] - product).norm() < 0.1 * product.norm()
    assert all(cosine > 0.99 for cosine in cosines(chip, rule, x, squared(t)).values())


@pytest.mark.parametrize("route", ["direct", "layerwise"])
def test_scale_and_sign_are_those_of_the_gradient(route: Any) -> None:
    model, rule = linear_net(), LearnedFeedback(route=route, ridge=1e-6, forgetting=1.0)
    chip, (x, t) = Chip(model, node_profile(SIGMA)), (normals(2000, 4), normals(2000, 3, seed=1))
    for _ in range(200):
        rule.estimate(chip, x, squared(t))
    found = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    squared(t)(model(x)).mean().backward()
    for name, p in model.named_parameters():
        assert (found[name] - p.grad).norm() < 0.06 * p.grad.norm(), name


def test_feedback_follows_the_devices() -> None:
    """On phase-change memory B of the last hidden layer is the readout as it was programmed, not as it was meant."""
    torch.manual_seed(0)
    model = mlp(20, 10, 5)
    chip = Chip(model, "pcm-nandakumar-2019", seed=3)
    rule = LearnedFeedback(baseline="noisy", route="direct", forgetting=1.0, ridge=1e-6)
    x, t = normals(2000, 20).float(), normals(2000, 5, seed=1).float()
    for _ in range(150):
        rule.estimate(chip, x, squared(t))  # no update, no programming: the devices stay as they are
    found, on_devices = Learner(rule, chip).state["feedback"]["hidden1"]["coefficients"], chip.weights()["readout"]
    misprogrammed = (model.readout.weight - on_devices).norm()
    assert (found - on_devices).norm() < 0.5 * misprogrammed


@pytest.mark.parametrize("excitation", ["noise", "activity"])
@pytest.mark.parametrize("regression", ["least-squares", "lms"])
@pytest.mark.parametrize(
    ("make", "shape"), [(linear_net, (4,)), (lambda: deep_conv().double(), (1, 8, 8))], ids=["linear", "convolutional"]
)
def test_updates_that_are_followed_leave_nothing_stale(
    make: Any, shape: tuple[int, ...], regression: Any, excitation: Any
) -> None:
    """After a jump of the weights what was learned is as right as before it; unfollowed it is wrong by the jump."""
    errors = {}
    for follows in (True, False):
        model = make()
        chip, rule = Chip(model, node_profile(SIGMA)), LearnedFeedback(
            regression=regression, excitation=excitation, follow_updates=follows, ridge=1e-6
        )  # fmt: skip
        x = normals(100, *shape)
        loss = squared(torch.zeros_like(model(x)))
        for _ in range(60):
            rule.estimate(chip, x, loss)
        before = {n: s["coefficients"].clone() for n, s in Learner(rule, chip).state["feedback"].items()}
        jumps = {n: normals(*chip.layers[n].weight.shape, seed=i) for i, n in enumerate(before)}
        with torch.no_grad():
            for name, jump in jumps.items():
                chip.layers[name].weight += jump
        chip.program()
        rule.estimate(chip, x, loss)
        state = Learner(rule, chip).state["feedback"]
        errors[follows] = {
            n: float(
                (state[n]["coefficients"].flatten() - (before[n].flatten() + jumps[n].flatten())).norm() / jump.norm()
            )
            for n, jump in jumps.items()
        }
    assert max(errors[True].values()) < 0.05
    assert min(errors[False].values()) > 0.3


@pytest.mark.parametrize("name", ["ecram-mo-kim-2019", "reram-hfo2-gong-2022", "pcm-pair-nandakumar-2020"])
def test_updates_are_followed_as_they_were_sent_not_as_they_came_out(name: str) -> None:
    """Of pulsed devices the rule sees the pulses that were sent; the weights that these gave it has to learn."""
    torch.manual_seed(0)
    model = mlp(8, 6, 3)
    chip, rule = Chip(model, name, seed=1), LearnedFeedback(baseline="noisy")
    x, loss = normals(50, 8).float(), squared(torch.zeros(50, 3))
    rule.estimate(chip, x, loss)
    start, sent = model.readout.weight.detach().clone(), chip.sent()["readout"].clone()
    for _ in range(5):
        with torch.no_grad():
            model.readout.weight += 0.05 * normals(3, 6).float()
        chip.program()
    rule.estimate(chip, x, loss)
    learned = Learner(rule, chip).state["feedback"]["readout"]
    moved = chip.sent()["readout"] - sent
    torch.testing.assert_close(learned["sent"], chip.sent()["readout"])
    torch.testing.assert_close(learned["left"] + chip.sent()["readout"], learned["coefficients"])
    came_out = model.readout.weight - start
    assert nn.functional.cosine_similarity(moved.flatten(), came_out.flatten(), dim=0) > 0.5
    assert (moved - came_out).norm() > 0.01 * came_out.norm()


@pytest.mark.parametrize(
    ("name", "most"), [("reram-hfo2-gong-2022", 0.2), ("pcm-pair-nandakumar-2020", 0.7), ("ecram-mo-kim-2019", 0.95)]
)
def test_learned_weights_stay_close_to_those_that_pulses_make(name: str, most: float) -> None:
    """Distance from the weights on the devices, mean over steps, as a share of what least squares leave.

    On HfO2 one pulse moves a weight by a quarter of its range, more or less, and a tenth of the devices not at all.
    """
    missed = {}
    for method in ("auto", "least-squares"):
        model = mlp(16, 24, 10, seed=0)
        chip, rule = Chip(model, name, seed=1), LearnedFeedback(baseline="noisy", regression=method)
        optimizer, found = torch.optim.Adam(model.parameters(), lr=0.01), []
        teacher = normals(10, 16, seed=5).float()
        for step in range(150):
            x = normals(20, 16, seed=100 + step).float()
            labels = (x @ teacher.T).argmax(1)
            rule.estimate(chip, x, lambda y, t=labels: nn.functional.cross_entropy(y, t, reduction="none"))
            learned, true = Learner(rule, chip).state["feedback"]["readout"]["coefficients"], model.readout.weight
            found.append(float((learned - true).detach().norm() / true.detach().norm()))
            optimizer.step()
            chip.program()
        missed[method] = np.mean(found[50:])
    assert missed["auto"] < most * missed["least-squares"], missed


@pytest.mark.parametrize(
    ("name", "options", "n_learned"),
    [
        ("gaussian-node", {}, 5),
        ("pcm-nandakumar-2019", {}, 5),
        ("pcm-nandakumar-2019", {"follow_updates": False}, 11),
        ("pcm-nandakumar-2019", {"excitation": "noise"}, 11),
        ("reram-soft-bounds-gong-2018", {}, 11),  # pulses: what the devices make of them adds up
    ],
)
def test_steps_that_are_learned_from(name: str, options: Any, n_learned: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 11 the first 3, and every fourth after them where followed updates leave little to learn."""
    monkeypatch.setattr(layerwise, "LEARNED_AT_FIRST", 3)
    torch.manual_seed(0)
    model = mlp(8, 6, 3)
    chip, rule = Chip(model, name, seed=1), LearnedFeedback(baseline="noisy", **options)
    x, loss = normals(50, 8).float(), squared(torch.zeros(50, 3))
    learned, sent = [], []
    for step in range(11):
        rule.estimate(chip, x, loss)
        state = Learner(rule, chip).state["feedback"]["readout"]
        learned.append(state["coefficients"])
        sent.append(chip.sent()["readout"].clone())
        with torch.no_grad():
            model.readout.weight += 0.05 * normals(3, 6, seed=step).float()
        chip.program()
    assert int(state["step"]) == n_learned
    if n_learned < 11:
        for step in (3, 4, 5):
            torch.testing.assert_close(learned[step] - learned[step - 1], sent[step] - sent[step - 1])


class Skipping(nn.Module):
    """A connection around the second layer: y does not depend on the input through x2 alone."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.hidden1, self.hidden2, self.readout = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.hidden1(x))
        y: Tensor = self.readout(torch.relu(self.hidden2(x)) + x)
        return y


def deep_conv() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.LeakyReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3),
    )  # fmt: skip


@pytest.mark.parametrize("excitation", ["noise", "activity"])
@pytest.mark.parametrize(
    ("model", "shape"),
    [(mlp(4, (6, 6, 6), 3, activation="tanh"), (4,)), (Skipping(), (4,)), (deep_conv(), (1, 8, 8))],
    ids=["deep", "skip", "convolutions"],
)
def test_layerwise_feedback_is_backpropagation_on_learned_weights(
    model: nn.Module, shape: tuple[int, ...], excitation: Any
) -> None:
    model, rule = copy.deepcopy(model).double(), LearnedFeedback(route="layerwise", excitation=excitation, ridge=1e-6)
    chip, (x, t) = Chip(model, node_profile(SIGMA)), (normals(500, *shape), normals(500, 3, seed=1))
    for _ in range(60):
        rule.estimate(chip, x, squared(t))
    assert min(cosines(chip, rule, x, squared(t)).values()) > 0.99


SLOW_NOISE = 'kind = "telegraph-node"\namplitude = 0.05\namplitude_spread = 0.3\noffset_spread = 0.05\n'
NEURON_NOISE = {
    "telegraph": SLOW_NOISE + "dwell_time_us = 100.0",
    "correlated": 'kind = "correlated-node"\nsigma = 0.05\ncorrelation = 0.8',
}


@pytest.mark.parametrize("kind", NEURON_NOISE)
def test_noise_that_lasts_or_is_shared_does_not_bias_what_activities_teach(kind: str) -> None:
    """It reaches pre-activations beside the product, so it is independent of the layer's own inputs.

    Telegraph noise hardly changes between passes: the deviations of the samples hold most of it.
    """
    model = linear_net()
    chip, rule = Chip(model, machine(NEURON_NOISE[kind], specification=TIMING)), LearnedFeedback(baseline="noisy")
    x, t = normals(200, 4), normals(200, 3, seed=1)
    for _ in range(60):
        rule.estimate(chip, x, squared(t))
    for name, state in Learner(rule, chip).state["feedback"].items():
        weight = chip.layers[name].weight
        assert (state["coefficients"] - weight).norm() < 0.1 * weight.norm(), name
    assert min(cosines(chip, rule, x, squared(t)).values()) > 0.98


def test_samples_that_are_all_the_same_teach_lms_no_rounding() -> None:
    """Without noise in the reference their deviations are rounding, which a normalised step would blow up."""
    model, rule = mlp(4, 6, 3, activation="tanh").double(), LearnedFeedback(regression="lms")
    chip, x = Chip(model, node_profile(SIGMA)), normals(1, 4).repeat(500, 1)
    t = normals(1, 3, seed=1).repeat(500, 1)
    for _ in range(100):
        rule.estimate(chip, x, squared(t))
    assert min(cosines(chip, rule, x, squared(t)).values()) > 0.99


def test_direct_feedback_in_a_convolutional_network() -> None:
    """One average matrix per layer: near the output the gradient, further away a direction with its sign."""
    model, rule = deep_conv().double(), LearnedFeedback(route="direct", forgetting=1.0)
    chip, (x, t) = Chip(model, node_profile(SIGMA)), (normals(500, 1, 8, 8), normals(500, 3, seed=1))
    for _ in range(100):
        rule.estimate(chip, x, squared(t))
    first, second, *others = cosines(chip, rule, x, squared(t)).values()
    assert first > 0.1
    assert second > 0.9
    assert min(others) > 0.99


def test_warm_up_changes_the_readout_alone() -> None:
    model, rule = mlp(4, 6, 3).double(), LearnedFeedback(warm_up=2)
    chip, (x, t) = Chip(model, node_profile(SIGMA)), (normals(50, 4), normals(50, 3, seed=1))
    moved = []
    for _ in range(3):
        rule.estimate(chip, x, squared(t))
        assert bool(model.readout.weight.grad.any())
        moved.append(bool(model.hidden1.weight.grad.any()))
    assert moved == [False, False, True]


def test_a_chip_that_shows_only_a_loss_refuses_it_and_names_what_works() -> None:
    chip = Chip(mlp(4, 5, 2), showing(("loss", "input", "activity", "injected_noise", "clean_pass")))
    with pytest.raises(UserError, match=r"error at the output.*rules that work there.*ANP"):
        LearnedFeedback(baseline="noisy").estimate(chip, torch.rand(3, 4), squared(torch.rand(3, 2)))


def showing(observable: tuple[str, ...]) -> HardwareProfile:
    """A chip with Gaussian noise on its nodes that shows only this."""
    listed = ", ".join(f'"{one}"' for one in observable)
    text = load_profile("gaussian-node").full_text
    changed = re.sub(r"observable = \[[^]]*\]", f"observable = [{listed}]", text)
    return parse_profile(re.sub(r"schema_version = 1", "schema_version = 2", changed), "scalar.toml")


# ---- in time ----


def step_loss(y: Tensor, t: Tensor) -> Tensor:
    return (y - t).square().sum(1)


@pytest.mark.parametrize("steps", [1, 6])
def test_layerwise_feedback_through_time_is_bptt(steps: int) -> None:
    model, rule = RNN(2, 5, 3, seed=1).double(), LearnedFeedback(route="layerwise", excitation="noise", ridge=1e-6)
    chip = Chip(model, node_profile(SIGMA))
    x, t = normals(steps, 2000, 2), normals(steps, 2000, 3, seed=1)
    for _ in range(30):
        rule.run(chip, x, t, step_loss)
    found = [p.grad.clone() for p in model.parameters()]
    BPTT().run(chip, x, t, step_loss)
    for one, p in zip(found, model.parameters(), strict=True):
        assert (one - p.grad).norm() < 0.06 * p.grad.norm()


def test_direct_feedback_over_a_horizon_in_a_linear_network() -> None:
    """B_k = B R^k, so that a horizon of all steps gives the gradient through time."""
    model = RNN(2, 4, 3, activation="identity", seed=1).double()
    rule, steps = LearnedFeedback(route="direct", horizon=3, ridge=1e-6, forgetting=1.0), 3
    chip, (x, t) = Chip(model, node_profile(SIGMA)), (normals(steps, 2000, 2), normals(steps, 2000, 3, seed=1))
    for _ in range(30):
        rule.run(chip, x, t, step_loss)
    found = model.hidden1.weight.grad.clone()
    matrix = Learner(rule, chip).state["feedback"]["hidden1"]["coefficients"]
    recurrent, readout = model.hidden1.weight[:, 2:], model.readout.weight
    expected = torch.cat([readout @ torch.linalg.matrix_power(recurrent, k) for k in range(3)])
    assert (matrix - expected).norm() < 0.08 * expected.norm()
    BPTT().run(chip, x, t, step_loss)
    assert (found - model.hidden1.weight.grad).norm() < 0.06 * found.norm()


def test_before_a_whole_horizon_of_steps_the_readout_alone_learns() -> None:
    model = RNN(2, 4, 3, seed=1).double()
    rule = LearnedFeedback(route="direct", horizon=3, baseline="noisy", update="online")
    chip, (x, t) = Chip(model, node_profile(SIGMA)), (normals(3, 7, 2), normals(3, 7, 3, seed=1))
    moved = []
    for steps in (1, 2, 3):
        before = {name: layer.weight.detach().clone() for name, layer in chip.layers.items()}
        rule.run(chip, x[:steps], t[:steps], step_loss, torch.optim.SGD(model.parameters(), lr=0.1))
        moved.append([name for name, layer in chip.layers.items() if not torch.equal(layer.weight, before[name])])
    assert moved == [["readout"], ["readout"], ["hidden1", "readout"]]


def test_single_samples_have_no_horizon() -> None:
    model, (x, t) = mlp(4, 6, 3).double(), (normals(50, 4), normals(50, 3, seed=1))
    found = []
    for horizon in (1, 3):
        rule = LearnedFeedback(route="direct", horizon=horizon)
        rule.estimate(Chip(model, node_profile(SIGMA), seed=1), x, squared(t))
        found.append(model.hidden1.weight.grad.clone())
    assert torch.equal(*found)
    assert found[0].any()


@pytest.mark.parametrize("horizon", [1, 3, 9])
def test_step_by_step_the_signals_add_up_to_those_of_the_whole_sequence(horizon: int) -> None:
    """With feedback held fixed, errors credited backwards step by step give the same sum, without a delay."""
    model = RNN(2, 4, 3, seed=1).double()
    chip, (x, t) = Chip(model, node_profile(SIGMA)), (normals(6, 7, 2), normals(6, 7, 3, seed=1))
    memory = {"hidden1": {"coefficients": normals(3 * horizon, 4, seed=2)}}
    plan = LearnedFeedback(baseline="noisy").plan(2)

    def signals(seen: Observation, past: Any, target: Tensor) -> tuple[Tensor, Any]:
        window, past = observed(past, seen, plan, horizon)
        output = window.readings.output[0][-window.n_rows_now :]
        error = 2 * (output - target.flatten(0, 1))
        transfers = chip.transfers(seen.segment)
        found = direct.signals(memory, window, transfers, error, "noisy")["hidden1"]
        return found.T @ window.readings.layers["hidden1"].input[0], past

    whole, _ = signals(Observation(chip, Segment(x, in_time=True), lambda y: y.sum(1)), {}, t)
    total, past, along = torch.zeros_like(whole), {}, None
    for s in range(6):
        seen = Observation(
            chip, Segment(x[s : s + 1], in_time=True), lambda y: y.sum(1), starts=s == 0, ends=s == 5,
            **({} if along is None else {"along": along}),
        )  # fmt: skip
        along = seen.along
        part, past = signals(seen, past, t[s : s + 1])
        total = total + part
    assert (total - whole).norm() < 0.02 * whole.norm()  # the two runs have noise of their own


def test_online_layerwise_replays_from_the_state_before_the_window() -> None:
    """Membranes are no function of the last currents: the replay has to start from where the pass stood."""
    model = Spiking(3, 6, 2, threshold=0.5, seed=1)
    chip, rule = Chip(model, node_profile(0.03)), LearnedFeedback(route="layerwise", horizon=2, baseline="noisy")
    plan, past, along = rule.plan(2), {}, None
    x = normals(5, 4, 3).abs().float()
    for s in range(5):
        seen = Observation(
            chip, Segment(x[s : s + 1], in_time=True), lambda y: y.sum(1), starts=s == 0, ends=False,
            **({} if along is None else {"along": along}),
        )  # fmt: skip
        along = seen.along
        window, past = observed(past, seen, plan, 2)
        reading = window.readings.layers["readout"]
        replayed = chip.digital_pass(window.segment, through=_played(window, chip)).layers["readout"]
        torch.testing.assert_close(replayed.input[0], reading.input[0])


def _played(window: Any, chip: Any) -> Any:
    from noisylearn.rules.feedback.layerwise import _Replayed  # what replays has no other way in

    return {
        n: _Replayed(r.layer, torch.zeros_like(r.layer.weight), r.activity[0])
        for n, r in window.readings.layers.items()
    }


def test_spiking_network_by_layerwise_feedback_and_surrogate_gradients() -> None:
    model = Spiking(5, 8, 3, threshold=0.3, seed=1)
    chip, rule = Chip(model, node_profile(0.03)), LearnedFeedback(excitation="noise", ridge=1e-4, baseline="noisy")
    x, t = normals(8, 200, 5).float(), normals(8, 200, 3, seed=1).float()
    for _ in range(40):
        rule.run(chip, x, t, step_loss)
    found = [layer.weight.grad.clone() for layer in chip.layers.values()]
    BPTT().run(chip, x, t, step_loss)
    for one, layer in zip(found, chip.layers.values(), strict=True):
        assert nn.functional.cosine_similarity(one.flatten(), layer.weight.grad.flatten(), dim=0) > 0.95


# ---- control variates ----


def _estimates_beside_plain(
    rule: Any, kind: Any, units: int, samples: int, copies: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The gradient, and 60 estimates each without and with a control variate that stays as it was learned."""
    torch.manual_seed(0)
    model = mlp(4, units, 3, activation="tanh").double()
    x, t = normals(samples, 4), normals(samples, 3, seed=1)
    learns = replace(rule, control_variate=kind)
    model.zero_grad()
    squared(t)(model(x)).mean().backward()
    exact = torch.cat([p.grad.flatten() for p in model.parameters()]).numpy()
    chip = Chip(model, node_profile(SIGMA), seed=4)
    for _ in range(25):
        learns.estimate(chip, x.repeat(copies, 1), squared(t.repeat(copies, 1)))
    many, targets = x.repeat(1200 // samples, 1), t.repeat(1200 // samples, 1)
    learned = Learner(learns, chip).state

    def estimates(one: Any) -> np.ndarray:
        found = []
        for _ in range(60):
            if one is learns:
                Learner(learns, chip).state = learned
            one.estimate(chip, many, squared(targets))
            found.append(torch.cat([p.grad.flatten() for p in model.parameters()]).numpy().copy())
        return np.stack(found)

    return exact, estimates(rule), estimates(learns)


@pytest.mark.parametrize("kind", ["error", "loss"])
@pytest.mark.parametrize("rule", [NP(), INP(), NP(baseline="noisy")], ids=lambda rule: rule.describe())
def test_control_variate_keeps_the_mean_and_lowers_the_variance(rule: Any, kind: Any) -> None:
    """t tests on the mean of 60 estimates, false alarm 2e-4; bounds on the variance are far above what is found."""
    from support.checks import is_unbiased

    exact, plain, less = _estimates_beside_plain(rule, kind, 6, 4, 300)
    assert is_unbiased(less, exact)
    share = less.var(0).sum() / plain.var(0).sum()
    assert share < (0.05 if kind == "error" else 0.7)


def test_where_noise_is_hidden_a_control_variate_takes_most_of_the_bias_of_anp() -> None:
    """What noise of the hidden layer does to the readout is no noise of the readout: in the mean it counts once."""
    exact, plain, less = _estimates_beside_plain(ANP(baseline="noisy"), "error", 60, 100, 1)
    bias, left = (np.linalg.norm(found.mean(0) - exact) / np.linalg.norm(exact) for found in (plain, less))
    assert left < 0.05 < 0.2 < bias
    assert less.var(0).sum() < 0.05 * plain.var(0).sum()


def test_control_variate_needs_what_it_uses() -> None:
    profile = showing(("loss", "input", "activity", "injected_noise", "clean_pass"))
    assert NP().missing(profile) == []
    assert len(NP(control_variate="loss").missing(profile)) == 1
    assert len(NP(control_variate="error").missing(profile)) == 2
    with pytest.raises(UserError, match="eligibility"):
        NP(control_variate="error", credit="trace", update="online")


# ---- hardware of one's own ----


def test_learns_through_a_driver() -> None:
    """A driver shows outputs, inputs and pre-activations of noisy passes; nothing else is asked for."""
    torch.manual_seed(0)
    hidden = mlp(4, 6, 3, activation="tanh")

    class Driver:
        def forward(self, x: Tensor) -> Any:
            a = x @ self.weights["hidden1.weight"].T + self.weights["hidden1.bias"]
            a = a + 0.01 * torch.randn_like(a)
            h = torch.tanh(a)
            y = h @ self.weights["readout.weight"].T + self.weights["readout.bias"]
            return y, {"hidden1": (x, a), "readout": (h, y)}

        def program(self, weights: Any) -> None:
            self.weights = weights

    chip, rule = OwnChip(hidden, Driver()), LearnedFeedback(baseline="noisy")
    x, t = normals(500, 4).float(), normals(500, 3, seed=1).float()
    for _ in range(20):
        rule.estimate(chip, x, squared(t))
    assert min(cosines(chip, rule, x, squared(t)).values()) > 0.99
