"""Pulsed devices: trains of pulses on simulated devices, fitted, and compared with what the profile states.

Numbers must lie within 4.5 standard errors of those stated: of about 60, one lies outside by chance in 1 run of 2,000;
seeds are fixed.
"""

import numpy as np
import pytest
import torch

from noisylearn import UserError
from noisylearn.fitting import EffectFit, FittedProfile, Plan, fit_profile, measure
from noisylearn.fitting.population import population
from noisylearn.fitting.simulate import FULL_SCALE_US, ZERO_US
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


def fitted(name: str, devices: int = 200) -> FittedProfile:
    made = measure(load_profile(name), Plan(devices=devices), seed=1)
    return fit_profile(made, zero_us=ZERO_US, full_scale_us=FULL_SCALE_US)


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


@pytest.mark.parametrize("name", EXPONENTIAL)
def test_exponential_steps_come_back(name: str) -> None:
    """Coefficients of exponentials make up for each other; the steps they give are held against those stated."""
    found = fitted(name, 800)
    device, again = PULSED[name].device, found.profile.in_place.device
    assert again.step == "exponential"
    assert again.one_sided == device.one_sided
    for direction in (1.0,) if device.one_sided else (1.0, -1.0):
        assert median_steps(again, direction) == pytest.approx(median_steps(device, direction), rel=0.15)


def test_what_is_not_resolved_is_said() -> None:
    with pytest.raises(UserError, match=r"1 pulses up cross .* of the range"):
        fitted("reram-hfo2-gong-2022")
    with pytest.raises(UserError, match="noise hides the steps"):
        fitted("reram-om-gong-2022")
    pcm = only_fit(fitted("pcm-pair-nandakumar-2020"))
    assert any("neither the same at all states nor as its step" in line for line in pcm.warnings)  # it has a floor
    assert any("w_max lies beyond" in line for line in pcm.warnings)


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


def test_a_step_that_is_largest_in_the_middle_is_said() -> None:
    made = measure(load_profile("capacitor-li-2018"), Plan(devices=100), seed=1)
    w = (made.conductance_us - ZERO_US) / FULL_SCALE_US
    bent = {"conductance_us": ZERO_US + FULL_SCALE_US * np.sin(w * np.pi / 2.4) / np.sin(np.pi / 2.4)}
    columns = {key: getattr(made, key) for key in ("experiment", "device", "pulse")} | bent
    found = fit_profile(columns, zero_us=ZERO_US, full_scale_us=FULL_SCALE_US)
    assert sum("largest in the middle" in line for line in found.warnings) == 2


def test_spread_over_devices_is_without_their_errors() -> None:
    """Mean 3 and spread 0.5 of 4,000 devices with errors from 0.2 to 1; each within 4.5 standard errors."""
    draws = np.random.default_rng(0)
    error = draws.uniform(0.2, 1.0, 4000)
    of = population(3 + 0.5 * draws.standard_normal(4000) + error * draws.standard_normal(4000), error)
    assert abs(of.mean - 3) < FAR * of.mean_error < 0.1
    assert abs(of.spread - 0.5) < FAR * of.spread_error < 0.1
