"""Writing in place: pulses against sequential simulation and closed forms, modes, and training on devices alone.

Budget: 1e-5 for every statistical assertion; seeds are fixed.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from support.checks import Array, machine, mean_agrees, moments_agree, sample_batch, tanh_net
from torch import nn

from noisylearn import Chip
from noisylearn.ground.draws import Draws, StreamOf
from noisylearn.ground.errors import UserError
from noisylearn.profiles import HardwareProfile, load_profile, profile_files
from noisylearn.profiles.write import Accumulate, Auxiliary, DeviceArray, Pulsed, PulsedDevice
from noisylearn.rules import ANP, BP, INP, NP, REINFORCE, WP

ALARM = 1e-5
N = 50_000
PLAIN: dict[str, Any] = {
    "step": "constant", "dw_min": 0.01, "dw_min_spread": 0.0, "up_down": 0.0, "up_down_spread": 0.0, "w_max": 1.0,
    "w_max_spread": 0.0, "w_min": -0.8, "w_min_spread": 0.0, "cycle_spread": 0.5, "cycle_noise": "of-dw-min",
    "status": "assumed", "source": "test",
}  # fmt: skip
STEPS: dict[str, dict[str, Any]] = {
    "constant": {},
    "linear": {"step": "linear", "gamma_up": 0.4, "gamma_down": 0.7},
    "soft-bounds": {"step": "soft-bounds"},
    "exponential": {
        "step": "exponential", "gamma_up": 2.0, "gamma_down": 1.0, "A_up": 0.2, "A_down": 0.3, "a": 1.0, "b_shift": 0.1,
    },
}  # fmt: skip
PULSED = {name: mode for name in profile_files() if (mode := load_profile(name).in_place) is not None}


def device(**changes: Any) -> PulsedDevice:
    return PulsedDevice(**{**PLAIN, **changes})


def written(
    mode: str, *effects: str, observable: tuple[str, ...] = (), more: str = "", **changes: Any
) -> HardwareProfile:
    """A profile whose weights exist on pulsed devices alone."""
    stated = {key: value for key, value in {**PLAIN, **changes}.items() if key not in ("status", "source")}
    lines = "\n".join(f"{k} = {str(v).lower() if isinstance(v, bool) else repr(v)}" for k, v in stated.items())
    text = f'[write]\nmode = "{mode}"\nCITEDweight_at_full_scale = 2.0\nmost_pulses = 100\n{more}[write.device]\nCITED'
    return machine(*effects, observable=observable, write=f"{text}{lines}\n")


MORE = {
    "pulsed": "",
    "accumulate": "threshold = 0.0\n",
    "auxiliary": "fast_gain = 1.0\ntransfer_every = 1\ntransfer_rate = 0.1\nthreshold = 0.0\n"
    "read_noise = 0.0\nsymmetry_error = 0.0\n",
}
NODE_NOISE = 'kind = "gaussian-node"\nsigma = 0.01'


def np_step(kind: str, w: Array, d: int) -> Array:
    """Mean step of one pulse, from the table of devices.md and the class's docstring, for the devices above."""
    bound = 1.0 if d > 0 else -0.8
    if kind == "constant":
        f: Any = np.ones_like(w)
    elif kind == "linear":
        f = 1 - (0.4 if d > 0 else 0.7) * w / bound
    elif kind == "soft-bounds":
        f = 1 - w / bound
    else:
        z = 2 * 1.0 * w / (1.0 + 0.8) + 0.1
        f = np.maximum(1 - (0.2 * np.exp(2.0 * z) if d > 0 else 0.3 * np.exp(-1.0 * z)), 0)
    return 0.01 * f


def pulsed(dev: PulsedDevice, start: float, pulses: int, n: int = N, seed: int = 0) -> Array:
    array = DeviceArray(dev, (n, 1), StreamOf(Draws(seed), "test"))
    array.set(torch.full((n, 1), start))
    array.pulse(torch.full((n, 1), float(pulses)))
    return array.visible().flatten().double().numpy()


