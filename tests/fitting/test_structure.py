"""What data show beside the effects of packaged profiles: telegraph noise, stuck devices, and what no effect holds."""

from dataclasses import replace

import numpy as np
import pytest

from noisylearn import UserError
from noisylearn.fitting import EffectFit, FittedProfile, Measurements, Plan, fit_profile, measure
from noisylearn.profiles import HardwareProfile, load_profile, parse_profile

FAR = 4.5
BASE = load_profile("rram-milo-2021")


def machine(*effects: str) -> HardwareProfile:
    """A machine of 25 microsiemens with these effects."""
    head = """schema_version = 2
name = "under-test"
title = "-"
description = "-"
observable = ["loss", "output", "input", "activity"]
[sources.s]
citation = "-"
[specification]
date = 2026-01-01
[specification.mapping]
kind = "differential-pair"
status = "assumed"
source = "s"
g_max_us = 25.0
g_min_us = 1.0
scale = "column"
reads_clip = false
[specification.timing]
status = "assumed"
source = "s"
t0_s = 1.0
pass_interval_us = 1.0
[calibration]
date = 2026-01-01
"""
    tables = [f'[[calibration.effects]]\nstatus = "assumed"\nsource = "s"\n{effect}\n' for effect in effects]
    return parse_profile(head + "".join(tables))


NOISE = 'kind = "read-noise"\nreference_g_max_us = 25.0\nsigma_us = { polynomial = [0.1] }'
WRITE = 'kind = "programming-noise"\nreference_g_max_us = 25.0\nsigma_us = { polynomial = [0.5] }'


def fit_of(found: FittedProfile, name: str) -> EffectFit:
    return next(fit for fit in found.effects if fit.name == name)


def near(fit: EffectFit, **stated: float) -> None:
    """Every number lies within 4.5 standard errors of what is stated, or its 95 % interval where it has no error."""
    found = {parameter.key: parameter for parameter in fit.parameters}
    for key, truth in stated.items():
        assert abs(found[key].value - truth) < FAR * found[key].error, (key, found[key])


def test_telegraph_noise_is_recognised() -> None:
    text = 'kind = "random-telegraph-noise"\nshare = 0.4\nrelative_amplitude = { polynomial = [0.2] }\n'
    profile = machine(text + "dwell_time_s = [2e-3, 2e-2]", NOISE)
    made = measure(profile, Plan(devices=60, levels=6, reads=120, read_interval_s=1e-3, longest_lag=119.0), seed=1)
    found = fit_profile(made.of("read"))
    fit = fit_of(found, "random-telegraph-noise")
    near(fit, share=0.4)
    low, high = (p for p in fit.parameters if p.key.startswith("dwell_time_s"))
    assert low.low < 2e-3 < low.high
    assert high.low < 2e-2 < high.high
    levels = [p for p in fit.parameters if p.key.startswith("relative_amplitude at")]
    assert len(levels) >= 5
    assert all(abs(p.value - 0.2) < FAR * p.error < 0.05 for p in levels)
    noise = [p for p in fit_of(found, "read-noise").parameters if p.key.startswith("sigma_us at")]
    assert all(abs(p.value - 0.1) < FAR * p.error for p in noise)


def test_gaussian_noise_is_no_telegraph_noise() -> None:
    """Of white and of 1/f noise, 480 devices each, so few look alike that no telegraph noise is fitted."""
    for profile in (machine(NOISE), load_profile("pcm-nandakumar-2019")):
        found = fit_profile(measure(profile, Plan(devices=60), seed=2).of("read"), t_read_ns=250.0)
        assert "random-telegraph-noise" not in [fit.name for fit in found.effects]


