"""Limits of profiles: numbers of no machine, and files that would take a parser too long or are none."""

import os
import time

import pytest
import torch
from support.small_runs import PCM, profile_text

from noisylearn import Chip
from noisylearn.effects import Setting
from noisylearn.ground.errors import UserError
from noisylearn.networks import mlp
from noisylearn.profiles import load_profile, parse_profile, profile_files

THERMAL = """[[calibration.effects]]
kind = "thermal-shot-noise"
status = "assumed"
source = "aihwkit"
temperature_k = 300.0
read_voltage_v = 2e-4
bandwidth_mhz = 1e6

[[calibration.effects]]"""

# profile, old text, new text, what the one line must name
SLIPS = {
    "siemens for microsiemens": (
        "pcm-hermes-1-device", "reference_g_max_us = 10.35", "reference_g_max_us = 1.035e-05", ["reference_g_max_us"],
    ),
    "nanosiemens for microsiemens": (
        PCM, "reference_g_max_us = 25.0", "reference_g_max_us = 25e3", ["reference_g_max_us", "factor of 100"],
    ),
    "drift from before the read": (PCM, "value = 20.0", "value = 2e-8", ["t_read_ns = 250", "t0_s = 2e-08"]),
    "percent for a share": (
        "reram-hfo2-gong-2022", "dw_min_spread = 0.7125", "dw_min_spread = 71.25", ["dw_min_spread", "71.25"],
    ),
    "deviation beyond float32": (PCM, "[0.26348, 1.9650, -1.1731]", "[1e308]", ["sigma_us", "1e+308"]),
    "deviation beyond the conductance": (PCM, "[0.26348, 1.9650, -1.1731]", "[0.26348, 1.9e3]", ["sigma_us", "250"]),
    "noise beyond float32": ("gaussian-node", "sigma = 1e-3", "sigma = 1e308", ["sigma", "less than or equal"]),
    "noise below float32": ("gaussian-node", "sigma = 1e-3", "sigma = 1e-40", ["sigma", "greater than or equal"]),
    "millivolts for volts": (PCM, "[[calibration.effects]]", THERMAL, ["thermal-shot-noise", "read_voltage_v"]),
    "steps beyond float32": ("pcm-pair-nandakumar-2020", "gamma_up = 2.5", "gamma_up = 250.0", ["gamma", "b_shift"]),
    "granularity in another unit": (
        "reram-exponential-gong-2018", "dw_min = 0.00135", "dw_min = 0.00135\ngranularity = 1.9", ["granularity"],
    ),
    "exponent of drift": (PCM, "clip = [0.049, 0.1]", "clip = [49.0, 100.0]", ["exponent_mean", "above 10"]),
    "conductances that are all the same": (
        PCM, 'scale = "column"', 'g_min_us = 24.9999\nscale = "column"', ["g_min_us", "a thousandth"],
    ),
}  # fmt: skip


def refusal(text):
    with pytest.raises(UserError) as caught:
        parse_profile(text, "mine.toml")
    message = str(caught.value)
    assert message.startswith("profile mine.toml: ")
    assert len(message.splitlines()) == 1
    assert len(message) < 1000
    return message


@pytest.mark.parametrize("what", SLIPS)
def test_numbers_of_no_machine(what):
    name, old, new, named = SLIPS[what]
    text = profile_text(name)
    assert old in text
    message = refusal(text.replace(old, new, 1))
    assert all(part in message for part in named), message


DEEP = 20_000
TOO_MUCH = {
    "brackets": ("x = " + "[" * DEEP + "]" * DEEP, "nested"),
    "open brackets": ("x = " + "[" * DEEP, "nested"),
    "tables in a table": ("x = " + "{ a = " * DEEP, "nested"),
    "dotted key": ("a" + ".a" * DEEP + " = 1", "nested"),
    "quoted dotted key": ('"a"' + ' . "a"' * DEEP + " = 1", "nested"),
    "dotted table": ("[a" + ".'a'" * DEEP + "]", "nested"),
    "digits": ("x = " + "9" * 5000, "a number or a key"),
    "hexadecimal digits": ("x = 0x" + "f" * 9000, "a number or a key"),
    "long key": ("k" * 5000 + " = 1", "a number or a key"),
    "long quoted key": ('"' + "k" * 50_000 + '" = 1', "unknown key"),
    "key of two lines": (r'"a\nb" = 1', "unknown key"),
    "size": ("#" * 300_000, "256 KiB"),
    "quotes": ('x = "' + r"\"" * 100_000, "not valid TOML"),
    "triple quotes": ("x = " + "'''" * 80_000, ""),
}


