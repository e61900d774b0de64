"""Pulsed devices: trains of pulses on simulated devices, fitted, and compared with what the profile states.

Numbers must lie within 4.5 standard errors of those stated: of about 90, one lies outside by chance in 1 run of 1,600;
seeds are fixed.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from noisylearn import UserError
from noisylearn.fitting import EffectFit, FittedProfile, Measurements, Plan, fit_profile, measure
from noisylearn.fitting.population import population
from noisylearn.fitting.simulate import FULL_SCALE_US, ZERO_US
from noisylearn.fitting.trains import equal_trains, place, steps_of
from noisylearn.ground.draws import Draws, StreamOf
from noisylearn.profiles import load_profile, profile_files
from noisylearn.profiles.write import PulsedDevice

FAR = 4.5
PULSED = {name: device for name in profile_files() if (device := load_profile(name).in_place) is not None}
RESOLVED = [
    "capacitor-li-2018", "ecram-mo-kim-2019", "ecram-tang-2018", "idealised-device", "reram-soft-bounds-gong-2018",
]  # fmt: skip
EXPONENTIAL = ["pcm-pair-nandakumar-2020", "reram-exponential-gong-2018"]
NOT_SEEN = {
    "lifetime_updates",
    "reference_spread",
    "granularity",
}  # leak of months, circuits, and no property of a device


def fitted(name: str, devices: int = 200, seed: int = 1) -> FittedProfile:
    return of_scale(measure(load_profile(name), Plan(devices=devices), seed))


def of_scale(made: Measurements) -> FittedProfile:
    return fit_profile(made, zero_us=ZERO_US, full_scale_us=FULL_SCALE_US)


def noisily_read(name: str, ratio: float, devices: int, seed: int) -> tuple[Measurements, float]:
    """Trains whose reads have noise of their own, as a ratio of that of the pulses between two, and its size."""
    made, device = measure(load_profile(name), Plan(devices=devices), seed), PULSED[name].device
    sigma = ratio * device.cycle_spread * device.dw_min * np.abs(made.pulse).max() ** 0.5
    z = np.random.default_rng(seed).standard_normal(len(made))
    return replace(made, conductance_us=made.conductance_us + FULL_SCALE_US * sigma * z), sigma


def only_fit(found: FittedProfile) -> EffectFit:
    (fit,) = found.effects
    return fit


def test_every_pulsed_profile_is_spoken_of() -> None:
    assert set(PULSED) == {*RESOLVED, *EXPONENTIAL, "reram-hfo2-gong-2022", "reram-om-gong-2022"}


@pytest.mark.parametrize("name", RESOLVED)
def test_numbers_of_packaged_profiles_come_back(name: str) -> None:
    found = fitted(name)
    device, fit = PULSED[name].device, only_fit(found)
    assert fit.numbers["step"] == device.step
    assert not fit.warnings
    away = {p.key: (p.value - getattr(device, p.key)) / p.error for p in fit.parameters if p.error}
    assert len(away) >= 9
    assert not {key: z for key, z in away.items() if not abs(z) < FAR}
    stated = {key for key, value in device.model_dump(exclude_defaults=True).items() if isinstance(value, float)}
    assert stated - NOT_SEEN - {"up_down", "up_down_spread", "gamma_spread"} <= {p.key for p in fit.parameters}


def median_steps(device: PulsedDevice, direction: float) -> torch.Tensor:
    """Median steps over devices at five states in the middle of the range."""
    state = device.fabricate((20_000,), StreamOf(Draws(0, dtype=torch.float64), "devices"))
    middle, width = (device.w_min + 2.0) / 2 if device.one_sided else 0.0, 0.3
    w = torch.linspace(middle - width, middle + width, 5, dtype=torch.float64)[:, None].expand(-1, 20_000)
    return device.mean_step(w, torch.full_like(w, direction), state).quantile(0.5, dim=1)


def median_noise(device: PulsedDevice, direction: float) -> float:
    """Median size of a pulse's noise over devices in the middle of the range."""
    draw = StreamOf(Draws(0, dtype=torch.float64), "devices")
    state = device.fabricate((20_000,), draw)
    w = torch.full((20_000,), 1.0 if device.one_sided else 0.0, dtype=torch.float64)
    pulses = torch.full_like(w, direction)
    moved = device.pulse(w, pulses, state, draw, torch.empty_like(w)) - w
    return float((moved - direction * device.mean_step(w, pulses, state)).abs().median())


