"""The packaged profiles against published values, and the reader against thousands of damaged files."""

import math
import re
import sys
import warnings
from pathlib import Path

import pytest
import torch
from support.checks import tanh_net

from noisylearn import Chip
from noisylearn.effects import Effect, Setting
from noisylearn.ground.errors import UserError
from noisylearn.profiles import load_profile, parse_profile, profile_files

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
import mutate_profiles

NAMES = sorted(profile_files())
TEXTS = {name: file.read_text(encoding="utf-8") for name, file in profile_files().items()}


def effect(profile: str, kind: str) -> Effect:
    return next(e for e in load_profile(profile).all_effects() if e.kind == kind)


def setting(profile: str, since_write_s: float = 0.0) -> Setting:
    spec = load_profile(profile).specification
    assert spec.mapping is not None
    assert spec.timing is not None
    return Setting(
        spec.mapping.g_max_us,
        since_write_s,
        spec.timing.t0_s,
        spec.timing.pass_interval_us * 1e-6,
        spec.mapping.g_min_us,
    )


def deviation(profile: str, kind: str, g_us: float, since_write_s: float = 0.0) -> float:
    """Standard deviation before any floor, microsiemens: far from zero the floor does not matter."""
    g = torch.tensor(g_us, dtype=torch.float64)
    found = effect(profile, kind)
    now = setting(profile, since_write_s)
    if hasattr(found, "deviation_us"):
        return float(found.deviation_us(g, now.g_max_us if kind == "programming-noise" else now))
    return math.sqrt(float(found.moments(g, now).variance))


# Worked out by hand from the published fits (devices.md and the sources that the profiles cite).
PUBLISHED = [
    ("pcm-nandakumar-2019", "programming-noise", 25.0, 0.0, 0.26348 + 1.9650 - 1.1731),
    ("pcm-hermes-2-devices", "programming-noise", 20.7, 0.0, 0.16603222 + 4.71806468 - 8.48101252 + 4.68961419),
    ("pcm-hermes-1-device", "programming-noise", 10.35, 0.0, 0.15781817 + 2.32443916 - 2.16310839 + 0.68841818),
    ("reram-wan-2022", "relaxation", 40.0, 0.0, 0.348 + 16.030 - 43.853 + 45.393 - 16.815),
    ("reram-wan-2022", "relaxation", 20.0, 86399.0, 0.701 + 11.043 - 12.69325 + 5.886875 - 1.028625),
    ("reram-wan-2022", "relaxation", 40.0, 172799.0, 0.782 + 20.274 - 43.507 + 37.062 - 11.934),
    ("reram-wan-2022", "read-noise", 13.0, 0.0, 0.4),
    ("reram-cmo-falcone-2025", "programming-noise", 50.0, 0.0, 0.0112185391 + 0.01129027418 * 50),
    ("reram-cmo-falcone-2025", "relaxation", 50.0, 0.0, 0.41183342),
    ("reram-cmo-falcone-2025", "relaxation", 50.0, 3599.0, 0.04201137 * math.log(3600) + 0.41183342),
    ("pcm-joshi-2020", "programming-noise", 20.0, 0.0, -0.00178767 * 400 + 0.07585724 * 20 + 0.28638599),
    ("rram-milo-2021", "programming-noise", 150.0, 0.0, -0.009107 * 150 + 4.782321),
    ("sonos-agrawal-2022", "relaxation", 1.6, 0.0, 19.887e-3 * (1 - math.exp(-1600 / 176.31))),
    ("sonos-agrawal-2022", "relaxation", 0.1, 431999.0, 34.579e-3 * (1 - math.exp(-100 / 207.34))),
    ("sonos-agrawal-2022", "read-noise", 0.2, 0.0, 12.58037e-3 * (1 - math.exp(-200 / 215.36557))),
]


@pytest.mark.parametrize(("profile", "kind", "g_us", "since", "expected"), PUBLISHED)
def test_published_check_values(profile: str, kind: str, g_us: float, since: float, expected: float) -> None:
    assert deviation(profile, kind, g_us, since) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("since", [1.0, 3600.0, 86400.0])
@pytest.mark.parametrize("g_us", [10.0, 50.0, 88.2])
def test_cmo_read_noise_is_k_log10_g(g_us: float, since: float) -> None:
    expected = 0.0277316483 * math.log10(g_us) * math.sqrt(math.log((since + 1 + 1e-6) / 2e-6))
    assert deviation("reram-cmo-falcone-2025", "one-over-f-read-noise", g_us, since) == pytest.approx(
        expected, rel=1e-5
    )


def test_cmo_mean_sinks_by_its_published_rate() -> None:
    found = effect("reram-cmo-falcone-2025", "relaxation")
    mean = found.moments(torch.tensor(60.0, dtype=torch.float64), setting("reram-cmo-falcone-2025", 86399.0)).mean
    assert float(mean) == pytest.approx(60 - 0.08900206 * math.log(86400), rel=1e-9)


@pytest.mark.parametrize(
    ("profile", "low_q", "limit"), [("pcm-hermes-1-device", 0.04, 0.1591), ("pcm-hermes-2-devices", 0.04, 0.16)]
)
def test_hermes_fits_join_where_their_pieces_meet(profile: str, low_q: float, limit: float) -> None:
    """Published branches are continuous to the digits printed; the lower one is capped."""
    noise, drift = effect(profile, "one-over-f-read-noise"), effect(profile, "power-law-drift")
    curves = [(noise.relative_amplitude, limit), (drift.exponent_mean, 0.0945)]  # type: ignore[attr-defined]
    curves.append((drift.exponent_spread, drift.exponent_spread.below.limit))  # type: ignore[attr-defined]
    for curve, at in curves:
        below, above = (float(curve(torch.tensor(at + d, dtype=torch.float64))) for d in (-1e-9, 1e-9))
        assert below == pytest.approx(above, rel=0.03)
    assert float(noise.relative_amplitude(torch.tensor(1e-6))) == pytest.approx(low_q)  # type: ignore[attr-defined]


