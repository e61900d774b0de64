"""SPSA against finite differences with the directions that it drew, and what it leaves on the chip."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from support.checks import gradients, sample_batch, tanh_net
from torch import Tensor, nn

from noisylearn import Chip, UserError, networks
from noisylearn.chips.segments import as_segment
from noisylearn.ground.draws import RecordedDraws
from noisylearn.profiles import load_profile, profile_files
from noisylearn.rules import BPTT, SPSA, Delta, Learner, PerLayer
from noisylearn.rules.observation import Observation

X, T = sample_batch(5, 3, 2)
PCM = "pcm-nandakumar-2019"


def loss_fn(output: Tensor) -> Tensor:
    return ((output - T) ** 2).sum(1) + 0.1 * output.sum(1) ** 3


def loss_at(model: nn.Module, shift: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        moved = {name: p + shift[name] for name, p in model.named_parameters()}
        return loss_fn(torch.func.functional_call(model, moved, X)).mean()


@pytest.mark.parametrize("directions", ["rademacher", "gaussian"])
@pytest.mark.parametrize("draws", [1, 2])
def test_two_sided_differences_along_the_directions(directions: Any, draws: int) -> None:
    model, recorded, c = tanh_net(3, 4, 2), RecordedDraws(3), 0.2
    loss = SPSA(directions=directions, draws=draws, epsilon=c).estimate(
        Chip(model, "ideal", draws=recorded), X, loss_fn
    )
    own = {name[-1]: drawn for name, drawn in recorded.record.items() if name[0] == "rule"}
    expected = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    means = []
    for k in range(draws):
        z = {}
        for name, p in model.named_parameters():
            layer, key = name.split(".")
            first, *again = own[f"draw {k}, {layer}, {key}"]
            assert len(again) == 2, "drawn again for the second pass and for the update"
            assert all(torch.equal(first, one) for one in again)
            z[name] = (torch.where(first < 0.5, -1.0, 1.0) if directions == "rademacher" else first).double()
            assert p.shape == first.shape
        pair = [loss_at(model, {name: sign * c * one for name, one in z.items()}) for sign in (1, -1)]
        means += pair
        for name in expected:
            expected[name] += (pair[0] - pair[1]) / (2 * c) * z[name] / draws
    for name, one in expected.items():
        np.testing.assert_allclose(gradients(model)[name], one.double(), rtol=1e-9, atol=1e-12)
    assert float(loss) == pytest.approx(float(sum(means) / len(means)), rel=1e-12)


def test_weights_are_what_they_were_bit_for_bit() -> None:
    torch.manual_seed(0)
    model = networks.mlp(3, (4,), 2)
    before = copy.deepcopy(model.state_dict())
    chip = Chip(model, "ideal")
    SPSA(draws=3).estimate(chip, X.float(), lambda y: y.square().sum(1))
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())
    assert all(torch.equal(w, chip.layers[name].weight) for name, w in chip.weights().items()), "programmed back"


def test_weights_are_restored_where_a_loss_fails() -> None:
    model = tanh_net(3, 4, 2)
    before, chip = copy.deepcopy(model.state_dict()), Chip(model, "ideal")

    def fails(output: Tensor) -> Tensor:
        raise ValueError("the task fails")

    with pytest.raises(ValueError, match="the task fails"):
        SPSA().estimate(chip, X, fails)
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())
    assert torch.equal(chip.weights()["0"], before["0.weight"])


def test_every_pass_reads_weights_that_were_programmed_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    chip, written = Chip(networks.mlp(3, (4,), 2), PCM), []
    program = chip.program
    monkeypatch.setattr(chip, "program", lambda: (written.append(chip.layers["hidden1"].weight.clone()), program()))
    before = chip.layers["hidden1"].weight.clone()
    SPSA(epsilon=0.25).estimate(chip, X.float(), lambda y: y.square().sum(1))
    first, second, back = written
    assert torch.allclose((first - before).abs(), torch.full_like(first, 0.25), atol=1e-6)
    assert torch.allclose(first - before, before - second, atol=1e-6)
    assert torch.equal(back, before)


def test_looking_leaves_devices_and_streams_alone() -> None:
    chips = [Chip(networks.mlp(3, (4,), 2), PCM) for _ in range(2)]
    rule = SPSA()
    learner = Learner(rule, chips[0])
    learner.look(Observation(chips[0], as_segment(X.float()), lambda y: y.square().sum(1), purpose="measure"))
    for chip in chips:
        rule.estimate(chip, X.float(), lambda y: y.square().sum(1))
    for name, gradient in gradients(chips[0].model).items():
        assert np.array_equal(gradient, gradients(chips[1].model)[name])
    assert torch.equal(chips[0].weights()["hidden1"], chips[1].weights()["hidden1"])


def test_pulsed_devices_are_refused_with_what_works_there() -> None:
    profiles = [load_profile(name) for name in profile_files()]
    pulsed = [profile for profile in profiles if profile.in_place is not None]
    assert pulsed
    for profile in pulsed:
        with pytest.raises(UserError, match=r"pulses in place change them for good.*rules that work there: .*ANP") as e:
            SPSA().check(profile)
        assert "\n" not in str(e.value)


def test_it_learns_through_time() -> None:
    """The projection of many draws on the gradient through time: mean 1, error from its spread."""
    torch.manual_seed(0)
    model = networks.RNN(2, 4, 2).double()
    x, t = torch.randn(4, 3, 2, dtype=torch.float64), torch.randn(4, 3, 2, dtype=torch.float64)
    mask = torch.tensor([[1.0, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1]])

    def step_loss(output: Tensor, target: Tensor) -> Tensor:
        return ((output - target) ** 2).sum(1)

    chip = Chip(model, "ideal")
    BPTT().run(chip, x, t, step_loss, mask=mask)
    exact = np.concatenate([g.ravel() for g in gradients(model).values()])
    ratios, rule = [], SPSA(draws=50)
    for _ in range(20):
        rule.run(chip, x, t, step_loss, mask=mask)
        found = np.concatenate([g.ravel() for g in gradients(model).values()])
        ratios.append(found @ exact / (exact @ exact))
    error = 5.0 * np.std(ratios, ddof=1) / np.sqrt(len(ratios))  # t of 19: a false alarm in 10^4
    assert error < 0.4
    assert abs(np.mean(ratios) - 1) < error


def test_beside_the_delta_rule() -> None:
    rule = PerLayer(rules={"2": Delta(), "*": SPSA()})
    model = tanh_net(3, 4, 2)
    rule.estimate(Chip(model, "ideal"), X, loss_fn)
    assert set(gradients(model)) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert rule.forward_passes(2) == 3


def test_its_step_is_above_noise_that_cannot_be_switched_off() -> None:
    found = {name: SPSA.settled({}, {}, load_profile(name)).get("epsilon") for name in ("ideal", "gaussian-node", PCM)}
    assert found == {"ideal": None, "gaussian-node": None, PCM: 0.1}
    assert SPSA.settled({}, {"epsilon": 0.01}, load_profile(PCM)) == {"epsilon": 0.01}


def test_bounds() -> None:
    for options, said in (({"epsilon": 0.0}, "epsilon = 0.0"), ({"draws": 0}, "draws = 0")):
        with pytest.raises(UserError, match=said):
            SPSA(**options)  # type: ignore[arg-type]
