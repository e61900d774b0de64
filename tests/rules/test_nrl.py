"""Noise-based reward-modulated learning, recomputed sample by sample from the numbers that it drew."""

from typing import Any

import numpy as np
import pytest
import torch
from support.checks import Array, check_continues, gradients, node_profile, sample_batch, tanh_net
from torch import Tensor

from noisylearn import Chip, UserError, networks
from noisylearn.ground.draws import RecordedDraws
from noisylearn.rules import NRL, Learner

SIGMA, S, RHO = 0.03, 0.4, 0.4
X, T = sample_batch(5, 3, 2)


def loss_fn(output: Tensor) -> Tensor:
    return ((output - T) ** 2).sum(1) + 0.1 * output.sum(1) ** 3


def judge(action: Array, target: Array) -> float:
    return float(((action - target) ** 2).sum() + 0.1 * action.sum() ** 3)


@pytest.mark.parametrize("baseline", ["clean", "noisy"])
@pytest.mark.parametrize("draws", [1, 3])
def test_every_sample_from_the_numbers_drawn(baseline: Any, draws: int) -> None:
    model, recorded, steps = tanh_net(3, 4, 2), RecordedDraws(11), 4
    rule = NRL(baseline=baseline, draws=draws, exploration=S, reward_rate=RHO)
    chip, found = Chip(model, node_profile(SIGMA), draws=recorded), []
    for _ in range(steps):
        rule.estimate(chip, X, loss_fn)
        found.append(gradients(model))
    W1, b1, W2, b2 = (p.detach().numpy() for p in model.parameters())
    noise = [recorded.record[name, "gaussian-node", "pass", "read"] for name in ("0", "2")]
    actions = [drawn[0] for name, drawn in recorded.record.items() if name[:2] == ("rule", "nrl")]
    assert len(actions) == steps

    def forward(x: Array, e1: Any, e2: Any) -> tuple[Array, Array, Array]:
        a1 = W1 @ x + b1 + e1
        return a1, np.tanh(a1), W2 @ np.tanh(a1) + b2 + e2

    r = 0.0
    for step in range(steps):
        e1, e2 = (SIGMA * one[step].double().numpy() for one in noise)
        expected, judged = dict.fromkeys(("0.weight", "0.bias", "2.weight", "2.bias"), 0.0), []
        for s in range(len(X)):
            x, target = X[s].numpy(), T[s].numpy()
            noisy = [forward(x, e1[p, s], e2[p, s]) for p in range(len(e1))]
            a1, h, y = forward(x, 0.0, 0.0) if baseline == "clean" else noisy.pop(0)
            assert len(noisy) == draws
            u = y + S * actions[step][s].double().numpy()
            judged.append(judge(u, target))
            for p1, _, p2 in noisy:
                d1, d2 = p1 - a1, p2 - y
                dlog = (((u - y) ** 2).sum() - ((u - p2) ** 2).sum()) / (2 * S**2)
                factor = (judged[-1] - r) * dlog * 6 / ((d1**2).sum() + (d2**2).sum()) / draws / len(X)
                now = (np.outer(d1, x), d1, np.outer(d2, h), d2)
                expected = {n: value + factor * one for (n, value), one in zip(expected.items(), now, strict=True)}
        for name, one in expected.items():
            np.testing.assert_allclose(found[step][name], one, rtol=1e-6, atol=1e-9)
        r += max(RHO, 1 / (step + 1)) * (np.mean(judged) - r)
    assert float(Learner(rule, chip).state["mean_loss"]) == pytest.approx(r, rel=1e-9)


def test_a_memory_that_is_handed_on_continues_bit_for_bit() -> None:
    check_continues(NRL(), lambda seed: Chip(tanh_net(3, 4, 2), node_profile(SIGMA), seed), X, loss_fn)


def test_a_constant_loss_is_predicted_after_one_estimate() -> None:
    """A constant added to every loss changes the first estimate alone."""
    rows: dict[float, list[Array]] = {}
    for constant in (0.0, 100.0):
        chip, rule = Chip(tanh_net(3, 4, 2), node_profile(1e-2)), NRL()
        for _ in range(4):
            rule.estimate(chip, X, lambda output, more=constant: loss_fn(output) + more)
            rows.setdefault(constant, []).append(gradients(chip.model)["0.weight"])
    assert not np.allclose(rows[0.0][0], rows[100.0][0], rtol=0.5)
    np.testing.assert_allclose(rows[0.0][1:], rows[100.0][1:], rtol=1e-6, atol=1e-9)


def test_steps_that_do_not_count_teach_it_nothing() -> None:
    model = networks.RNN(2, 4, 2).double()
    chip, rule = Chip(model, node_profile(1e-2)), NRL(update="online")
    x, t = torch.randn(4, 3, 2, dtype=torch.float64), torch.zeros(4, 3, 2, dtype=torch.float64)
    mask = torch.zeros(4, 3)
    mask[-1, 0] = 1
    actions: list[Tensor] = []

    def step_loss(output: Tensor, target: Tensor) -> Tensor:
        actions.append((output - target).square().sum(1))
        return actions[-1]

    rule.run(chip, x, t, step_loss, torch.optim.SGD(model.parameters(), lr=0.0), mask)
    state = Learner(rule, chip).state
    assert int(state["counted"]) == 1
    assert float(state["mean_loss"]) == pytest.approx(float(actions[-1][0]), rel=1e-9)


def test_what_it_cannot_do_is_said() -> None:
    for options, said in (({"exploration": 0.0}, "exploration = 0.0"), ({"reward_rate": 1.5}, "reward_rate = 1.5")):
        with pytest.raises(UserError, match=said):
            NRL(**options)  # type: ignore[arg-type]