@pytest.mark.parametrize("noise", ["of-dw-min", "of-step"])
@pytest.mark.parametrize("d", [1, -1])
@pytest.mark.parametrize("start", [-0.5, 0.0, 0.6])
@pytest.mark.parametrize("kind", STEPS)
def test_one_pulse_has_the_mean_and_the_noise_of_its_formula(kind: str, start: float, d: int, noise: str) -> None:
    moved = pulsed(device(**STEPS[kind], cycle_noise=noise), start, d) - np.float32(start)
    step = float(np_step(kind, np.array(start), d))
    sigma = 0.5 * (step if noise == "of-step" else 0.01)
    assert moments_agree(moved, d * step, sigma**2, ALARM)
    assert stats.kstest(moved, stats.norm(d * step, sigma).cdf).pvalue > ALARM


@pytest.mark.parametrize("pulses", [7, -20, 60])
@pytest.mark.parametrize("kind", STEPS)
def test_many_pulses_at_once_equal_the_pulses_one_by_one(kind: str, pulses: int) -> None:
    """Against a sequential simulation in numpy: mean within 0.5 % of the way (and noise), spread within 3 %."""
    rng, w, d = np.random.default_rng(1), np.full(N, -0.2), int(np.sign(pulses))
    for _ in range(abs(pulses)):
        w = np.clip(w + d * np_step(kind, w, d) + 0.5 * 0.01 * rng.standard_normal(N), -0.8, 1.0)
    at_once = pulsed(device(**STEPS[kind]), -0.2, pulses)
    way = abs(w.mean() + 0.2)
    error = w.std() * math.sqrt(2 / N) * stats.norm.isf(ALARM / 2)
    assert abs(at_once.mean() - w.mean()) < 0.005 * way + error
    if abs(w.mean() - np.array([-0.8, 1.0])).min() > 6 * w.std():  # the bounds cut both alike, but not the same
        slope = 1.1 if kind != "constant" else 1.0  # a step that depends on the state damps the noise of earlier pulses
        assert 1 / 1.03 < at_once.std() / w.std() < 1.03 * slope**0.5 + (kind != "constant") * 0.25