def test_devices_of_one_noise_are_found_alike_and_others_not() -> None:
    """White noise, the same for all: over 40 data sets p is uniform. Where it differs threefold, p is next to zero."""
    what, profile = "devices of one conductance have one noise", machine(NOISE)

    def chance(made: Measurements) -> float:
        return next(c.p for c in fit_of(fit_profile(made), "read-noise").checks if c.what == what)

    plan = Plan(devices=8, levels=5, reads=40)
    alike = [chance(measure(profile, plan, seed=seed).of("read")) for seed in range(40)]
    assert sum(p < 0.05 for p in alike) <= 7  # binomial: more by chance in 0.3 %
    assert min(alike) > 1e-4
    assert sum(p < 0.5 for p in alike) in range(11, 30)  # binomial: outside by chance in 0.3 %
    made = measure(profile, plan, seed=0).of("read")
    loud = np.array([int(name[1:]) % 2 == 0 for name in made.device])
    target = made.target_us
    differ = replace(
        made, conductance_us=np.where(loud, target + 3 * (made.conductance_us - target), made.conductance_us)
    )
    assert chance(differ) < 1e-6


def written(profile: HardwareProfile, devices: int = 60) -> Measurements:
    """Programming alone, every device written to all targets."""
    made = measure(profile, Plan(devices=devices, again=2), seed=3).of("programming")
    number = np.array([int(name[1:]) for name in made.device])
    return replace(made, device=np.char.add("d", (number % devices).astype(str)))


def test_stuck_devices_are_counted() -> None:
    made = written(machine(WRITE, NOISE), 200)
    number = np.array([int(name[1:]) for name in made.device])
    stuck = made.conductance_us.copy()
    stuck[number < 10] = 1.0
    stuck[number >= 176] = 25.0
    found = fit_profile(replace(made, conductance_us=stuck))
    fit = fit_of(found, "stuck-devices")
    assert fit.numbers == {"at_g_min": 10 / 200, "at_g_max": 24 / 200}
    ends = {p.key: (p.low, p.high) for p in fit.parameters}
    assert ends["at_g_min"] == pytest.approx((0.0242, 0.0900), abs=2e-4)  # Clopper-Pearson, from tables
    levels = [p for p in fit_of(found, "programming-noise").parameters if " at " in p.key]
    assert all(abs(p.value - 0.5) < FAR * p.error for p in levels)


def test_programming_noise_is_without_the_noise_of_reads() -> None:
    """Read noise of 1 uS beside programming noise of 0.5 uS, two reads of each write."""
    loud = NOISE.replace("0.1]", "1.0]")
    found = fit_profile(measure(machine(WRITE, loud), Plan(devices=200, again=2), seed=4).of("programming"))
    levels = [p for p in fit_of(found, "programming-noise").parameters if " at " in p.key]
    assert len(levels) == 8
    assert all(abs(p.value - 0.5) < FAR * p.error < 0.5 for p in levels)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda g, t: t + 1.3 * np.sign(g - t), "in two groups"),
        (lambda g, t: g + 0.2 * (25.0 - t) * (t > 12), "off their targets on average"),
        (lambda g, t: t + (g - t) ** 3, "with long tails"),
    ],
    ids=["bimodal", "shifted", "long tails"],
)
def test_errors_that_no_effect_holds_are_said(change, said: str) -> None:
    made = measure(machine(WRITE), Plan(devices=60, again=1), seed=5).of("programming")
    found = fit_profile(replace(made, conductance_us=change(made.conductance_us, made.target_us)))
    assert any(said in line for line in found.warnings)
    plain = fit_profile(made)
    assert not [line for fit in plain.effects for line in fit.warnings]


def test_devices_that_err_in_their_own_direction_are_said() -> None:
    spread = 'kind = "conductance-spread"\nsigma = 0.05\ndistribution = "lognormal"'
    made = written(machine(spread, WRITE))
    of_device = np.exp(0.05 * np.random.default_rng(0).standard_normal(60))
    number = np.array([int(name[1:]) for name in made.device])
    found = fit_profile(replace(made, conductance_us=made.target_us * of_device[number]))
    assert any("conductance-spread" in line for line in found.warnings)


