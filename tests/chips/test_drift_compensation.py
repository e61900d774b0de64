"""Global drift compensation: the gain of a layer undoes what its devices have lost in the mean, and nothing else."""

import numpy as np
import pytest
import torch
from support.checks import DRIFT, ONE_OVER_F, PROGRAMMING, machine, tanh_net
from torch import nn

from noisylearn import Chip

DAY_S = 86_400.0
SAME_FOR_ALL = (
    'kind = "power-law-drift"\nexponent_mean = { polynomial = [0.05] }\nexponent_spread = { polynomial = [0.0] }'
)
ALL = (PROGRAMMING, DRIFT, ONE_OVER_F)


def test_drift_that_is_the_same_for_all_devices_is_undone() -> None:
    chip = Chip(tanh_net(4, 6, 2), machine(SAME_FOR_ALL, devices=True), seed=0)
    before = chip.weights()
    assert chip.compensate_drift() == {"0": 1.0, "2": 1.0}
    chip.advance(DAY_S)
    assert not any(torch.allclose(chip.weights()[name], before[name], rtol=0.1) for name in before)
    for gain in chip.compensate_drift().values():
        assert gain == pytest.approx((1 + DAY_S / 20) ** 0.05, rel=1e-12)
    for name, weight in chip.weights().items():
        torch.testing.assert_close(weight, before[name], rtol=1e-12, atol=0)


def test_the_mean_of_what_is_left_and_the_noise_of_a_read() -> None:
    """The gain is by definition of the conductances; weights grow by it, and the variance of a read by its square."""
    chip = Chip(nn.Sequential(nn.Linear(30, 20, bias=False)), machine(*ALL, devices=True), seed=1)
    crossbar = chip._placed["0"]
    start = float(chip._placed["0"]._written.sum())
    chip.advance(DAY_S)
    drifted, variance = chip.weights()["0"], crossbar.read_variance()
    assert variance is not None
    gain = chip.compensate_drift()["0"]
    assert chip.compensate_drift()["0"] == gain
    scaled = crossbar.read_variance()
    assert scaled is not None
    torch.testing.assert_close(chip.weights()["0"], gain * drifted)
    torch.testing.assert_close(scaled, gain**2 * variance)
    now, _ = crossbar._conductances(crossbar.setting)
    assert gain == pytest.approx(start / float(now.sum()), rel=0.02)  # but for the slow noise of 1/f at the write


def test_it_is_behind_the_converters_and_goes_with_the_next_write() -> None:
    model = nn.Sequential(nn.Linear(5, 3, bias=False))
    chip, x = Chip(model, machine(SAME_FOR_ALL, tiles=True), seed=0), torch.randn(4, 5)
    at_once = chip(x)
    chip.advance(DAY_S)
    drifted = chip(x)
    gain = chip.compensate_drift()["0"]
    torch.testing.assert_close(chip(x), gain * drifted)
    torch.testing.assert_close(chip(x), at_once)
    chip.program()
    torch.testing.assert_close(chip(x), at_once)
    assert "gain" not in chip.state()["layer/0"]


def test_a_state_keeps_the_gain() -> None:
    profile, x = machine(*ALL, devices=True), torch.randn(4, 5)
    one, other = (Chip(nn.Sequential(nn.Linear(5, 3)), profile, seed=seed) for seed in (0, 1))
    one.advance(DAY_S)
    one.compensate_drift()
    other.load_state(one.state())
    assert torch.equal(one(x), other(x))
    one.advance(DAY_S)
    other.advance(DAY_S)
    assert torch.equal(one(x), other(x))
    assert one.compensate_drift() == other.compensate_drift()


def test_it_mends_a_network_whose_biases_do_not_drift() -> None:
    """Published drift of PCM over a day: the outputs are nearer to those at once, by more than half."""
    model, x = tanh_net(8, 40, 40, 3), torch.randn(200, 8, dtype=torch.float64)
    chip = Chip(model, machine(PROGRAMMING, DRIFT, devices=True), seed=2)
    at_once = chip(x)
    chip.advance(DAY_S)
    drifted = chip(x)
    chip.compensate_drift()
    lost, left = (float((y - at_once).square().mean()) for y in (drifted, chip(x)))
    assert left < 0.5 * lost
    assert np.isfinite(left)