@pytest.mark.parametrize("pulses", [2, 3, 5, 10, 20, 31, 46])
@pytest.mark.parametrize("start", [0.0, 0.25, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("name", PULSED)
def test_pulses_at_once_on_the_packaged_devices_go_as_far_as_one_by_one(name: str, start: float, pulses: int) -> None:
    """Without noise and spread, down from the start where a device goes both ways; within 3 % of the way."""
    quiet = dict.fromkeys(
        ("dw_min_spread", "up_down_spread", "w_max_spread", "w_min_spread", "cycle_spread", "gamma_spread",
         "write_noise", "reference_spread", "dead_share"), 0.0,
    )  # fmt: skip
    dev = PULSED[name].device.model_copy(update=quiet)
    d = 1 if dev.one_sided else -1
    start = min(start, dev.w_max)
    at_once, one_by_one = (DeviceArray(dev, (1, 1), StreamOf(Draws(0), "test")) for _ in range(2))
    for array in (at_once, one_by_one):
        array.state["w"] = torch.full_like(array.state["w"], start)
    at_once.pulse(torch.full((1, 1), float(d * pulses)))
    for _ in range(pulses):
        one_by_one.pulse(torch.full((1, 1), float(d)))
    found, exact = (float(array.state["w"][0]) - start for array in (at_once, one_by_one))
    assert found == pytest.approx(exact, rel=0.03)


@pytest.mark.parametrize("one_sided", [False, True])
def test_pulses_sent_are_counted_whatever_they_did(one_sided: bool) -> None:
    """Signed pulses, each as one granularity: of devices at their bounds as well."""
    bounds = {"one_sided": True, "w_min": 0.0} if one_sided else {}
    array = DeviceArray(device(w_max_spread=0.3, **bounds), (2, 3), StreamOf(Draws(0), "test"))
    for pulses in ([[70.0, -3.0, 0.0], [1.0, 2.0, -80.0]], [[70.0, 1.0, 0.0], [0.0, 0.0, -80.0]]):
        array.pulse(torch.tensor(pulses))
    expected = 0.01 * torch.tensor([[140.0, -2.0, 0.0], [1.0, 2.0, -160.0]])
    torch.testing.assert_close(array.sent(), expected)
    assert not torch.allclose(array.visible(), expected, atol=0.1)


REFERENCED: dict[str, Any] = {**STEPS["soft-bounds"], "reference_spread": 0.1, "up_down": 0.1, "cycle_spread": 0.0}


@pytest.mark.parametrize("zero_shifted", [False, True])
def test_weights_are_put_where_they_are_seen(zero_shifted: bool) -> None:
    """The reference of a device takes no part of the weight."""
    array = DeviceArray(device(**REFERENCED, zero_shifted=zero_shifted), (200, 3), StreamOf(Draws(0), "test"))
    assert array.state["reference"].std() > 0.05
    target = torch.tensor([-0.2, 0.0, 0.3]).expand(200, 3)
    array.set(target)
    torch.testing.assert_close(array.visible(), target)


@pytest.mark.parametrize("zero_shifted", [False, True])
def test_an_auxiliary_array_hands_nothing_on_that_it_did_not_get(zero_shifted: bool) -> None:
    """Without updates the fast array reads zero at its symmetry point, whatever its references are."""
    mode = mode_of("auxiliary", **REFERENCED, zero_shifted=zero_shifted)
    memory: dict[str, torch.Tensor] = {}
    arrays = mode.arrays((40, 3), Draws(0), "test")
    mode.deploy(torch.zeros(40, 3), arrays, memory)
    for _ in range(90):
        mode.write(torch.zeros(40, 3), arrays, memory, StreamOf(Draws(0), "test"))
    assert arrays["core"].visible().abs().max() < 1e-6


def test_the_core_leaks_between_transfers_too() -> None:
    mode = mode_of("auxiliary", lifetime_updates=100.0, cycle_spread=0.0).model_copy(update={"transfer_every": 10})
    memory: dict[str, torch.Tensor] = {}
    arrays = mode.arrays((4, 2), Draws(0), "test")
    mode.deploy(torch.full((4, 2), 0.5), arrays, memory)
    for _ in range(100):
        mode.write(torch.zeros(4, 2), arrays, memory, StreamOf(Draws(0), "test"))
    torch.testing.assert_close(arrays["core"].visible(), torch.full((4, 2), 0.5 * 0.99**100))


def test_spreads_between_devices_are_as_stated() -> None:
    """dw_up = dw_min (m + r), dw_down = dw_min (m - up_down - r); nothing comes near zero, where values are folded."""
    dev = device(
        dw_min_spread=0.15, up_down=0.1, up_down_spread=0.05, w_max_spread=0.15, w_min_spread=0.1,
        reference_spread=0.03, dead_share=0.1, **{**STEPS["linear"], "gamma_spread": 0.05},
    )  # fmt: skip
    state = {k: v.double().numpy() for k, v in dev.fabricate((N,), StreamOf(Draws(0), "test")).items()}
    alive = state["dw"] > 0
    assert stats.binomtest(int((~alive).sum()), N, 0.1).pvalue > ALARM
    own = {key: value[alive] for key, value in state.items()}
    assert stats.kstest(own["dw"] + own["dw_bias"], stats.norm(0.01, 0.01 * math.hypot(0.15, 0.05)).cdf).pvalue > ALARM
    assert stats.kstest(own["dw"], stats.norm(0.0095, 0.0015).cdf).pvalue > ALARM
    assert moments_agree(own["dw_bias"], 0.0005, 0.0005**2, ALARM)
    assert moments_agree(own["w_max"], 1.0, 0.15**2, ALARM)
    assert moments_agree(own["w_min"], -0.8, 0.08**2, ALARM)
    assert moments_agree(state["slope"] + state["slope_bias"], 0.4 / 1.0, 0.05**2, ALARM)
    assert moments_agree(state["slope"] - state["slope_bias"], 0.7 / -0.8, (0.05 / 0.8) ** 2, ALARM)
    assert moments_agree(own["reference"], 0.0, 0.03**2, ALARM)
    lognormal = device(dw_min_spread=0.7, dw_min_distribution="lognormal").fabricate((N,), StreamOf(Draws(0), "t"))
    assert stats.kstest(lognormal["dw"].numpy(), stats.lognorm(0.7, scale=0.01).cdf).pvalue > ALARM


def test_what_is_drawn_on_the_wrong_side_of_zero_is_folded() -> None:
    state = device(w_max_spread=0.5, w_min_spread=0.6).fabricate((N,), StreamOf(Draws(0), "test"))
    assert stats.kstest(state["w_max"].numpy(), stats.foldnorm(2.0, scale=0.5).cdf).pvalue > ALARM
    assert stats.kstest(-state["w_min"].numpy(), stats.foldnorm(1 / 0.6, scale=0.8 * 0.6).cdf).pvalue > ALARM


@pytest.mark.parametrize("bias", [0.2, -0.2])
def test_a_bias_shortens_the_steps_of_one_direction(bias: float) -> None:
    state = device(up_down=bias).fabricate((3,), StreamOf(Draws(0), "test"))
    up, down = (0.01, 0.008) if bias > 0 else (0.008, 0.01)
    assert torch.allclose(state["dw"] + state["dw_bias"], torch.tensor(up))
    assert torch.allclose(state["dw"] - state["dw_bias"], torch.tensor(down))


def test_a_zero_shifted_device_shows_zero_at_its_symmetry_point() -> None:
    dev = device(zero_shifted=True, up_down_spread=0.2, dw_min_spread=0.1, w_max_spread=0.1, **STEPS["soft-bounds"])
    array = DeviceArray(dev, (50, 4), StreamOf(Draws(0), "test"))
    assert array.state["reference"].abs().max() > 0.1
    assert torch.allclose(array.symmetry_point(), torch.zeros(50, 4), atol=1e-5)
    assert float(array.state["reference"].std()) > 0.05


def test_noise_of_a_pulse_may_have_a_floor_and_grow_with_the_state() -> None:
    moved = pulsed(device(cycle_noise="of-step", cycle_floor=0.03, cycle_slope=0.1), 0.3, 1) - np.float32(0.3)
    assert moments_agree(moved, 0.01, (0.5 * (0.01 + 0.03 + 0.1 * 0.3)) ** 2, ALARM)


def test_devices_stay_within_their_own_bounds() -> None:
    array = DeviceArray(device(w_max_spread=0.3, w_min_spread=0.3), (1000, 3), StreamOf(Draws(0), "test"))
    for pulses in (200.0, -500.0, 3.0):
        array.pulse(torch.full((1000, 3), pulses))
        assert (array.state["w"] <= array.state["w_max"]).all()
        assert (array.state["w"] >= array.state["w_min"]).all()


def test_dead_devices_do_not_move_and_others_only_when_pulsed() -> None:
    array = DeviceArray(device(dead_share=0.2, write_noise=2.0), (500, 4), StreamOf(Draws(0), "test"))
    before = array.state["w"].clone(), array.visible().clone()
    pulses = torch.zeros(500, 4)
    pulses[:100] = 3.0
    array.pulse(pulses)
    array.set(torch.full((500, 4), 0.5))
    array.pulse(pulses)
    alive = array.state["dw"][0] > 0
    assert not array.state["w"][0][~alive].any()
    assert (array.state["w"][0][100:][alive[100:]] == 0.5).all()
    array.set(torch.zeros(500, 4))
    before = array.state["w"].clone(), array.visible().clone()
    array.pulse(pulses)
    assert torch.equal(array.visible()[100:], before[1][100:])
    assert (array.visible()[:100] != before[1][:100]).all(), "write noise is drawn anew with every write"
    seen = (array.visible() - array.state["w"][0])[:100].flatten().double().numpy()
    assert moments_agree(seen, 0.0, 0.02**2, ALARM)


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_few_and_many_pulsed_devices_are_computed_alike(share: float) -> None:
    """Without noise the sparse and the dense way give the same numbers."""
    pulses = torch.where(torch.rand(60, 50, generator=torch.Generator().manual_seed(0)) < share, 4.0, 0.0)
    array = DeviceArray(device(cycle_spread=0.0, **STEPS["soft-bounds"]), (60, 50), StreamOf(Draws(0), "test"))
    array.pulse(pulses)
    step = [0.01 * (1 - w) for w in (0.0, 1.5 * 0.01)]
    assert torch.allclose(array.visible(), torch.where(pulses > 0, torch.tensor(4 * step[1]), 0.0), atol=1e-7)


@pytest.mark.parametrize("rows", [30, 300])
def test_devices_that_are_not_pulsed_stay_whatever_is_computed_together(rows: int) -> None:
    """Of 600 rows of 300, more devices than are computed together, the first few are pulsed, or half."""
    array = DeviceArray(device(cycle_spread=0.0, write_noise=1.0), (600, 300), StreamOf(Draws(0), "test"))
    array.set(torch.linspace(-0.5, 0.5, 600).unsqueeze(1).expand(600, 300))
    before = array.state["w"][0].clone(), array.visible().clone()
    pulses = torch.zeros(600, 300)
    pulses[:rows] = 3.0
    array.pulse(pulses)
    assert torch.equal(array.state["w"][0][rows:], before[0][rows:])
    assert torch.equal(array.visible()[rows:], before[1][rows:])
    torch.testing.assert_close(array.state["w"][0][:rows], before[0][:rows] + 0.03)


def test_a_capacitor_leaks() -> None:
    array = DeviceArray(device(lifetime_updates=10.0), (3, 2), StreamOf(Draws(0), "test"))
    array.set(torch.full((3, 2), 0.5))
    for _ in range(5):
        array.pulse(torch.zeros(3, 2))
    assert torch.allclose(array.visible(), torch.tensor(0.5 * 0.9**5))


def test_up_and_down_pulses_pull_an_asymmetric_device_to_its_symmetry_point() -> None:
    """k pairs on soft bounds: w (1 - dw (1/b+ + 1/|b-|) + dw^2 / (b+ |b-|))^k; on constant steps nothing is lost."""
    for kind, factor in (("soft-bounds", (1 - 0.01 / 1.0) * (1 - 0.01 / 0.8)), ("constant", 1.0)):
        array = DeviceArray(device(cycle_spread=0.0, **STEPS[kind]), (1, 1), StreamOf(Draws(0), "test"))
        array.set(torch.full((1, 1), 0.5))
        for _ in range(100):
            array.pulse(torch.ones(1, 1))
            array.pulse(-torch.ones(1, 1))
        fixed = 0.01 * (-0.01 / 0.8) / (1 - factor) if kind == "soft-bounds" else 0.0
        expected = (0.5 - fixed) * factor**100 + fixed if kind == "soft-bounds" else 0.5
        assert float(array.visible()) == pytest.approx(expected, abs=2e-4)


def test_symmetry_point_is_where_both_steps_are_equal() -> None:
    """Soft bounds: 1 - w / w+ = (1 - b)(1 - w / w-), so w = b / (1 / w+ - (1 - b) / w-)."""
    array = DeviceArray(
        device(up_down=0.2, w_max_spread=0.2, w_min_spread=0.2, **STEPS["soft-bounds"]),
        (50, 4),
        StreamOf(Draws(0), "t"),
    )
    high, low = array.state["w_max"][0], array.state["w_min"][0]
    expected = 0.2 / (1 / high - 0.8 / low)
    assert torch.allclose(array.symmetry_point(), expected, atol=1e-5)


# ---- modes ----


def mode_of(name: str, **changes: Any) -> Any:
    profile = written(name, NODE_NOISE, more=MORE[name], **changes)
    assert profile.in_place is not None
    return profile.in_place


def test_pulses_are_rounded_at_random_without_bias() -> None:
    mode = mode_of("pulsed")
    assert isinstance(mode, Pulsed)
    delta = torch.tensor([0.0, 0.003, -0.0124, 0.5, 5.0]).expand(N, 5)
    pulses = mode.stochastic_pulses(delta, StreamOf(Draws(0), "test")).double().numpy()
    assert mean_agrees(pulses[:, :4], np.array([0.0, 0.3, -1.24, 50.0]), ALARM)
    assert set(np.unique(pulses[:, 2])) == {-2.0, -1.0}
    assert (pulses[:, 4] == 100).all(), "not more than most_pulses"


@pytest.mark.parametrize("threshold", [0.01, 0.05])
def test_an_accumulator_loses_nothing_and_sends_whole_pulses(threshold: float) -> None:
    """One pulse and five; steps are 0.01 of full scale."""
    mode = mode_of("accumulate", cycle_spread=0.0).model_copy(update={"threshold": threshold})
    assert isinstance(mode, Accumulate)
    draws = Draws(0)
    arrays, memory, total = mode.arrays((20, 10), draws, "test"), {}, torch.zeros(20, 10)
    mode.deploy(torch.zeros(20, 10), arrays, memory)
    for _ in range(200):
        delta = 0.02 * draws.normal(("delta",), (20, 10))
        before = arrays["core"].visible()
        mode.write(delta, arrays, memory, StreamOf(draws, "test"))
        total += delta
        sent = (arrays["core"].visible() - before) / 0.01
        assert torch.allclose(sent, sent.round(), atol=1e-4)
        assert ((sent.abs() < 0.5) | (sent.abs() > threshold / 0.01 - 0.5)).all()
    inside = arrays["core"].visible().abs() < 0.7
    assert torch.allclose((arrays["core"].visible() + memory["accumulator"])[inside], total[inside], atol=1e-4)
    assert memory["accumulator"].abs().max() < threshold + 1e-6


def test_an_auxiliary_array_moves_the_core_by_the_mean_of_noisy_updates() -> None:
    """Updates of mean m with a spread 20 times larger, on soft bounds: the core follows m, the fast array stays."""
    mode = mode_of("auxiliary", **STEPS["soft-bounds"])
    assert isinstance(mode, Auxiliary)
    draws, memory = Draws(0), {}
    arrays = mode.arrays((200, 1), draws, "test")
    mode.deploy(torch.zeros(200, 1), arrays, memory)
    direction = torch.where(torch.arange(200) < 100, 1.0, -1.0).unsqueeze(1)
    for _ in range(300):
        delta = 0.002 * direction + 0.04 * draws.normal(("delta",), (200, 1))
        mode.write(delta, arrays, memory, StreamOf(draws, "test"))
    moved = (arrays["core"].visible() * direction).flatten().double().numpy()
    assert moved.mean() > stats.norm.isf(ALARM) * moved.std() / math.sqrt(200)
    assert arrays["fast"].visible().abs().mean() < 0.3


def test_pairs_are_refreshed_without_losing_the_weight() -> None:
    dev = device(one_sided=True, w_min=0.0, w_max=2.0, cycle_spread=0.0)
    array = DeviceArray(dev, (30, 5), StreamOf(Draws(0), "test"))
    for _ in range(150):
        array.pulse(torch.ones(30, 5))
        array.pulse(-torch.ones(30, 5))
    array.pulse(20 * torch.ones(30, 5))
    assert torch.allclose(array.visible(), torch.tensor(0.2), atol=1e-4)
    assert array.state["w"].max() > 1.6
    array.refresh(above=0.8, other_above=0.25)
    assert torch.allclose(array.visible(), torch.tensor(0.2), atol=0.0051), "to within half a pulse"
    assert array.state["w"].max() < 0.3


def test_a_refresh_of_phase_change_pairs_keeps_weights_to_half_a_first_step() -> None:
    """Their first pulse moves an empty device by 28 dw_min = 0.28, on average; steps differ by 0.2 between devices."""
    write = load_profile("pcm-pair-nandakumar-2020").write
    assert isinstance(write, Pulsed)
    array = DeviceArray(write.device, (2000, 7), StreamOf(Draws(0), "test"))
    wanted = torch.tensor([-0.5, -0.1, 0.0, 0.02, 0.2, 0.4, 0.6])
    array.state["w"] = (
        torch.stack([1.55 + wanted.clamp(max=0), 1.55 - wanted.clamp(min=0)]).unsqueeze(1).repeat(1, 2000, 1)
    )
    array.state["visible"] = array.state["w"].clone()
    array.refresh(above=0.7, other_above=0.25)
    worn = (array.state["w"] < 1.4).all(0)
    assert worn.float().mean() > 0.9, "whose bound lies so high that 1.55 is below 0.7 of it are left"
    missed = (array.visible() - wanted)[worn].double().abs()
    assert missed.mean() < 0.07, "evenly spread within half a step of 0.28"
    assert missed.quantile(0.95) < 0.2
    for i in (0, 5, 6):
        mean = float(array.visible()[:, i][worn[:, i]].mean())
        assert abs(mean - float(wanted[i])) < 0.04, "beyond a first step without a bias of more than half a later one"


def test_a_pair_that_holds_a_large_weight_is_left_alone() -> None:
    """One device nearly full, the other nearly empty: a refresh would give the same again."""
    array = DeviceArray(device(one_sided=True, w_min=0.0), (1, 2), StreamOf(Draws(0), "test"))
    array.state["w"] = torch.tensor([[[0.9, 0.9]], [[0.1, 0.3]]])
    array.state["visible"] = array.state["w"].clone()
    array.refresh(above=0.75, other_above=0.25)
    assert torch.allclose(array.state["w"][:, 0, 0], torch.tensor([0.9, 0.1])), "left alone"
    assert torch.allclose(array.state["w"][:, 0, 1], torch.tensor([0.6, 0.0]), atol=0.1), "written anew"


# ---- on a chip ----


@pytest.mark.parametrize("mode", MORE)
def test_the_layer_holds_what_the_devices_hold(mode: str) -> None:
    model = tanh_net(6, 4, 2).float()
    chip = Chip(model, written(mode, NODE_NOISE, more=MORE[mode], w_max=0.1, w_min=-0.1), seed=0)
    assert model[0].weight.abs().max() <= 0.2 + 1e-6, "bounds are those of the devices, 2.0 x 0.1"
    assert torch.equal(chip.weights()["0"], model[0].weight.detach())
    before = chip.state()["layer/0"]["write-core.w"].clone()
    chip.program()
    assert torch.equal(chip.state()["layer/0"]["write-core.w"], before), "no update, no pulse"
    with torch.no_grad():
        for _ in range(30):
            model[0].weight += 0.05
            chip.program()
    assert torch.equal(chip.weights()["0"], model[0].weight.detach())
    assert not torch.equal(chip.state()["layer/0"]["write-core.w"], before)


def test_a_pulsed_update_arrives_on_average() -> None:
    layer = nn.Linear(200, 200, bias=False)
    nn.init.zeros_(layer.weight)
    chip = Chip(layer, _tiled(), seed=0)
    with torch.no_grad():
        layer.weight += 0.0131
    chip.program()
    moved = layer.weight.detach().flatten().double().numpy()
    assert mean_agrees(moved[:, None], np.array([0.0131]), ALARM)


def _tiled() -> HardwareProfile:
    return machine('kind = "output-noise"\nsigma = 0.06', tiles=True, write=_write_text())


RULES = [
    ANP(baseline="noisy"), ANP(baseline="mean", draws=3), BP(forward="chip"), BP(), NP(baseline="clean"),
    INP(baseline="clean"), REINFORCE(baseline="noisy"), WP(baseline="clean"),
]  # fmt: skip


@pytest.mark.parametrize("mode", MORE)
@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.describe())
def test_every_mode_works_with_every_rule(rule: Any, mode: str) -> None:
    """The loss of a small regression falls when the weights exist on the devices alone."""
    model, (x, t) = tanh_net(6, 8, 2).float(), sample_batch(40, 6, 2)
    x, t = x.float(), t.float() * 0.3
    noise = 'kind = "gaussian-weight"\nsigma = 0.01' if isinstance(rule, WP) else NODE_NOISE
    shown = "injected_weight_noise" if isinstance(rule, WP) else "injected_noise"
    profile = written(mode, noise, observable=(shown, "clean_pass"), more=MORE[mode], dw_min=0.001, cycle_spread=0.3)
    chip = Chip(model, profile, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(75):
        losses.append(float(rule.estimate(chip, x, lambda out: (out - t).square().sum(1))))
        optimizer.step()
        chip.program()
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:5])


