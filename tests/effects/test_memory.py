"""Effects that remember: correlations between reads of different moments and passes, against theory.

Telegraph noise of devices, telegraph and Ornstein-Uhlenbeck noise of neurons, and relaxation; 1/f noise has its own
tests in test_effects.py. Budget: 1e-5 for every statistical assertion (about 1,000 of them, so 1 % for the file); seeds
are fixed.
"""

import math
from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from support.checks import Array, count_agrees, machine, mean_agrees, moments_agree
from support.effect_cases import NOW
from torch import nn

from noisylearn import Chip, UserError
from noisylearn.chips.crossbar import Crossbar
from noisylearn.chips.execution.noise import node_noise
from noisylearn.chips.readings import Plan
from noisylearn.chips.segments import START, Segment
from noisylearn.effects import Effect, OrnsteinUhlenbeckNode, RandomTelegraphNoise, State, TelegraphNode
from noisylearn.ground.draws import Draws, StreamOf
from noisylearn.profiles import HardwareProfile

ALARM = 1e-5
N = 20_000
LEVEL = 0.4  # r of the devices under test, on a machine of 25 microsiemens


def with_interval(profile: HardwareProfile, pass_interval_us: float) -> HardwareProfile:
    specification = profile.specification
    assert specification.timing is not None
    timing = specification.timing.model_copy(update={"pass_interval_us": pass_interval_us})
    return profile.model_copy(update={"specification": specification.model_copy(update={"timing": timing})})


def devices(profile: HardwareProfile, seed: int = 0, outputs: int = N) -> Chip:
    """One device at LEVEL behind every output but the first, which sets the scale; the pair's other one is at zero."""
    layer = nn.Linear(1, outputs + 1, bias=False).double()
    nn.init.constant_(layer.weight, LEVEL)
    with torch.no_grad():
        layer.weight[0] = 1.0
    return Chip(layer, profile, seed=seed)


def weights(chip: Chip) -> Array:
    return chip.weights()[""][1:, 0].numpy() - LEVEL


def noisy_passes(chip: Chip, passes: int) -> Array:
    """What each pass adds to the weight, (passes, devices): a single sample of input 1."""
    one = torch.ones(1, 1, dtype=torch.float64)
    return chip.passes(one, Plan(((True,),) * passes)).layers[""].activity[:, 0, 1:].numpy() - LEVEL


def covariance_agrees(a: Array, b: Array, expected: float) -> bool:
    """E[a b] of independent pairs of mean zero."""
    return mean_agrees((a * b)[:, None], np.array([expected]), ALARM)


# ---- random telegraph noise of devices ----

SHARE, SWING = 0.7, 0.1 + 0.5 * LEVEL  # A(r) of the profile below


def telegraph(shortest_s: float, longest_s: float) -> HardwareProfile:
    text = f'kind = "random-telegraph-noise"\nshare = {SHARE}\nrelative_amplitude = {{ polynomial = [0.1, 0.5] }}\n'
    return machine(text + f"dwell_time_s = [{shortest_s}, {longest_s}]", devices=True, scale="layer")


def log_uniform_mean_of_exp(lag_s: float, shortest_s: float, longest_s: float) -> float:
    """E exp(-2 lag / tau) by quadrature over ln tau."""
    if shortest_s == longest_s:
        return math.exp(-2 * lag_s / shortest_s)
    low, high = math.log(shortest_s), math.log(longest_s)
    return integrate.quad(lambda u: math.exp(-2 * lag_s * math.exp(-u)), low, high, limit=200)[0] / (high - low)


TELEGRAPH_VARIANCE = SHARE * (LEVEL * SWING / 2) ** 2


