"""Devices that are written to a conductance: measured by simulation, fitted, and compared with what the profile states.

Every number at every level of the conductance must lie within 4.5 standard errors of what the effects of the profile
declare: of about 900 independent numbers, one lies outside by chance in 1 run of 160; seeds are fixed. Beside that, the
95 % intervals must cover at least 90 % of them.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from scipy import stats

from noisylearn.effects import Effect
from noisylearn.fitting import FittedProfile, Parameter, Plan, fit_profile, measure
from noisylearn.profiles import HardwareProfile, load_profile, profile_files

FAR = 4.5
PLAN = Plan(devices=60, times=7)
WRITTEN = [name for name in profile_files() if load_profile(name).specification.mapping is not None]


def parts(key: str) -> tuple[str, float]:
    """Quantity and conductance of a number at a level."""
    quantity, _, level = key.partition(" at ")
    return quantity, float(level.split()[0])


def stated(profile: HardwareProfile, kind: str, quantity: str, g_us: float) -> float:
    """What the effects of a profile say of a quantity at a conductance."""
    setting, g = profile.setting, torch.tensor([g_us], dtype=torch.float64)
    effects: dict[str, Effect] = {effect.kind: effect for effect in profile.effects("weight")}
    if kind == "programming-noise":  # and what relaxation brings at once
        noise = effects.get("programming-noise")
        square = 0.0 if noise is None else float(noise.deviation_us(g, setting.g_max_us)) ** 2
        wandered = effects.get("relaxation")
        return math.sqrt(square + (0.0 if wandered is None else float(wandered.deviation_us(g, setting)) ** 2))
    if kind == "relaxation":
        since = float(quantity.split()[2]) - setting.t0_s
        later = effects[kind].deviation_us(g, replace(setting, since_write_s=since))
        return math.sqrt(float(later) ** 2 - float(effects[kind].deviation_us(g, setting)) ** 2)
    if kind == "one-over-f-read-noise":
        return float(effects[kind].relative(g, setting))
    if kind == "power-law-drift":
        return float(getattr(effects[kind], quantity).at(g / setting.g_max_us, setting.g_max_us))
    variances = [effect.read_variance(g, setting, {}) for effect in effects.values() if effect.lifetime == "read"]
    return math.sqrt(sum(float(variance) for variance in variances))


def distances(profile: HardwareProfile, fitted: FittedProfile) -> Iterator[tuple[str, float]]:
    """Distance of every number at a level from what is stated, in standard errors."""
    for fit in fitted.effects:
        for number in fit.parameters:
            if " at " in number.key:
                quantity, g_us = parts(number.key)
                truth = stated(profile, fit.name, quantity, g_us)
                yield f"{fit.name}: {number.key}", away(number, truth, quantity)


def away(number: Parameter, truth: float, quantity: str) -> float:
    """Standard errors between a number and the truth; those of positive numbers are of the logarithm."""
    if quantity == "exponent_mean":
        return (number.value - truth) / number.error
    return math.log(number.value / truth) * number.value / number.error


@pytest.fixture(scope="module")
def fitted() -> dict[str, FittedProfile]:
    found = {}
    for name in WRITTEN:
        profile = load_profile(name)
        reads_ns = [e.t_read_ns for e in profile.effects("weight") if e.kind == "one-over-f-read-noise"]
        found[name] = fit_profile(measure(profile, PLAN, seed=1), t_read_ns=reads_ns[0] if reads_ns else None)
    return found


SHOWN_AS = {"thermal-shot-noise": "read-noise"}  # which of the two a read shows is not to be told
NOT_OF_DEVICES = {"output-noise"}


@pytest.mark.parametrize("name", WRITTEN)
def test_every_effect_is_found_and_no_other(name: str, fitted: dict[str, FittedProfile]) -> None:
    profile = load_profile(name)
    expected = {SHOWN_AS.get(effect.kind, effect.kind) for effect in profile.effects("weight")}
    if "relaxation" in expected:
        expected.add("programming-noise")
    assert {effect.kind for effect in fitted[name].profile.effects("weight")} == expected


@pytest.mark.parametrize("name", WRITTEN)
def test_numbers_of_packaged_profiles_come_back(name: str, fitted: dict[str, FittedProfile]) -> None:
    far = {key: z for key, z in distances(load_profile(name), fitted[name]) if not abs(z) < FAR}
    assert not far


def test_intervals_cover_what_is_stated(fitted: dict[str, FittedProfile]) -> None:
    every = [abs(z) < 1.96 for name in WRITTEN for _, z in distances(load_profile(name), fitted[name])]
    assert len(every) > 300
    assert sum(every) > 0.9 * len(every)


def test_levels_are_counted(fitted: dict[str, FittedProfile]) -> None:
    for name, count in (("isaac-2016", 4), ("prime-2016", 16)):
        effect = next(e for e in fitted[name].profile.effects("weight") if e.kind == "levels")
        assert effect.count == count


def test_shift_of_relaxation_comes_back(fitted: dict[str, FittedProfile]) -> None:
    fit = next(fit for fit in fitted["reram-cmo-falcone-2025"].effects if fit.name == "relaxation")
    number = next(p for p in fit.parameters if p.key == "shift_us_per_log_time")
    assert abs(number.value + 0.08900206) < 4 * number.error
    assert number.error < 0.01


@pytest.mark.slow
def test_coverage_of_repeated_measurements() -> None:
    """Of 40 measurements of 9 numbers each, the 95 % intervals cover the truth as often as 1 in 1,000 would allow."""
    profile = load_profile("sonos-agrawal-2022").without("relaxation")
    plan = Plan(devices=30, levels=10, reads=16)
    covered = []
    for seed in range(40):
        found = fit_profile(measure(profile, plan, seed).of("read"))
        covered += [abs(z) < 1.96 for _, z in distances(profile, found)]
    assert len(covered) == 360
    low, high = stats.binom.ppf([5e-4, 1 - 5e-4], len(covered), 0.95)
    assert low <= sum(covered) <= high
