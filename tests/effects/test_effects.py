"""Every registered effect: its numbers against stated distributions, published check values and numerical integrals.

Budget: 1e-5 for every single statistical assertion (about 400 of them, so 0.4 % for the file); seeds are fixed.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from support.checks import DRIFT, ONE_OVER_F, PROGRAMMING, Array, count_agrees, machine, moments_agree
from support.effect_cases import ALL, CASES, NOT_OF_ONE_VALUE, NOW, PCM_EFFECTS, Case, np_drift, np_polynomial, np_q
from torch import nn

from noisylearn import Chip
from noisylearn.chips.readings import Plan
from noisylearn.effects import REGISTRY, Curve, Effect, OneOverFReadNoise, PowerLawDrift, ProgrammingNoise, Setting
from noisylearn.ground.draws import Draws, StreamOf
from noisylearn.profiles import load_profile

ALARM = 1e-5
N = 100_000
PCM = load_profile("pcm-nandakumar-2019")


def test_every_registered_effect_has_a_case_here() -> None:
    assert set(CASES) | set(NOT_OF_ONE_VALUE) == set(REGISTRY), (
        "give a new effect its cases above: its distribution, tails included"
    )


def _one_read(case: Case, seed: int, n: int = N) -> Array:
    """n devices at one value, each read once: the effect, and the fresh noise that the chip lumps at the output."""
    draws = Draws(seed)
    value = torch.full(case.shape(n), case.value, dtype=torch.float64)
    draw, state = StreamOf(draws, "test", case.effect.kind), {}
    case.effect.fabricate(value[0, 0] if value.dim() == 3 else value, case.setting, draw, state)
    case.effect.start(value, replace(case.setting, since_write_s=0.0), draw, state)
    case.effect.elapse(value, case.setting, draw, state)
    fresh = case.effect.read_variance(value, case.setting, state)
    only_fresh = case.effect.site == "weight" and case.effect.lifetime == "read"
    read = value if only_fresh else case.effect.apply(value, case.setting, draw, state)
    if fresh is not None:
        read = read + fresh.sqrt() * draws.normal(("test", "fresh"), (n,)).double()
    return read.flatten().numpy()


@pytest.mark.parametrize(("kind", "i", "case"), ALL, ids=[f"{k}-{i}" for k, i, _ in ALL])
def test_reads_have_the_stated_moments_distribution_and_tails(kind: str, i: int, case: Case) -> None:
    reads = _one_read(case, seed=i)
    stated = case.effect.moments(torch.tensor(case.value, dtype=torch.float64), case.setting)
    if case.atoms:
        found, counts = np.unique(reads, return_counts=True)
        np.testing.assert_allclose(found, sorted(case.atoms), atol=1e-6)
        for value, count in zip(sorted(case.atoms), counts, strict=True):
            assert count_agrees(int(count), N, case.atoms[value], ALARM)
        return
    assert case.cdf is not None
    assert moments_agree(reads, float(stated.mean), float(stated.variance), ALARM)
    if case.floored:
        at_zero = float(case.cdf(np.zeros(1))[0])
        assert (reads >= 0).all()
        assert count_agrees(int((reads == 0).sum()), N, at_zero, ALARM)
        above = reads[reads > 0]
        assert stats.kstest(above, lambda x: (case.cdf(x) - at_zero) / (1 - at_zero)).pvalue > ALARM
    else:
        assert stats.kstest(reads, case.cdf).pvalue > ALARM
    if case.z is not None:
        z = case.z(reads)
        for limit in (3.0, 4.0):
            assert count_agrees(int((z > limit).sum()), N, stats.norm.sf(limit), ALARM)
            assert count_agrees(int((z < -limit).sum()), N, stats.norm.sf(limit), ALARM)


@pytest.mark.parametrize(("kind", "i", "case"), ALL, ids=[f"{k}-{i}" for k, i, _ in ALL])
def test_stated_moments_are_those_of_the_distribution_by_integration(kind: str, i: int, case: Case) -> None:
    """Mean and variance from the cdf alone, without a sample: x = 0 carries what the floor catches."""
    middle = float(case.effect.moments(torch.tensor(case.value, dtype=torch.float64), case.setting).mean)
    if case.atoms:
        expected = sum(value * p for value, p in case.atoms.items())
        second = sum(value**2 * p for value, p in case.atoms.items())
        variance = float(case.effect.moments(torch.tensor(case.value, dtype=torch.float64), case.setting).variance)
        assert middle == pytest.approx(expected, abs=1e-9)
        assert variance == pytest.approx(second - expected**2, rel=1e-6, abs=1e-9)
        return
    assert case.cdf is not None
    deviation = float(case.effect.moments(torch.tensor(case.value, dtype=torch.float64), case.setting).variance) ** 0.5
    low = 0.0 if case.floored else middle - 12 * deviation
    if kind == "power-law-drift":
        low = case.value * 1e-6
    reach = 80 if kind == "conductance-spread" else 12  # a lognormal tail is long
    x = np.linspace(low, max(middle + reach * deviation, case.value), 400_001)
    survival = 1 - case.cdf(x)
    mean = x[0] + integrate.trapezoid(survival, x)
    second = x[0] ** 2 + integrate.trapezoid(2 * x * survival, x)
    assert middle == pytest.approx(mean, rel=1e-5, abs=1e-5 * deviation)
    assert deviation**2 == pytest.approx(second - mean**2, rel=1e-3)


def test_a_wrong_variance_mean_or_tail_is_noticed() -> None:
    """The criteria themselves: 2 % in sigma, 2 % of sigma in the mean, heavier tails, no rectification."""
    z = np.random.default_rng(0).standard_normal(N)
    assert moments_agree(z, 0.0, 1.0, ALARM)
    assert not moments_agree(z, 0.0, 1.02**2, ALARM)
    assert not moments_agree(z, 0.02, 1.0, ALARM)
    heavy = np.random.default_rng(0).standard_t(10, N) * math.sqrt(0.8)
    assert not count_agrees(int((heavy > 4).sum()), N, stats.norm.sf(4), ALARM)
    floored = np.maximum(0.1 + z, 0)
    assert not moments_agree(floored, 0.1, 1.0, ALARM)


# ---- phase-change memory: published values ----


def test_packaged_pcm_profile_states_the_published_fits() -> None:
    assert PCM.calibration.effects[0].sigma_us.polynomial == (0.26348, 1.9650, -1.1731)  # type: ignore[union-attr]
    stated = {e.kind: e for e in PCM.calibration.effects}
    r = torch.tensor([0.003, 0.02, 0.1, 0.4, 1.0], dtype=torch.float64)
    drift, noise = stated["power-law-drift"], stated["one-over-f-read-noise"]
    assert isinstance(drift, PowerLawDrift)
    assert isinstance(noise, OneOverFReadNoise)
    for value in r.tolist():
        one = torch.tensor(value, dtype=torch.float64)
        assert float(drift.exponent_mean(one)) == pytest.approx(np_drift(value)[0])
        assert float(drift.exponent_spread(one)) == pytest.approx(np_drift(value)[1])
        assert float(noise.relative_amplitude(one)) == pytest.approx(np_q(value))
    assert PCM.specification.mapping is not None
    assert PCM.specification.timing is not None
    assert PCM.specification.mapping.g_max_us == 25.0
    assert (PCM.specification.timing.t0_s, noise.t_read_ns) == (20.0, 250.0)


def test_pcm_check_values_at_25_microsiemens() -> None:
    full = torch.tensor(25.0, dtype=torch.float64)
    programming = PCM_EFFECTS["programming-noise"]
    assert isinstance(programming, ProgrammingNoise)
    assert float(programming.deviation_us(full, 25.0)) == pytest.approx(1.05, abs=0.006)
    noise = PCM_EFFECTS["one-over-f-read-noise"]
    for since, sigma in ((1.0, 0.92), (3600.0, 1.05), (86400.0, 1.12)):
        found = float(noise.moments(full, replace(NOW, since_write_s=since)).variance) ** 0.5
        assert found == pytest.approx(sigma, abs=0.005), since


@pytest.mark.parametrize(
    ("interval_s", "ratio"), [(0.25e-6, 0.31), (1e-6, 0.42), (1e-5, 0.56), (1e-3, 0.76), (1.0, 0.98)]
)
def test_pcm_difference_of_two_reads(interval_s: float, ratio: float) -> None:
    """Deviation of a difference over that of independent reads, 1 s after programming, 21 s on the profile's clock."""
    noise = PCM_EFFECTS["one-over-f-read-noise"]
    assert isinstance(noise, OneOverFReadNoise)
    correlation = noise.covariance(interval_s, NOW) / noise.log_bandwidth(NOW)
    assert math.sqrt(1 - correlation) == pytest.approx(ratio, abs=0.006)