@pytest.mark.parametrize("name", RESOLVED)
def test_noise_of_pulses_is_without_that_of_reads(name: str) -> None:
    device = PULSED[name].device
    for ratio in (0.3, 1.0):
        made, sigma = noisily_read(name, ratio, 200, seed=1)
        found = {p.key: p for p in only_fit(of_scale(made)).parameters}
        cycle, write = found["cycle_spread"], found["write_noise"]
        assert cycle.error < device.cycle_spread / 4
        assert abs(cycle.value - device.cycle_spread) < FAR * cycle.error
        assert write.error < write.value / 4
        assert abs(write.value - np.hypot(device.write_noise, sigma / device.dw_min)) < FAR * write.error


@pytest.mark.parametrize("back", [1, 2])
def test_expected_residuals_are_those_of_the_whole_matrices(back: int) -> None:
    """Residuals M e of a regression with the instruments Z, M = 1 - X (Z'X)^-1 Z', have the covariance M cov(e) M'."""
    from noisylearn.fitting.step_lines import CENTRE, _regressed  # sums of this kind have no other way out

    made, _ = noisily_read("ecram-mo-kim-2019", 1.0, 8, seed=3)
    trains = equal_trains(made)[0]
    found, w = _regressed(trains, 1.0, back), trains.w[0]
    steps, stands = steps_of(trains, 1.0)[0], place(trains.w, 1.0)[0]
    steps = steps[(stands[steps - back] > CENTRE[0]) & (stands[steps - back] < CENTRE[1])]
    one = np.ones(len(steps))
    x, z = np.stack([one, w[steps - 1]], 1), np.stack([one, w[steps - back]], 1)
    fit = np.linalg.solve(z.T @ x, z.T)
    left = np.eye(len(steps)) - x @ fit
    rho = 1 + (fit @ (w[steps] - w[steps - 1]))[1]
    beside = np.diag(1.0 * (np.diff(steps) == 1), 1)
    of_reads = np.diag(one) * (1 + rho**2) - rho * (beside + beside.T)
    for noise, (squares, following, _) in ((np.diag(one), found.of_cycle), (of_reads, found.of_read)):
        covariance = left @ noise @ left.T
        assert squares[0] == pytest.approx(np.trace(covariance))
        assert following[0] == pytest.approx((covariance * beside).sum())


def test_intervals_of_the_noise_of_pulses_cover_it() -> None:
    """Of 16 measurements: with 95 % intervals, more than 3 miss in 1 of 100."""
    missed = 0
    for seed in range(16):
        made, _ = noisily_read("ecram-tang-2018", 0.3, 30, seed)
        cycle = next(p for p in only_fit(of_scale(made)).parameters if p.key == "cycle_spread")
        missed += not cycle.low < PULSED["ecram-tang-2018"].device.cycle_spread < cycle.high
    assert missed <= 3


def test_noise_of_reads_that_is_not_there_is_not_stated() -> None:
    fit = only_fit(fitted("ecram-tang-2018", 50))
    assert "write_noise" not in fit.numbers
    assert next(p for p in fit.parameters if p.key == "write_noise").low == 0


@pytest.mark.parametrize("name", EXPONENTIAL)
def test_exponential_steps_come_back(name: str) -> None:
    """Coefficients of exponentials make up for each other; the steps they give are held against those stated."""
    found = fitted(name, 800)
    device, again = PULSED[name].device, found.profile.in_place.device
    assert again.step == "exponential"
    assert again.one_sided == device.one_sided
    for direction in (1.0,) if device.one_sided else (1.0, -1.0):
        assert median_steps(again, direction) == pytest.approx(median_steps(device, direction), rel=0.15)
        assert 1 / 1.5 < median_noise(again, direction) / median_noise(device, direction) < 1.5


def test_exponential_steps_are_found_or_the_doubt_is_said() -> None:
    """200 devices decide for one seed, and not for the other: there 2 ln of the ratio of evidence is 1.4."""
    sure, unsure = (only_fit(fitted("reram-exponential-gong-2018", seed=seed)) for seed in (5, 1))
    assert sure.numbers["step"] == unsure.numbers["step"] == "exponential"
    assert not sure.warnings
    (doubt,) = unsure.warnings
    assert "do not decide whether steps are straight or exponential (BIC(straight) - BIC(exponential) = 1.4" in doubt