@pytest.mark.parametrize("mode", MORE)
def test_state_continues_bit_for_bit(mode: str) -> None:
    def training(chip: Chip, steps: int) -> None:
        optimizer = torch.optim.SGD(chip.model.parameters(), lr=0.1)
        x, t = (v.float() for v in sample_batch(10, 6, 2))
        for _ in range(steps):
            ANP(baseline="noisy").estimate(chip, x, lambda out: (out - t).square().sum(1))
            optimizer.step()
            chip.program()

    profile = written(mode, NODE_NOISE, more=MORE[mode], dw_min_spread=0.2, write_noise=1.0)
    one, other = (Chip(tanh_net(6, 4, 2).float(), profile, seed=seed) for seed in (0, 5))
    training(one, 20)
    other.load_state({k: {n: v.clone() for n, v in table.items()} for k, table in one.state().items()})
    other.model.load_state_dict(one.model.state_dict())
    training(one, 20)
    training(other, 20)
    for key, value in one.state()["layer/0"].items():
        assert torch.equal(value, other.state()["layer/0"][key]), key
    assert torch.equal(one.model[0].weight, other.model[0].weight)


@pytest.mark.parametrize("share", [0.02, 1.0])
@pytest.mark.parametrize("mode", MORE)
def test_a_state_once_taken_stays_when_the_devices_change(mode: str, share: float) -> None:
    """Also where few devices are pulsed, which are computed apart."""
    layer = nn.Linear(40, 40, bias=False)
    chip = Chip(layer, written(mode, NODE_NOISE, more=MORE[mode], write_noise=1.0), seed=0)
    pulsed = torch.rand(40, 40, generator=torch.Generator().manual_seed(0)) < share

    def update() -> None:
        with torch.no_grad():
            layer.weight += 0.2 * pulsed
        chip.program()

    update()
    taken = chip.state()["layer/"]
    copied = {key: value.clone() for key, value in taken.items()}
    update()
    assert not torch.equal(chip.state()["layer/"]["written"], copied["written"])
    for key, value in taken.items():
        assert torch.equal(value, copied[key]), key