def _spectrum_covariance(lag_s: float, age_s: float, t_read_s: float) -> float:
    """integral of cos(2 pi f D) / f over the band, by quadrature: plain in ln f below 1/D, Fourier weights above."""
    f0, f1 = 1 / (age_s + t_read_s), 1 / (2 * t_read_s)
    split = min(max(1 / lag_s, f0), f1)
    slow = integrate.quad(
        lambda u: math.cos(2 * math.pi * math.exp(u) * lag_s), math.log(f0), math.log(split), limit=400
    )
    total = slow[0]
    if split < f1:
        omega = 2 * math.pi * lag_s
        tails = [
            integrate.quad(lambda f: 1 / f, start, math.inf, weight="cos", wvar=omega, limlst=200)[0]
            for start in (split, f1)
        ]
        total += tails[0] - tails[1]
    return total


@pytest.mark.parametrize("age_s", [20.0, 21.0, 3620.0, 1e6])
@pytest.mark.parametrize("lag_s", [1e-8, 2.5e-7, 1e-6, 1e-4, 0.1, 1.0, 10.0])
def test_covariance_is_the_integral_of_the_spectrum(lag_s: float, age_s: float) -> None:
    noise = PCM_EFFECTS["one-over-f-read-noise"]
    assert isinstance(noise, OneOverFReadNoise)
    setting = replace(NOW, since_write_s=age_s - 20)
    expected = max(_spectrum_covariance(lag_s, age_s, 250e-9), 0.0)  # a band cut at 1/t makes it ripple below zero
    assert noise.covariance(lag_s, setting) == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert noise.covariance(0.0, setting) == pytest.approx(math.log((age_s + 250e-9) / 500e-9), rel=1e-9)