def test_soft_bounds_are_found_with_many_devices() -> None:
    """Devices whose bounds differ by 24 and 40 %, each of which ends where its own steps vanish."""
    fit = only_fit(fitted("reram-soft-bounds-gong-2018", 600))
    assert fit.numbers["step"] == "soft-bounds"
    assert not fit.warnings


def test_steps_that_noise_hides_are_said_to_be_open() -> None:
    fit = only_fit(of_scale(noisily_read("capacitor-li-2018", 20.0, 40, seed=0)[0]))
    assert fit.numbers["step"] == "constant"
    for what in ("steps are straight or exponential", "steps change with the state"):
        assert any(f"do not decide whether {what}" in line for line in fit.warnings)


def test_what_is_not_resolved_is_said() -> None:
    with pytest.raises(UserError, match=r"1 pulses up cross .* of the range"):
        fitted("reram-hfo2-gong-2022")
    with pytest.raises(UserError, match="noise hides the steps"):
        fitted("reram-om-gong-2022")
    silent = {"cycle_spread": 0.0, "write_noise": 0.0}
    soft = load_profile("reram-soft-bounds-gong-2018")
    soft = soft.written_by("pulsed", device=soft.in_place.device.model_copy(update=silent))
    with pytest.raises(UserError, match="too few devices were read at the same states"):
        fit_profile(measure(soft, Plan(devices=8), seed=5))
    pcm = only_fit(fitted("pcm-pair-nandakumar-2020"))
    assert any("neither the same at all states nor as its step" in line for line in pcm.warnings)  # it has a floor
    assert any("w_max lies beyond" in line for line in pcm.warnings)


def test_points_and_lines_of_a_direction_have_one_colour() -> None:
    panel = next(one for one in fitted("capacitor-li-2018", 20).panels if one.title == "mean step of one pulse")
    colors = {series.label.split(",")[0]: series.color for series in panel.series}
    assert [series.color for series in panel.series] == [colors["up"]] * 2 + [colors["down"]] * 2
    assert len(set(colors.values())) == 2


def test_dead_devices_and_lognormal_steps() -> None:
    profile = load_profile("capacitor-li-2018")
    changed = {"dead_share": 0.12, "dw_min_spread": 0.5, "dw_min_distribution": "lognormal"}
    device = profile.in_place.device.model_copy(update=changed)
    made = measure(profile.written_by("pulsed", device=device), Plan(devices=400), seed=1)
    fit = only_fit(fit_profile(made, zero_us=ZERO_US, full_scale_us=FULL_SCALE_US))
    found = {p.key: p for p in fit.parameters}
    assert fit.numbers["dw_min_distribution"] == "lognormal"
    for key, truth in {"dead_share": 0.12, "dw_min_spread": 0.5, "dw_min": 0.005}.items():
        assert abs(found[key].value - truth) < FAR * found[key].error < truth


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: np.sin(w * np.pi / 2.4) / np.sin(np.pi / 2.4), "largest in the middle"),
        (lambda w: w + w**3 / 2, "neither straight nor exponential"),
    ],
    ids=["largest in the middle", "smallest in the middle"],
)
def test_steps_of_no_profile_are_said(change, said: str) -> None:
    made = measure(load_profile("capacitor-li-2018"), Plan(devices=100), seed=1)
    w = (made.conductance_us - ZERO_US) / FULL_SCALE_US
    found = of_scale(replace(made, conductance_us=ZERO_US + FULL_SCALE_US * change(w)))
    assert sum(said in line for line in found.warnings) == 2


def test_spread_over_devices_is_without_their_errors() -> None:
    """Mean 3 and spread 0.5 of 4,000 devices with errors from 0.2 to 1; each within 4.5 standard errors."""
    draws = np.random.default_rng(0)
    error = draws.uniform(0.2, 1.0, 4000)
    of = population(3 + 0.5 * draws.standard_normal(4000) + error * draws.standard_normal(4000), error)
    assert abs(of.mean - 3) < FAR * of.mean_error < 0.1
    assert abs(of.spread - 0.5) < FAR * of.spread_error < 0.1