@pytest.mark.parametrize("dwell_s", [(0.1, 100.0), (1e-6, 1e3), (5.0, 5.0)])
@pytest.mark.parametrize("lag_s", [0.0, 1e-6, 1e-3, 0.3, 10.0, 500.0])
def test_stated_telegraph_correlation_is_the_mean_over_dwell_times(dwell_s: tuple[float, float], lag_s: float) -> None:
    (effect,) = telegraph(*dwell_s).calibration.effects
    assert isinstance(effect, RandomTelegraphNoise)
    assert effect.correlation(lag_s) == pytest.approx(log_uniform_mean_of_exp(lag_s, *dwell_s), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("dwell_s", [(0.1, 100.0), (3.0, 3.0)])
def test_telegraph_noise_of_devices_forgets_along_the_clock(dwell_s: tuple[float, float]) -> None:
    """Covariance of the effective weight at all pairs of five moments: lags from 0.03 s to 30 s."""
    chip = devices(telegraph(*dwell_s))
    moments_s = [0.0, 0.03, 0.3, 3.0, 30.0]
    seen = [weights(chip)]
    for before, now in pairwise(moments_s):
        chip.advance(now - before)
        seen.append(weights(chip))
    for noise in seen:
        assert moments_agree(noise, 0.0, TELEGRAPH_VARIANCE, ALARM)
        assert count_agrees(int((noise == 0).sum()), N, 1 - SHARE, ALARM)
        assert count_agrees(int((noise > 0).sum()), N, SHARE / 2, ALARM)
    for i, j in combinations(range(len(seen)), 2):
        rho = log_uniform_mean_of_exp(moments_s[j] - moments_s[i], *dwell_s)
        assert covariance_agrees(seen[i], seen[j], TELEGRAPH_VARIANCE * rho), (i, j)
        changed = int((seen[i] * seen[j] < 0).sum())
        assert count_agrees(changed, N, SHARE * (1 - rho) / 2, ALARM), (i, j)


def test_many_short_steps_flip_as_often_as_a_long_one() -> None:
    chip = devices(telegraph(3.0, 3.0))
    before = weights(chip)
    for _ in range(50):
        chip.advance(0.02)
    rho = math.exp(-2 * 1.0 / 3.0)
    assert count_agrees(int((before * weights(chip) < 0).sum()), N, SHARE * (1 - rho) / 2, ALARM)


def test_steps_of_the_clock_far_below_the_dwell_time_do_not_flip_more() -> None:
    """120 steps of 1 us at tau = 1000 s: 1e-9 flips a step and device, far below the grain 6e-8 of a float32 draw."""
    (effect,) = telegraph(1000.0, 1000.0).calibration.effects
    value, state, draw = torch.full((1_000_000,), 10.0), {}, StreamOf(Draws(0), "test")
    effect.start(value, NOW, draw, state)
    before = state["sign"]
    for step in range(120):
        effect.elapse(value, replace(NOW, since_write_s=1e-6 * (step + 1)), draw, state)
    assert int((state["sign"] != before).sum()) <= stats.poisson.isf(ALARM, 1e6 * 120e-9)


@pytest.mark.parametrize("interval_us", [0.01, 0.3, 3.0, 100.0])
@pytest.mark.parametrize("dwell_s", [(1e-7, 1e-4), (1e-6, 1e-6)])
def test_two_passes_share_the_telegraph_noise_that_their_interval_leaves(
    dwell_s: tuple[float, float], interval_us: float
) -> None:
    """Variance of one pass, covariance of two and variance of their difference, 2 (1 - E exp(-2 D / tau))."""
    chip = devices(with_interval(telegraph(*dwell_s), interval_us))
    a, b, _ = noisy_passes(chip, 3)
    rho = log_uniform_mean_of_exp(interval_us * 1e-6, *dwell_s)
    assert moments_agree(a, 0.0, TELEGRAPH_VARIANCE, ALARM)
    assert moments_agree(b - a, 0.0, 2 * TELEGRAPH_VARIANCE * (1 - rho), ALARM)
    assert covariance_agrees(a, b, TELEGRAPH_VARIANCE * rho)


def test_a_write_draws_new_switches() -> None:
    chip = devices(telegraph(3.0, 3.0))
    first = weights(chip)
    chip.program()
    assert count_agrees(int(((first != 0) & (weights(chip) != 0)).sum()), N, SHARE**2, ALARM)
    assert covariance_agrees(first, weights(chip), 0.0)


# ---- telegraph noise of neurons ----


def neurons(dwell_time_us: float, pass_interval_us: float = 1.0) -> HardwareProfile:
    text = 'kind = "telegraph-node"\namplitude = 0.2\namplitude_spread = 0.1\noffset_spread = 0.05\n'
    profile = machine(text + f"dwell_time_us = {dwell_time_us}", devices=True)
    return with_interval(profile, pass_interval_us)


def signs(chip: Chip, batch: int, passes: int) -> Array:
    """What s was in every (pass, sample, neuron): the noise less the neuron's offset, over its amplitude."""
    width = chip.model.weight.shape[0]
    x = torch.zeros(batch, 1, dtype=torch.float64)
    noise = chip.passes(x, Plan(((True,),) * passes)).layers[""].activity
    held = chip.state()["layer/"]
    found = (noise - held["telegraph-node.offset"]) / held["telegraph-node.amplitude"]
    assert noise.shape == (passes, batch, width)
    assert torch.allclose(found.abs(), torch.ones_like(found), atol=1e-6), "two values, those of the neuron"
    return found.round().numpy()


def of_neurons(width: int, profile: HardwareProfile, seed: int = 0) -> Chip:
    torch.manual_seed(0)
    return Chip(nn.Linear(1, width, bias=False).double(), profile, seed=seed)


@pytest.mark.parametrize(("dwell_us", "interval_us"), [(1.0, 0.1), (10.0, 1.0), (10.0, 5.0), (0.1, 1.0), (1e4, 1.0)])
def test_passes_of_a_sample_correlate_by_the_dwell_time(dwell_us: float, interval_us: float) -> None:
    """P(s_p = s_q) = (1 + exp(-2 |p - q| D / tau)) / 2 for all pairs of six passes, 20,000 samples and neurons."""
    chip = of_neurons(40, neurons(dwell_us, interval_us))
    s = signs(chip, 500, 6)
    for p in range(6):
        assert count_agrees(int((s[p] > 0).sum()), N, 0.5, ALARM)
    for p, q in combinations(range(6), 2):
        rho = math.exp(-2 * (q - p) * interval_us / dwell_us)
        assert count_agrees(int((s[p] == s[q]).sum()), N, (1 + rho) / 2, ALARM), (p, q)
    (effect,) = chip.profile.calibration.effects
    assert isinstance(effect, TelegraphNode)
    for lag_us in (0.0, 1.0, 7.0):
        assert effect.correlation(lag_us * 1e-6) == pytest.approx(math.exp(-2 * lag_us / dwell_us))


@pytest.mark.parametrize("interval_us", [0.1, 1.0, 5.0, 50.0])
def test_variance_of_the_difference_of_two_passes_grows_with_their_interval(interval_us: float) -> None:
    """2 m^2 (1 - exp(-2 D / tau)), m the amplitude of each neuron; offsets cancel. One sample, 20,000 neurons."""
    chip = of_neurons(N, neurons(5.0, interval_us))
    a = chip.passes(torch.zeros(1, 1, dtype=torch.float64), Plan(((True,),) * 3)).layers[""].activity[:, 0].numpy()
    for lag in (1, 2):
        expected = 2 * 0.2**2 * (1 + 0.1**2) * (1 - math.exp(-2 * lag * interval_us / 5.0))
        assert moments_agree(a[lag] - a[0], 0.0, expected, ALARM)


def test_samples_neurons_and_calls_are_independent() -> None:
    chip = of_neurons(200, neurons(10.0))
    s, later = signs(chip, 200, 2), signs(chip, 200, 2)
    assert count_agrees(int((s[0, 0::2] == s[0, 1::2]).sum()), N, 0.5, ALARM)
    assert count_agrees(int((s[0, :, 0::2] == s[0, :, 1::2]).sum()), N, 0.5, ALARM)
    assert count_agrees(int((s[1] == later[0]).sum()), 2 * N, 0.5, ALARM)


def test_offset_and_amplitude_belong_to_the_neuron() -> None:
    chip = of_neurons(N, neurons(10.0))
    x = torch.zeros(1, 1, dtype=torch.float64)
    chip(x)
    first = {key: value.clone() for key, value in chip.state()["layer/"].items() if key.startswith("telegraph-node")}
    offset, amplitude = (first[f"telegraph-node.{key}"].numpy() for key in ("offset", "amplitude"))
    assert stats.kstest(offset, stats.norm(0, 0.05).cdf).pvalue > ALARM
    assert stats.kstest(amplitude, stats.norm(0.2, 0.02).cdf).pvalue > ALARM
    assert abs(np.corrcoef(offset, amplitude)[0, 1]) < stats.norm.isf(ALARM / 2) / math.sqrt(N)
    chip.program()
    chip.advance(100.0)
    chip(x)
    again = chip.state()["layer/"]
    assert all(torch.equal(again[key], value) for key, value in first.items()), "they stay through write and time"


# ---- noise of neurons along a trajectory: passes, steps and segments ----

INTERVAL_US, TAU_US = 1.0, 7.0
STEP_INTERVALS_US = {None: 3.0, 12.5: 12.5, 0.5: 3.0}  # stated -> of three passes a microsecond apart, in truth
SLOW_SIGMA = 0.3
SLOW = f'kind = "ornstein-uhlenbeck-node"\nsigma = {SLOW_SIGMA}\ncorrelation_time_us = {TAU_US}'


def slow_neurons(interval_us: float = INTERVAL_US) -> HardwareProfile:
    return with_interval(machine(SLOW, devices=True), interval_us)


def effect_of(profile: HardwareProfile) -> Effect:
    (effect,) = profile.calibration.effects
    return effect


class Trajectory:
    """An effect on neurons (batch, units), followed step by step, segment by segment."""

    def __init__(self, effect: Effect, batch: int, units: int, step_interval_us: float | None) -> None:
        step_interval_s = None if step_interval_us is None else step_interval_us * 1e-6
        self._setting = replace(NOW, pass_interval_s=INTERVAL_US * 1e-6, step_interval_s=step_interval_s)
        self._effect, self._shape, self._draws = effect, (batch, units), Draws(0)
        self._state: State = {}
        self._trail: State = {}
        effect.fabricate(torch.zeros(units), self._setting, StreamOf(self._draws, "test"), self._state)

    def start_anew(self) -> None:
        self._trail = {}

    def segment(self, passes: int, steps: int) -> Array:
        """Noise (passes, steps, batch, units); of telegraph noise its sign."""
        value = torch.zeros(passes, steps, *self._shape, dtype=torch.float64)
        draw = StreamOf(self._draws, "test", passes=range(passes))
        noise = self._effect.evolve(value, self._setting, draw, self._state, self._trail)
        if "offset" in self._state:
            noise = (noise - self._state["offset"]) / self._state["amplitude"]
            assert torch.allclose(noise.abs(), torch.ones_like(noise), atol=1e-5)
            return noise.round().numpy()
        return noise.numpy()


def correlation_agrees(a: Array, b: Array, rho: float) -> bool:
    """Of pairs of signs by their count, of pairs of Gaussian numbers by Fisher's z."""
    a, b = a.ravel(), b.ravel()
    if set(np.unique(a)) == {-1.0, 1.0}:
        return count_agrees(int((a == b).sum()), a.size, (1 + rho) / 2, ALARM)
    limit = stats.norm.isf(ALARM / 2) / math.sqrt(a.size - 3)
    return bool(abs(math.atanh(np.corrcoef(a, b)[0, 1]) - math.atanh(rho)) < limit)


NEURONS = {  # profile, and the time in which correlations fall to 1 / e
    "telegraph": (neurons(TAU_US, INTERVAL_US), TAU_US / 2),
    "ornstein-uhlenbeck": (slow_neurons(), TAU_US),
}


@pytest.mark.parametrize("kind", NEURONS)
@pytest.mark.parametrize("step_interval_us", STEP_INTERVALS_US)
def test_noise_of_neurons_correlates_along_passes_steps_and_segments(kind: str, step_interval_us: float | None) -> None:
    """exp(-lag / tau) for all pairs of reads of three passes in a segment of three steps and one of two."""
    profile, tau_us = NEURONS[kind]
    trajectory = Trajectory(effect_of(profile), 10, N // 10, step_interval_us)
    s = np.concatenate([trajectory.segment(3, 3), trajectory.segment(3, 2)], 1)
    every_us = STEP_INTERVALS_US[step_interval_us]
    times_us = {(p, t): t * every_us + p * INTERVAL_US for p in range(3) for t in range(5)}
    for one, other in combinations(times_us, 2):
        rho = math.exp(-abs(times_us[one] - times_us[other]) / tau_us)
        assert correlation_agrees(s[one], s[other], rho), (one, other)


@pytest.mark.parametrize("kind", NEURONS)
def test_noise_of_neurons_is_stationary_and_independent_across_samples_units_and_sequences(kind: str) -> None:
    trajectory = Trajectory(effect_of(NEURONS[kind][0]), 100, 200, None)
    first = trajectory.segment(2, 30)
    trajectory.start_anew()
    later = trajectory.segment(2, 2)
    for noise in (first, later):
        for read in noise.reshape(-1, N):
            if kind == "telegraph":
                assert count_agrees(int((read > 0).sum()), N, 0.5, ALARM)
            else:
                assert moments_agree(read, 0.0, SLOW_SIGMA**2, ALARM)
                assert stats.kstest(read / SLOW_SIGMA, "norm").pvalue > ALARM
        assert correlation_agrees(noise[1, 1, 0::2], noise[1, 1, 1::2], 0.0), "samples"
        assert correlation_agrees(noise[1, 1, :, 0::2], noise[1, 1, :, 1::2], 0.0), "units"
    for p, q in ((0, 0), (1, 0), (1, 1)):
        assert correlation_agrees(first[p, -1], later[q, 0], 0.0), "sequences"


@pytest.mark.parametrize("kind", NEURONS)
def test_steps_and_units_of_a_layer_have_the_noise_of_its_trajectory(kind: str) -> None:
    """Through the layer's own function: two segments with one trail, and what the second would be without."""
    profile, tau_us = NEURONS[kind]

    def noise(carries_on: bool) -> tuple[Array, Array]:
        layer = nn.Linear(1, 200, bias=False).double()
        draws = Draws(0)
        placed, trail = Crossbar("l", layer, profile, draws), [{}]
        zeros = torch.zeros((), dtype=torch.float64).expand(2, 4, 100, 200)
        first = node_noise(placed, "l", zeros, [0, 1], draws, "pass", trail)
        again = node_noise(placed, "l", zeros, [0, 1], draws, "pass", trail if carries_on else [{}])
        if kind == "telegraph":
            offset, amplitude = (placed.node_memory[0][key] for key in ("offset", "amplitude"))
            first, again = ((x - offset) / amplitude for x in (first, again))
            return first.round().numpy(), again.round().numpy()
        return first.numpy(), again.numpy()

    for carries_on in (True, False):
        first, again = noise(carries_on)
        rho = math.exp(-INTERVAL_US / tau_us) if carries_on else 0.0
        assert correlation_agrees(first[1, -1], again[0, 0], rho)
        assert correlation_agrees(first[0, 0], first[1, 1], math.exp(-3 * INTERVAL_US / tau_us))


class Following(nn.Module):
    """A layer in time whose pre-activations are those of its input: of input zero, the noise."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.layer = nn.Linear(1, units, bias=False).double()

    def forward(self, x: torch.Tensor, state: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        return self.layer(x), x


@pytest.mark.parametrize("carries_on", [True, False])
def test_a_chip_carries_the_noise_of_neurons_from_segment_to_segment(carries_on: bool) -> None:
    """exp(-lag / tau) within a segment and across two, that follow one another as the trajectory does."""
    chip, plan = Chip(Following(200), slow_neurons()), Plan(((True,),) * 2)
    zeros = torch.zeros(3, 100, 1, dtype=torch.float64)
    first = chip.passes(Segment(zeros, in_time=True), plan)
    start = first.end if carries_on else START
    second = chip.passes(Segment(zeros, in_time=True, start=start), plan)
    one, other = (found.layers["layer"].activity.unflatten(1, (3, 100)).numpy() for found in (first, second))
    assert correlation_agrees(one[0, 1], one[1, 2], math.exp(-3 * INTERVAL_US / TAU_US))
    for p, step in ((0, 0), (1, 1)):
        lag_us = (3 * p + 1) * INTERVAL_US if carries_on else math.inf
        assert correlation_agrees(one[1, 2], other[p, step], math.exp(-lag_us / TAU_US))


def test_slow_noise_of_neurons_is_the_chips_own_and_np_would_be_wrong_with_it() -> None:
    """Why it cannot be injected noise: dL e / sigma^2 of two passes correlated by rho is (1 - rho) dL/da."""
    effect = effect_of(slow_neurons())
    assert isinstance(effect, OrnsteinUhlenbeckNode)
    assert not effect.can_be_off
    assert effect.differs_between_passes
    beside = 'kind = "gaussian-node"\nsigma = 0.01'
    for shown, reason in (("injected_noise", "cannot be read out"), ("clean_pass", "cannot be switched off")):
        with pytest.raises(UserError, match=f"ornstein-uhlenbeck-node .*{reason}"):
            machine(SLOW, beside, devices=True, observable=(shown,))
    for lag_us in (0.0, 1.0, 7.0):
        assert effect.correlation(lag_us * 1e-6) == pytest.approx(math.exp(-lag_us / TAU_US))
    baseline, other = Trajectory(effect, N, 1, None).segment(2, 1)[:, 0, :, 0]
    by_np = 2.5 * (other - baseline) * other / SLOW_SIGMA**2  # of a loss 2.5 a
    rho = math.exp(-INTERVAL_US / TAU_US)
    assert mean_agrees(by_np[:, None], np.array([2.5 * (1 - rho)]), ALARM)


@pytest.mark.parametrize("tau_us", [1e-9, 1e12])
def test_very_short_and_very_long_correlation_times_are_noise_without_memory_and_without_change(tau_us: float) -> None:
    effect = effect_of(machine(SLOW.replace(f"{TAU_US}", f"{tau_us}"), devices=True))
    s = Trajectory(effect, 1, N, None).segment(2, 2)
    assert moments_agree(s[1, 1, 0], 0.0, SLOW_SIGMA**2, ALARM)
    if tau_us > 1:
        np.testing.assert_allclose(s, np.broadcast_to(s[0, 0], s.shape), atol=1e-4)
    else:
        assert correlation_agrees(s[0, 0], s[1, 0], 0.0)


# ---- relaxation ----

TIMES_S, SIGMAS = (20.0, 200.0, 2000.0), (1.0, 3.0, 4.0)  # sigma = SIGMAS r at 50 microsiemens


def relaxation(sigmas: tuple[float, ...] = SIGMAS, shift: float = 0.0) -> HardwareProfile:
    """No spread at r = 0, so that only one device of a pair wanders, ten deviations above the floor."""
    curves = ", ".join(f"{{ polynomial = [0.0, {s}] }}" for s in sigmas)
    text = f'kind = "relaxation"\nreference_g_max_us = 50.0\ntimes_s = {[*TIMES_S]}\nsigma_us = [{curves}]\n'
    return machine(text + f"shift_us_per_log_time = {shift}", devices=True, scale="layer")


def wander(age_s: float, sigmas: tuple[float, ...] = SIGMAS) -> float:
    """Standard deviation of the weight: piecewise linear in ln t, written out; constant outside."""
    if age_s <= 20:
        sigma = sigmas[0]
    elif age_s <= 200:
        sigma = sigmas[0] + (sigmas[1] - sigmas[0]) * math.log(age_s / 20) / math.log(10)
    elif age_s <= 2000:
        sigma = sigmas[1] + (sigmas[2] - sigmas[1]) * math.log(age_s / 200) / math.log(10)
    else:
        sigma = sigmas[2]
    return 25 / 50 * sigma * LEVEL / 25


def test_relaxation_has_the_published_spread_and_walks_in_between() -> None:
    """Variance at the stated times, between and beyond, and cov(t1, t2) = var(t1) for all pairs of moments."""
    assert wander(200.0) == pytest.approx(0.024)
    chip = devices(relaxation())
    ages_s = [20.0, 60.0, 200.0, 700.0, 2000.0, 1e5]
    seen = [weights(chip)]
    for before, now in pairwise(ages_s):
        chip.advance(now - before)
        seen.append(weights(chip))
    for age_s, noise in zip(ages_s, seen, strict=True):
        assert moments_agree(noise, 0.0, wander(age_s) ** 2, ALARM), age_s
        assert stats.kstest(noise / wander(age_s), "norm").pvalue > ALARM
    for i, j in combinations(range(len(seen)), 2):
        assert covariance_agrees(seen[i], seen[j], wander(ages_s[i]) ** 2), (i, j)
    for (i, j), (k, m) in combinations(pairwise(range(5)), 2):
        assert covariance_agrees(seen[j] - seen[i], seen[m] - seen[k], 0.0), "steps are independent"
    assert np.array_equal(seen[4], seen[5]), "no growth, no step"


def test_many_short_steps_wander_as_far_as_a_long_one() -> None:
    chip = devices(relaxation())
    first = weights(chip)
    for _ in range(60):
        chip.advance(3.0)
    noise = weights(chip)
    assert moments_agree(noise, 0.0, wander(200.0) ** 2, ALARM)
    assert covariance_agrees(first, noise, wander(20.0) ** 2)


def test_where_the_spread_shrinks_devices_come_back_together() -> None:
    sigmas = (1.0, 4.0, 2.0)
    chip = devices(relaxation(sigmas))
    first = weights(chip)
    chip.advance(180.0)
    widest = weights(chip)
    chip.advance(1800.0)
    last = weights(chip)
    assert moments_agree(widest, 0.0, wander(200.0, sigmas) ** 2, ALARM)
    np.testing.assert_allclose(last, widest / 2, atol=1e-12)
    assert covariance_agrees(first, last, wander(20.0, sigmas) ** 2 / 2)


def test_the_mean_shifts_with_the_logarithm_of_time_and_passes_see_the_same() -> None:
    """Downwards, so that the device at zero stays there; upwards both devices of a pair shift alike."""
    for shift, seen in ((-0.3, -0.3), (0.3, 0.0)):
        chip = devices(relaxation(shift=shift))
        assert moments_agree(weights(chip), 0.0, wander(20.0) ** 2, ALARM)
        chip.advance(380.0)
        noise = weights(chip)
        assert moments_agree(noise, seen * math.log(400 / 20) / 25, wander(400.0) ** 2, ALARM)
        a, b = noisy_passes(chip, 2)
        assert np.array_equal(a, b)
        np.testing.assert_allclose(a, noise, atol=1e-12)


def test_a_write_starts_the_walk_anew() -> None:
    chip = devices(relaxation())
    chip.advance(180.0)
    before = weights(chip)
    chip.program()
    assert moments_agree(weights(chip), 0.0, wander(20.0) ** 2, ALARM)
    assert covariance_agrees(before, weights(chip), 0.0)
    chip.advance(180.0)
    assert moments_agree(weights(chip), 0.0, wander(200.0) ** 2, ALARM)