@given(lag=st.floats(1e-9, 1e6), longer=st.floats(1.0, 1e3), since=st.floats(0, 1e8))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_fresh_and_slow_part_are_variances(lag: float, longer: float, since: float) -> None:
    noise = PCM_EFFECTS["one-over-f-read-noise"]
    assert isinstance(noise, OneOverFReadNoise)
    setting = replace(NOW, since_write_s=since, pass_interval_s=lag)
    variance = noise.covariance(0.0, setting)
    assert 0 <= noise.covariance(lag, setting) <= variance
    assert noise.covariance(lag * longer, setting) <= noise.covariance(lag, setting) + 0.12  # Ci ripples around zero
    written, state = torch.tensor([0.0, 1.0, 25.0]), {}
    noise.start(written, setting, StreamOf(Draws(0), "test"), state)
    fresh = noise.read_variance(written, setting, state)
    assert torch.isfinite(fresh).all()
    assert (fresh >= 0).all()
    assert fresh[0] == 0


# ---- effects on a chip ----

DEVICES = (40, 60)  # outputs, inputs


def _linear(seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    layer = nn.Linear(DEVICES[1], DEVICES[0], bias=False).double()
    with torch.no_grad():
        layer.weight.uniform_(-1, 1)
    return layer


def _all_noisy(passes: int) -> Plan:
    return Plan(((True,),) * passes)


def test_two_passes_differ_by_twice_the_fresh_variance() -> None:
    """var(y1 - y2) = 2 K (ln(f1/f0) - R(D)) summed over devices, R by numerical integration; chi-square test.

    4000 samples x 40 outputs; every difference is Gaussian and independent. Against independent reads the standard
    deviation is 0.42, the profile's headline number.
    """
    layer = _linear()
    chip = Chip(layer, machine(ONE_OVER_F, devices=True), seed=1)
    chip.advance(1.0)
    x = torch.rand(4000, DEVICES[1], dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    a = chip.passes(x, _all_noisy(2)).layers[""].activity.numpy()
    weight = layer.weight.detach().numpy()
    scale = np.abs(weight).max(1) / 25.0
    conductance = np.abs(weight) / scale[:, None]
    K = (conductance * np.vectorize(np_q)(conductance / 25.0)) ** 2
    fresh = math.log(21 / 500e-9) - _spectrum_covariance(1e-6, 21.0, 250e-9)
    variance = 2 * fresh * (x.numpy() ** 2 @ (K * scale[:, None] ** 2).T)
    squares = (a[1] - a[0]) ** 2 / variance
    low, high = stats.chi2.ppf([ALARM / 2, 1 - ALARM / 2], squares.size) / squares.size
    assert low < squares.mean() < high
    assert high - low < 0.04, "a factor would be seen"
    assert stats.kstest(((a[1] - a[0]) / np.sqrt(variance)).ravel(), "norm").pvalue > ALARM
    ratio = math.sqrt(fresh / math.log(21 / 500e-9))
    assert ratio == pytest.approx(0.42, abs=0.005)


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_lumped_read_noise_is_that_of_single_devices(kind: str) -> None:
    """One draw per output against one draw per device, output and sample, written out in numpy.

    Both devices of a pair are programmed off zero by the programming noise; mean, variance, KS and 3 sigma counts.
    """
    torch.manual_seed(0)
    layer: Any = nn.Linear(6, 3).double() if kind == "linear" else nn.Conv2d(2, 3, 2).double()
    profile = machine(PROGRAMMING, ONE_OVER_F, devices=True)
    chip = Chip(layer, profile, seed=4)
    n = 20_000
    shape = (6,) if kind == "linear" else (2, 3, 3)
    sample = torch.randn(1, *shape, dtype=torch.float64)
    a = chip.passes(sample.repeat(n, *[1] * len(shape)), _all_noisy(1)).layers[""].activity[0]
    held = chip.state()["layer/"]
    g, scale = held["written"].numpy(), held["scale"].numpy()
    sd = g * np.vectorize(lambda r: np_q(r) if r > 0 else 0.0)(g / 25.0)
    sd *= math.sqrt(math.log(20 / 500e-9) - _spectrum_covariance(1e-6, 20.0, 250e-9))
    rng = np.random.default_rng(0)
    noise = sd[:, None] * rng.standard_normal((2, n, *sd.shape[1:]))
    single = (noise[0] - noise[1]) * scale  # (n, outputs, inputs)
    if kind == "linear":
        direct = np.einsum("noi,i->no", single, sample[0].numpy())
        lumped = (a - layer(sample).detach()).numpy()
    else:
        direct = np.einsum("noi,i->no", single, sample[0, :, :2, :2].flatten().numpy())
        lumped = (a - layer(sample).detach())[:, :, 0, 0].numpy()
    for unit in range(3):
        moving = lumped[:, unit] - lumped[:, unit].mean()  # programming and slow parts are constant here
        assert stats.ks_2samp(moving, direct[:, unit]).pvalue > ALARM
        deviation = direct[:, unit].std()
        F = moving.var() / direct[:, unit].var()
        assert abs(math.log(F)) < stats.norm.ppf(1 - ALARM / 2) * math.sqrt(4 / n)
        assert count_agrees(int((np.abs(moving) > 3 * deviation).sum()), n, 2 * stats.norm.sf(3), ALARM / 10)


def test_programming_redraws_and_passes_share_what_was_programmed() -> None:
    chip = Chip(_linear(), machine(PROGRAMMING, devices=True), seed=0)
    first = chip.weights()[""]
    x = torch.eye(DEVICES[1], dtype=torch.float64)
    a = chip.passes(x, _all_noisy(2)).layers[""].activity
    torch.testing.assert_close(a[0], first.T)
    assert torch.equal(a[0], a[1]), "programming noise is the same in both passes"
    chip.advance(100.0)
    assert torch.equal(chip.weights()[""], first)
    chip.program()
    second = chip.weights()[""]
    target = chip.model.weight.detach()
    errors = np.stack([(w - target).flatten().numpy() for w in (first, second)])
    assert abs(np.corrcoef(errors)[0, 1]) * math.sqrt(errors.shape[1]) < stats.norm.ppf(1 - ALARM / 2)


def test_the_pair_of_devices_has_the_moments_of_two_rectified_normals() -> None:
    """w = (G+ - G-) scale with targets (w / scale, 0): mean and variance from the cdf of each, 20,000 pairs."""
    layer = nn.Linear(20_000, 1, bias=False).double()
    r = 0.2
    with torch.no_grad():
        layer.weight.fill_(r)
        layer.weight[0, 0] = 1.0
    written = Chip(layer, machine(PROGRAMMING, devices=True), seed=0).weights()[""][0, 1:].numpy()

    def rectified(target: float, sigma: float) -> tuple[float, float]:
        z = np.linspace(-12, 12, 200_001)
        g, density = np.maximum(target + sigma * z, 0), stats.norm.pdf(z)
        mean = integrate.trapezoid(g * density, z)
        return mean, integrate.trapezoid(g**2 * density, z) - mean**2

    plus, minus = rectified(25 * r, np_polynomial(r)), rectified(0.0, np_polynomial(0.0))
    assert minus[0] > 0.1, "the floor makes a bias"
    assert moments_agree(written, (plus[0] - minus[0]) / 25, (plus[1] + minus[1]) / 25**2, ALARM)


@pytest.mark.parametrize("seconds", [60.0, 86400.0])
def test_advance_lets_the_mean_conductance_fall_by_the_closed_form(seconds: float) -> None:
    """G(t) = G (t / t0)^-nu averaged over |N(mu, s)|; exact programming, so that r is known. 20,000 devices."""
    layer = nn.Linear(20_000, 1, bias=False).double()
    r = 0.2
    with torch.no_grad():
        layer.weight.fill_(r)
        layer.weight[0, 0] = 1.0
    chip = Chip(layer, machine(DRIFT, devices=True), seed=0)
    assert torch.equal(chip.weights()[""], layer.weight.detach()), "no drift at the moment of writing"
    chip.advance(seconds)
    fallen = chip.weights()[""][0, 1:].numpy()
    mu, s = np_drift(r)
    nu = np.abs(np.linspace(mu - 12 * s, mu + 12 * s, 100_001))
    density = stats.norm.pdf(np.linspace(-12, 12, 100_001)) * 24 / 100_000
    factor = ((seconds + 20) / 20) ** -nu
    mean = (factor * density).sum()
    assert moments_agree(fallen, r * mean, r**2 * ((factor**2 * density).sum() - mean**2), ALARM)
    assert mean < 0.95
    again = chip.weights()[""][0, 1:].numpy()
    assert np.array_equal(again, fallen), "the exponent belongs to the device"
    chip.advance(1000.0)
    later = chip.weights()[""][0, 1:].numpy()
    exponents = np.log(later / r) / np.log((seconds + 1020) / 20)
    np.testing.assert_allclose(exponents, np.log(fallen / r) / np.log((seconds + 20) / 20), rtol=1e-8)
    chip.program()
    assert torch.equal(chip.weights()[""], layer.weight.detach())
    chip.advance(seconds)
    assert not np.array_equal(chip.weights()[""][0, 1:].numpy(), fallen), "a new write, a new exponent"


@pytest.mark.parametrize("lag_s", [1e-4, 0.1, 5.0])
def test_slow_part_keeps_the_autocorrelation_of_the_spectrum(lag_s: float) -> None:
    """Correlation of the effective weights before and after chip.advance is R(lag) / R(D); Fisher z, 20,000 devices."""
    layer = nn.Linear(20_000, 1, bias=False).double()
    with torch.no_grad():
        layer.weight.fill_(1.0)
    chip = Chip(layer, machine(ONE_OVER_F, devices=True), seed=0)
    chip.advance(100.0)
    offsets = []
    for wait in (0.0, lag_s):
        chip.advance(wait)
        offsets.append(chip.weights()[""][0].numpy() - 1.0)
    age = 120.0 + lag_s
    slow = _spectrum_covariance(1e-6, age, 250e-9)
    rho = _spectrum_covariance(lag_s, age, 250e-9) / slow
    found = np.corrcoef(*offsets)[0, 1]
    limit = stats.norm.ppf(1 - ALARM / 2) / math.sqrt(20_000 - 3)
    assert abs(math.atanh(found) - math.atanh(rho)) < limit
    assert moments_agree(offsets[1], 0.0, (0.0088**2) * slow, ALARM)
    assert stats.kstest(offsets[1] / math.sqrt(0.0088**2 * slow), "norm").pvalue > ALARM


def test_many_short_steps_of_the_clock_equal_a_long_one() -> None:
    layer = nn.Linear(20_000, 1, bias=False).double()
    with torch.no_grad():
        layer.weight.fill_(1.0)
    chip = Chip(layer, machine(ONE_OVER_F, devices=True), seed=0)
    chip.advance(100.0)
    before = chip.weights()[""][0].numpy() - 1.0
    for _ in range(50):
        chip.advance(0.1)
    found = np.corrcoef(before, chip.weights()[""][0].numpy() - 1.0)[0, 1]
    rho = _spectrum_covariance(5.0, 125.0, 250e-9) / _spectrum_covariance(1e-6, 125.0, 250e-9)
    assert abs(math.atanh(found) - math.atanh(rho)) < stats.norm.ppf(1 - ALARM / 2) / math.sqrt(20_000 - 3)


@pytest.mark.parametrize("step_s", [1e-9, 1e-7, 1e-6, 1e-5])
def test_steps_of_the_clock_near_the_pass_interval_keep_the_variance(step_s: float) -> None:
    layer = nn.Linear(20_000, 1, bias=False).double()
    with torch.no_grad():
        layer.weight.fill_(1.0)
    chip = Chip(layer, machine(ONE_OVER_F, devices=True), seed=0)
    for _ in range(40):
        chip.advance(step_s)
    offsets = chip.weights()[""][0].numpy() - 1.0
    slow = _spectrum_covariance(1e-6, 20.0, 250e-9)
    assert moments_agree(offsets, 0.0, 0.0088**2 * slow, ALARM)


def test_steps_of_all_sizes_keep_the_variance() -> None:
    layer = nn.Linear(20_000, 1, bias=False).double()
    with torch.no_grad():
        layer.weight.fill_(1.0)
    chip = Chip(layer, machine(ONE_OVER_F, devices=True), seed=0)
    steps = np.random.default_rng(0).permutation(np.logspace(-6, 3, 60))
    for step_s in steps:
        chip.advance(float(step_s))
    offsets = chip.weights()[""][0].numpy() - 1.0
    slow = _spectrum_covariance(1e-6, 20.0 + steps.sum(), 250e-9)
    assert moments_agree(offsets, 0.0, 0.0088**2 * slow, ALARM)


def test_the_slow_part_is_common_to_all_passes_and_looks() -> None:
    layer = _linear()
    chip = Chip(layer, machine(ONE_OVER_F, devices=True), seed=0)
    weight = chip.weights()[""]
    assert not torch.equal(weight, layer.weight.detach())
    x = torch.eye(DEVICES[1], dtype=torch.float64).repeat(400, 1)
    a = chip.passes(x, _all_noisy(2)).layers[""].activity.mean(0).reshape(400, DEVICES[1], -1).mean(0)
    spread = chip.passes(x, _all_noisy(2)).layers[""].activity[0].reshape(400, DEVICES[1], -1).std(0) / 800**0.5
    assert float(((a - weight.T) / spread.clamp(min=1e-12)).abs().max()) < stats.norm.ppf(1 - ALARM / 2 / 2400) * 1.2


@pytest.mark.parametrize("rho", [0.0, 0.6, 1.0])
def test_correlated_noise_correlates_units_and_nothing_else(rho: float) -> None:
    (effect,) = machine(f'kind = "correlated-node"\nsigma = 0.1\ncorrelation = {rho}').calibration.effects
    z = effect.apply(torch.zeros(2, 20_000, 3), Setting(), StreamOf(Draws(0), "test"), {}).double().numpy() / 0.1
    limit = stats.norm.isf(ALARM / 2) / math.sqrt(20_000 - 3)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        found = np.corrcoef(z[0, :, i], z[0, :, j])[0, 1]
        assert found == pytest.approx(1.0) if rho == 1 else abs(math.atanh(found) - math.atanh(rho)) < limit
    assert abs(np.corrcoef(z[0, :, 0], z[1, :, 0])[0, 1]) < limit, "passes"
    assert abs(np.corrcoef(z[0, ::2, 0], z[0, 1::2, 0])[0, 1]) < limit * math.sqrt(2), "samples"


@pytest.mark.parametrize("kind", ["gaussian-node\nsigma", "uniform-node\nwidth", "bernoulli-node\namplitude"])
def test_noise_of_units_samples_and_passes_is_independent(kind: str) -> None:
    name, number = kind.split("\n")
    (effect,) = machine(f'kind = "{name}"\n{number} = 0.1').calibration.effects
    z = effect.apply(torch.zeros(2, 20_000, 2), Setting(), StreamOf(Draws(0), "test"), {}).double().numpy()
    pairs = ((z[0, :, 0], z[0, :, 1]), (z[0, :, 0], z[1, :, 0]), (z[0, :-1, 0], z[0, 1:, 0]))
    limit = stats.norm.isf(ALARM / 2) / math.sqrt(20_000 - 4)
    assert all(abs(np.corrcoef(a, b)[0, 1]) < limit for a, b in pairs)


@pytest.mark.parametrize(
    "text",
    [
        'kind = "conductance-spread"\nsigma = 0.2\ndistribution = "normal"',
        'kind = "conductance-spread"\nsigma = 0.2\ndistribution = "lognormal"',
        'kind = "stuck-devices"\nat_g_min = 0.2\nat_g_max = 0.1',
    ],
)
def test_what_belongs_to_a_device_stays_through_every_write(text: str) -> None:
    layer = _linear()
    chip = Chip(layer, machine(text, devices=True), seed=0)
    first = chip.state()["layer/"]["written"].clone()
    target = layer.weight.detach().abs() / layer.weight.detach().abs().amax(1, keepdim=True) * 25
    own = torch.where(layer.weight.detach() > 0, first[0], first[1])  # the device of the pair that holds the weight
    assert not torch.allclose(own, target)
    chip.advance(1000.0)
    chip.program()
    assert torch.equal(chip.state()["layer/"]["written"], first)
    with torch.no_grad():
        layer.weight.mul_(-1)
    chip.program()
    after = chip.state()["layer/"]["written"]
    if "stuck" in text:
        for g in (0.0, 25.0):
            assert ((first == g) & (after == g)).sum() > 0.08 * first.numel()
        stuck = (first == 25.0) & (after == 25.0)
        assert count_agrees(int(stuck.sum()), first.numel(), 0.1, ALARM)
    else:
        factors = first.sum(0) / target, after.sum(0) / target
        z = [(f.log() if "lognormal" in text else f - 1).flatten().numpy() for f in factors]
        assert abs(np.corrcoef(*z)[0, 1]) < stats.norm.isf(ALARM / 2) / math.sqrt(len(z[0]) - 3), "each device its own"
    assert torch.equal(Chip(_linear(), machine(text, devices=True), seed=0).state()["layer/"]["written"], first)
    assert not torch.equal(Chip(_linear(), machine(text, devices=True), seed=1).state()["layer/"]["written"], first)


def test_curves_are_the_published_formulas() -> None:
    """Pieces, saturation and fits against microsiemens, as devices.md has them, at values around their joints."""
    r = torch.tensor([0.0, 0.01, 0.0944, 0.0946, 0.3, 0.5, 1.0], dtype=torch.float64)
    hermes = Curve(
        polynomial=(0.0736, -0.0126, -0.0436),
        below={"limit": 0.0945, "log": (-0.0387, -0.0182), "clip": (0.072, 0.13)},
    )
    expected = [
        min(max(-0.0387 * math.log(max(v, 1e-30)) - 0.0182, 0.072), 0.13)
        if v < 0.0945
        else -0.0436 * v**2 - 0.0126 * v + 0.0736
        for v in r.tolist()
    ]
    np.testing.assert_allclose(hermes(r), expected, rtol=1e-12)
    sonos = Curve(saturating=(19.887, 176.31), argument="us")
    np.testing.assert_allclose(sonos.at(r, 3200.0), 19.887 * (1 - np.exp(-3200 * r.numpy() / 176.31)), rtol=1e-12)
    cmo = Curve(polynomial=(0.0112185391, 0.01129027418), argument="us")
    np.testing.assert_allclose(cmo.at(r, 88.2), 0.0112185391 + 0.01129027418 * 88.2 * r.numpy(), rtol=1e-12)
    joshi = Curve(polynomial=(0.28638599, 0.07585724, -0.00178767), argument="us", clip=(0.0, math.inf))
    g = 60 * r.numpy()
    np.testing.assert_allclose(
        joshi.at(r, 60.0), np.maximum(-0.00178767 * g**2 + 0.07585724 * g + 0.28638599, 0), rtol=1e-12
    )
    assert not hermes.is_constant
    assert Curve(polynomial=(0.4,)).is_constant
    assert not Curve(polynomial=(0.4,), below={"limit": 0.1, "polynomial": (0.2,)}).is_constant


def test_programming_noise_fitted_at_another_range_is_rescaled() -> None:
    """ReRAM fitted at 40 microsiemens and used at 25: sigma(r) in units of the range stays (devices.md)."""
    curve = "{ polynomial = [0.348, 16.030, -43.853, 45.393, -16.815] }"
    text = f'kind = "programming-noise"\nreference_g_max_us = 40.0\nsigma_us = {curve}'
    (effect,) = machine(text, devices=True).calibration.effects
    assert isinstance(effect, ProgrammingNoise)
    for r in (0.0, 0.2, 1.0):
        fit = np.polyval([-16.815, 45.393, -43.853, 16.030, 0.348], r)
        for g_max in (25.0, 40.0):
            target = torch.tensor(r * g_max, dtype=torch.float64)
            assert float(effect.deviation_us(target, g_max)) == pytest.approx(g_max / 40 * fit)
    by_us = Curve(polynomial=(0.1, 0.01), argument="us")
    fitted = effect.model_copy(update={"sigma_us": by_us})
    assert float(fitted.deviation_us(torch.tensor(12.5), 25.0)) == pytest.approx(25 / 40 * (0.1 + 0.01 * 20))


def test_effects_that_need_no_device_refuse_moments_they_lack() -> None:
    class Bare(Effect):
        site = "weight"
        lifetime = "read"

    bare = Bare(status="assumed", source="test", kind="bare")
    with pytest.raises(TypeError, match="no moments"):
        bare.moments(torch.zeros(1), Setting())
    with pytest.raises(TypeError, match="no apply"):
        bare.apply(torch.zeros(1), Setting(), StreamOf(Draws(0)), {})


def test_read_noise_of_a_drifted_device_keeps_the_relative_amplitude_it_was_written_with() -> None:
    """sigma = G_drift Q(G_written) sqrt(ln ...): half the conductance has half the noise, whatever Q there."""
    noise = PCM_EFFECTS["one-over-f-read-noise"]
    written, state = torch.tensor([0.1, 1.0, 25.0]), {}
    noise.start(written, NOW, StreamOf(Draws(0), "test"), state)
    later = replace(NOW, since_write_s=86_400.0)
    draw = StreamOf(Draws(0), "test")
    assert torch.allclose(
        noise.read_variance(0.5 * written, later, state), 0.25 * noise.read_variance(written, later, state)
    )
    slow = [noise.apply(g, later, draw, state) - g for g in (written, 0.5 * written)]
    assert torch.allclose(slow[1], 0.5 * slow[0])
