"""Ornstein-Uhlenbeck adaptation, recomputed from the numbers that it drew, and what its mean of losses takes away."""

import copy
import math

import numpy as np
import pytest
import torch
from support.checks import check_continues, gradients, sample_batch, tanh_net
from torch import Tensor, nn

from noisylearn import Chip, UserError
from noisylearn.ground.draws import RecordedDraws
from noisylearn.profiles import load_profile
from noisylearn.rules import OUA, Learner

X, T = sample_batch(5, 3, 2)
S, LAMBDA, RHO = 0.1, 0.3, 0.2


def loss_fn(output: Tensor) -> Tensor:
    return ((output - T) ** 2).sum(1) + 0.1 * output.sum(1) ** 3


def loss_at(model: nn.Module, shift: dict[str, Tensor]) -> float:
    with torch.no_grad():
        moved = {name: p + shift[name] for name, p in model.named_parameters()}
        return float(loss_fn(torch.func.functional_call(model, moved, X)).mean())


def share_left(moves: int, a: float, rho: float) -> float:
    """1 - sum_k w_k a^k, with w_k the weight of the loss k moves ago in r, found by moving r by unit losses."""
    weights = np.zeros(moves)
    for now in range(moves):
        weights *= 1 - rho
        weights[now] += rho
    return 1 - float(sum(w * a ** (moves - then) for then, w in enumerate(weights)))


@pytest.mark.parametrize("draws", [1, 2])
def test_every_move_from_the_numbers_drawn(draws: int) -> None:
    model, recorded, steps = tanh_net(3, 4, 2), RecordedDraws(3), 4
    rule = OUA(fluctuation=S, reversion=LAMBDA, reward_rate=RHO, draws=draws)
    chip, found = Chip(model, "ideal", draws=recorded), []
    for _ in range(steps):
        rule.estimate(chip, X, loss_fn)
        found.append(gradients(model))
    own = {name[-2:]: drawn[0].double() for name, drawn in recorded.record.items() if name[0] == "rule"}
    names, a = list(dict(model.named_parameters())), math.exp(-LAMBDA)
    r, d = loss_at(model, dict.fromkeys(names, torch.zeros(()))), {}
    for step in range(steps):
        expected = dict.fromkeys(names, 0.0)
        for k in range(draws):
            moves = step * draws + k
            for name in names:
                z = own[f"step {step}", f"move {k}, {name.replace('.', ', ')}"]
                d[name] = a * d[name] + math.sqrt(1 - a**2) * S * z if moves else S * z
            loss = loss_at(model, d)
            factor = (loss - r) / (S**2 * share_left(moves, a, RHO) * draws)
            expected = {name: expected[name] + factor * d[name] for name in names}
            r += RHO * (loss - r)
        for name in names:
            np.testing.assert_allclose(found[step][name], expected[name], rtol=1e-9, atol=1e-10)
    assert float(Learner(rule, chip).state["mean_loss"]) == pytest.approx(r, rel=1e-9)


def test_slow_deviations_are_credited_in_full() -> None:
    """The projection on the gradient is 1 on average, though r takes half of the signal away.

    Deviations are remembered for 1 / 0.2 moves, blocks of 200 moves are independent; a false alarm in 10^4.
    """
    model = tanh_net(3, 2)
    rule = OUA(fluctuation=1e-3, reversion=0.2, reward_rate=0.3, draws=200)
    assert rule.share_left(1000) < 0.5
    chip, ratios = Chip(model, "ideal"), []
    loss_fn(model(X)).mean().backward()
    exact = np.concatenate([g.ravel() for g in gradients(model).values()])
    for _ in range(40):
        rule.estimate(chip, X, loss_fn)
        found = np.concatenate([g.ravel() for g in gradients(model).values()])
        ratios.append(found @ exact / (exact @ exact))
    error = 4.3 * np.std(ratios, ddof=1) / np.sqrt(len(ratios))  # t of 39
    assert error < 0.2
    assert abs(np.mean(ratios) - 1) < error


def test_a_memory_that_is_handed_on_continues_bit_for_bit() -> None:
    check_continues(OUA(), lambda seed: Chip(tanh_net(3, 4, 2), "ideal", seed), X, loss_fn)


def test_means_stay_where_they_were_and_are_on_the_chip() -> None:
    model = tanh_net(3, 4, 2)
    before, chip = copy.deepcopy(model.state_dict()), Chip(model, "ideal")
    OUA(draws=3).estimate(chip, X, loss_fn)
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())
    assert torch.equal(chip.weights()["0"], before["0.weight"])


def test_a_step_leaves_the_state_that_it_was_given_alone() -> None:
    rule, chip = OUA(), Chip(tanh_net(3, 4, 2), "ideal")
    rule.estimate(chip, X, loss_fn)
    state = Learner(rule, chip).state
    kept = copy.deepcopy(state)
    rule.estimate(chip, X, loss_fn)
    for layer, own in kept["deviation"].items():
        assert all(torch.equal(value, state["deviation"][layer][key]) for key, value in own.items())
    assert torch.equal(kept["mean_loss"], state["mean_loss"])


def test_what_it_cannot_do_is_said() -> None:
    with pytest.raises(UserError, match=r"pulses in place change them for good.*rules that work there: .*ANP"):
        OUA().check(load_profile("reram-hfo2-gong-2022"))
    for options, said in (
        ({"fluctuation": 0.0}, "fluctuation = 0.0"),
        ({"reversion": -1.0}, "reversion = -1.0"),
        ({"reward_rate": 1.0}, "reward_rate = 1.0"),
        ({"draws": 0}, "draws = 0"),
    ):
        with pytest.raises(UserError, match=said):
            OUA(**options)  # type: ignore[arg-type]