@pytest.mark.parametrize("what", TOO_MUCH)
def test_text_that_would_take_a_parser_too_long(what):
    line, named = TOO_MUCH[what]
    start = time.perf_counter()
    message = refusal(f"{line}\n{profile_text()}")
    assert time.perf_counter() - start < 2
    assert named in message


def test_structure_within_strings_and_comments_is_none():
    text = profile_text().replace('title = "', 'title = "' + "[{." * 500, 1) + "\n# " + "[.{" * 500
    assert parse_profile(text).title.startswith("[{.[{.")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with a name")
def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "endless.toml").symlink_to("/dev/zero")
    (tmp_path / "large.toml").write_text("#" * 300_000)
    (tmp_path / "linked.toml").symlink_to(profile_files()["ideal"])
    for name, named in {"pipe": "not a regular file", "endless": "not a regular file", "large": "256 KiB"}.items():
        with pytest.raises(UserError, match=named):
            load_profile(tmp_path / f"{name}.toml")
    assert load_profile(tmp_path / "linked.toml").name == "ideal"


def test_a_curve_against_microsiemens_is_taken_at_the_conductances_of_the_machine():
    """Also where the effect has no g_max of its own."""
    mean = "{ log = [-0.0155, 0.0244], clip = [0.049, 0.1] }"
    spread = "{ log = [-0.0125, -0.0059], clip = [0.008, 0.045] }"
    text = profile_text(PCM).replace(spread, "{ polynomial = [0.0] }")
    of_r = parse_profile(text.replace(mean, "{ polynomial = [0.0, 0.05] }"))
    of_us = parse_profile(text.replace(mean, '{ polynomial = [0.0, 0.002], argument = "us" }'))
    now, g = Setting(g_max_us=25.0, since_write_s=1e4, t0_s=20.0), torch.linspace(0, 25, 7)
    means = [
        next(e for e in profile.all_effects() if e.kind == "power-law-drift").moments(g, now).mean
        for profile in (of_r, of_us)
    ]
    assert torch.allclose(*means)
    assert float(means[0][-1]) == pytest.approx(25 * (1e4 / 20 + 1) ** -0.05, rel=1e-5)


@pytest.mark.parametrize("interval_us", ["1e8", "2e8", "1e9"])
def test_a_long_pass_interval_is_no_singular_matrix(interval_us):
    text = profile_text(PCM).replace("pass_interval_us = 1.0", f"pass_interval_us = {interval_us}")
    chip = Chip(mlp(4, (5,), 3), parse_profile(text), seed=0)
    for _ in range(20):
        chip.advance(700.0)
        assert torch.isfinite(chip(torch.ones(2, 4))).all()


def test_the_symmetry_point_of_steps_that_are_alike_everywhere_is_zero():
    text = profile_text("reram-hfo2-gong-2022").replace(
        'step = "soft-bounds"', 'step = "linear"\ngamma_up = 0.0\ngamma_down = 0.0'
    )
    for key in ("up_down", "up_down_spread"):
        text = "\n".join(f"{key} = 0.0" if line.startswith(f"{key} =") else line for line in text.splitlines())
    chip = Chip(mlp(4, (5,), 3), parse_profile(text.replace('"reram-hfo2-gong-2022"', '"mine"')), seed=0)
    assert torch.isfinite(chip(torch.ones(2, 4))).all()


def test_a_change_beyond_all_states_takes_no_more_pulses_than_saturate_a_device():
    mode = load_profile("reram-exponential-gong-2018").written_by("accumulate", threshold=0.05).in_place
    pulses = mode.whole_pulses(torch.tensor([1e9, -1e9, 1.0]), 0.05)
    most = int(10 * (mode.device.w_max - mode.device.w_min) / mode.device.per_pulse)
    assert pulses.tolist() == [most, -most, int(1.0 / mode.device.per_pulse)]