# ---- what is refused ----


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"step": "linear"}, "needs gamma_up"),
        ({"gamma_up": 0.4}, "has no use for gamma_up"),
        ({"one_sided": True}, "a one-sided device has w_min = 0"),
        ({"w_min": 0.0}, "a two-sided one w_min < 0"),
        ({"dw_min": -0.1}, "dw_min"),
        ({"w_max": -1.0}, "w_max"),
        ({"dead_share": 1.5}, "dead_share"),
    ],
)
def test_impossible_devices_are_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        written("pulsed", NODE_NOISE, **change)


def test_pulsed_devices_have_no_conductances_beside_them() -> None:
    with pytest.raises(UserError, match="states the devices itself"):
        machine(NODE_NOISE, devices=True, write=_write_text())
    with pytest.raises(UserError, match="refresh_above, refresh_other_above and refresh_every go with one-sided"):
        written("pulsed", NODE_NOISE, more="refresh_above = 0.5\nrefresh_every = 3\n")


def _write_text() -> str:
    lines = "\n".join(f"{k} = {v!r}" for k, v in PLAIN.items() if k not in ("status", "source"))
    return f'[write]\nmode = "pulsed"\nCITEDweight_at_full_scale = 2.0\nmost_pulses = 9\n[write.device]\nCITED{lines}\n'