def test_drift_that_is_no_power_law_is_said() -> None:
    drift = (
        'kind = "power-law-drift"\nexponent_mean = { polynomial = [0.05] }\nexponent_spread = { polynomial = [0.01] }'
    )
    made = measure(machine(drift, NOISE), Plan(devices=60, levels=4, times=9), seed=6).of("drift")
    assert not [line for line in fit_profile(made).warnings if "straight" in line]
    bent = made.conductance_us * np.where(made.time_s > 1000, 0.8, 1.0)
    assert any("not straight in ln t" in line for line in fit_profile(replace(made, conductance_us=bent)).warnings)


def test_too_little_is_refused_by_name() -> None:
    profile = load_profile("pcm-nandakumar-2019")
    made = measure(profile, Plan(devices=1, levels=4, reads=4, times=2), seed=1)
    with pytest.raises(UserError) as error:
        fit_profile(made)
    for part in ("read-noise: 0 devices", "programming-noise: 0 targets", "power-law-drift: 4 devices were read at 2"):
        assert part in str(error.value)
    pulses = measure(load_profile("capacitor-li-2018"), Plan(devices=3), seed=1)
    with pytest.raises(UserError, match="3 devices were read"):
        fit_profile(pulses)


def test_pulses_and_targets_do_not_mix() -> None:
    one, other = (
        measure(load_profile(name), Plan(devices=10), seed=1) for name in ("rram-milo-2021", "ecram-tang-2018")
    )
    keys = ("experiment", "device", "write", "time_s", "target_us", "conductance_us", "pulse")
    both = Measurements(*(np.concatenate([getattr(one, key), getattr(other, key)]) for key in keys))
    with pytest.raises(UserError, match="choose with --experiments"):
        fit_profile(both)
    assert fit_profile(both, experiments=("pulse",)).profile.in_place is not None
    assert fit_profile(both, experiments=("programming",)).profile.in_place is None


def _with(key: str, change):
    """A change of one column: (column, random numbers) -> column."""
    return lambda made, rng: replace(made, **{key: change(getattr(made, key), rng)})


SPOIL = [
    lambda made, rng: made.where(rng.random(len(made)) < rng.random()),
    _with("conductance_us", lambda g, rng: np.where(rng.random(len(g)) < 0.3, 0.0, g)),
    _with("conductance_us", lambda g, rng: np.full(len(g), float(rng.choice([0.0, 1.0, 25.0, -3.0])))),
    _with("conductance_us", lambda g, rng: -g),
    _with("conductance_us", lambda g, rng: g * 10 ** rng.uniform(-3, 3)),
    _with("conductance_us", lambda g, rng: np.round(g)),
    _with("conductance_us", lambda g, rng: rng.permutation(g)),
    _with("device", lambda names, rng: np.full(len(names), "x")),
    _with("time_s", lambda t, rng: np.abs(t) ** rng.uniform(-2, 2)),
    _with("target_us", lambda t, rng: np.full(len(t), float(rng.choice([0.0, 5.0, 25.0])))),
]


def outcome(made: Measurements) -> str:
    """The name of the profile that is fitted, or the message."""
    try:
        return fit_profile(made).profile.name
    except UserError as error:
        return str(error)


@pytest.mark.parametrize("name", ["pcm-nandakumar-2019", "isaac-2016", "capacitor-li-2018", "pcm-pair-nandakumar-2020"])
def test_spoilt_data_give_a_profile_or_one_line(name: str) -> None:
    """One to three things wrong that no check of a file finds: nothing but a UserError is raised."""
    whole = measure(load_profile(name), Plan(devices=10, levels=3, times=4, reads=10, pulse_reads=240), seed=0)
    found = []
    for seed in range(16):
        rng, made = np.random.default_rng(seed), whole
        for _ in range(rng.integers(1, 4)):
            made = SPOIL[rng.integers(len(SPOIL))](made, rng)
        found.append(outcome(made))
    assert not [text for text in found if "\n" in text]
    assert len(set(found)) > 3