PULSED = {
    "reram-exponential-gong-2018": (0.00135, 0.2, 5.0, 1.0, -1.0),
    "reram-soft-bounds-gong-2018": (0.002, 0.3, 3.75, 1.25, -0.75),
    "capacitor-li-2018": (0.005, 0.1, 0.3, 1.0, -1.0),
    "ecram-tang-2018": (0.002, 0.1, 0.3, 1.1724, -0.8276),
    "ecram-mo-kim-2019": (2.8214e-4, 0.1, 2.0, 1.1714, -0.8286),
    "idealised-device": (2e-4, 0.3, 0.3, 1.0, -1.0),
    "pcm-pair-nandakumar-2020": (0.01, 0.2, 0.6, 2.0, 0.0),
    "reram-om-gong-2022": (0.0949, 0.7829, 0.4158, 1.0, -1.0),
    "reram-hfo2-gong-2022": (0.4622, 0.7125, 0.2174, 1.0, -1.0),
}


@pytest.mark.parametrize("name", PULSED)
def test_pulsed_devices_state_their_published_numbers(name: str) -> None:
    mode = load_profile(name).in_place
    assert mode is not None
    d = mode.device
    assert (d.dw_min, d.dw_min_spread, d.cycle_spread, d.w_max, d.w_min) == PULSED[name]


@pytest.mark.parametrize("name", NAMES)
def test_every_profile_places_a_network_and_reads_it(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        chip = Chip(tanh_net(12, 8, 3).float(), name, seed=0)
    x = torch.randn(5, 12, generator=torch.Generator().manual_seed(0))
    chip.calibrate(x)
    first, second = chip(x), chip(x)
    assert torch.isfinite(first).all()
    noisy = any(e.differs_between_passes and not e.can_be_off for e in profile.all_effects())
    coarse = profile.specification.adc is not None and profile.specification.adc.bits <= 6
    assert coarse or torch.equal(first, second) != noisy
    chip.advance(3600.0)
    assert torch.isfinite(chip(x)).all()
    chip.program()
    for kind in {e.kind for e in profile.all_effects()}:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            alone = Chip(tanh_net(12, 8, 3).float(), profile.only(kind), seed=0)
        assert torch.isfinite(alone(x)).all(), kind


def test_every_row_of_the_published_table_has_its_profile() -> None:
    assert set(NAMES) >= set(PULSED) | {row[0] for row in PUBLISHED} | {
        "isaac-2016", "prime-2016", "sonos-array-2022", "smtj-koenders-2024",
    }  # fmt: skip


# ---- files that are wrong ----

PCM = TEXTS["pcm-nandakumar-2019"]
ADC = '[specification.adc]\nstatus = "assumed"\nsource = "this-profile"\nbits = 8\nrange = {}\n\n[calibration]'
WRONG = [
    ("negative conductance", PCM.replace("value = 25.0", "value = -25.0"), "g_max_us"),
    ("ADC range of zero", PCM.replace("[calibration]", ADC.format("0.0")), "specification.adc.range"),
    ("ADC without units", PCM.replace("[calibration]", ADC.format("10.0")), "state specification.inputs"),
    ("unknown effect", PCM.replace('"power-law-drift"', '"power-law-drifd"'), "unknown kind"),
    ("missing citation", PCM.replace("[sources.nandakumar-2019]", "[sources.nandakumar-2018]"), "is not listed under"),
    ("nanoseconds as microseconds", PCM.replace("pass_interval_us = 1.0", "pass_interval_us = 0.1"), "check the units"),
    ("negative polynomial", PCM.replace("1.9650, -1.1731]", "1.9650, -3.1731]"), "cannot be negative"),
    ("negative spread", PCM.replace("clip = [0.008, 0.045]", "clip = [-0.008, -0.001]"), "cannot be negative"),
    ("clip the wrong way", PCM.replace("clip = [0.049, 0.1]", "clip = [0.1, 0.049]"), "lo <= hi"),
    ("off above on", PCM.replace('scale = "column"', 'g_min_us = 30.0\nscale = "column"'), "below g_max_us"),
    ("not a status", PCM.replace('status = "fitted"', 'status = "guessed"', 1), "status"),
    ("infinite", PCM.replace("t_read_ns = { value = 250.0", "t_read_ns = { value = inf"), "t_read_ns"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "text", "reason"), WRONG, ids=[w[0] for w in WRONG])
def test_wrong_profiles_are_refused_in_one_line(what: str, text: str, reason: str) -> None:
    assert text != PCM
    with pytest.raises(UserError, match=re.escape(reason)) as caught:
        parse_profile(text, "file.toml")
    assert "\n" not in str(caught.value)
    assert "file.toml" in str(caught.value)


def test_damaged_profiles_are_refused_in_one_line_or_work_on_a_chip() -> None:
    """A sample of `python tools/mutate_profiles.py`."""
    found = mutate_profiles.count((number, mutate_profiles.mutant(7, number)) for number in range(300))
    assert set(found) == set(mutate_profiles.FINE), found
    assert min(found.values()) > 30, "both are among them"


def test_slips_of_the_unit_are_refused_in_one_line_or_work_on_a_chip() -> None:
    """A sample of `python tools/mutate_profiles.py --numbers`."""
    found = mutate_profiles.count(list(enumerate(mutate_profiles.slips()))[::7])
    assert set(found) == set(mutate_profiles.FINE), found
