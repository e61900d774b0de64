"""`noisylearn profiles measure` and `profiles fit`: what they write, print and refuse."""

import json

import pytest

from noisylearn.profiles import load_profile


@pytest.fixture
def measured(tmp_path, run):
    file = tmp_path / "measured.csv"
    status, out, _ = run(
        "profiles", "measure", "rram-milo-2021", "-o", file, "--devices", 20, "--levels", 5, "--seed", 3
    )
    assert status == 0
    assert "simulated reads of rram-milo-2021: programming, read, drift" in out
    return file


def test_a_file_becomes_a_profile(measured, tmp_path, run):
    out, plot = tmp_path / "My Device.toml", tmp_path / "fit.png"
    status, printed, errors = run("profiles", "fit", measured, "-o", out, "--plot", plot)
    assert status == 0
    assert errors == ""
    assert "sigma_us at 50 uS" in printed
    assert "note: read-noise: not fitted" in printed
    assert plot.stat().st_size > 10_000
    profile = load_profile(out)
    assert profile.name == "my-device"
    (noise,) = profile.calibration.effects
    assert {origin.status for _, _, origin in noise.numbers()} == {"fitted"}
    citation = profile.sources[noise.source].citation
    assert "measured.csv of 20" in citation
    assert "SHA-256" in citation
    assert "95 % interval" in out.read_text()
    assert run("profiles", "check", out)[0] == 0


def test_json_is_one_document(measured, tmp_path, run):
    _, printed, errors = run("profiles", "fit", measured, "-o", tmp_path / "a.toml", "--json")
    document = json.loads(printed)
    assert errors == ""
    assert document["name"] == "a"
    levels = document["effects"]["programming-noise"]["parameters"]
    assert all(level["low"] < level["value"] < level["high"] for level in levels)
    assert document["effects"]["read-noise"]["refused"]


def test_pulses_with_the_noise_of_the_read_out_can_be_learned_on(tmp_path, run):
    file, out = tmp_path / "pulses.csv", tmp_path / "mine.toml"
    assert run("profiles", "measure", "ecram-mo-kim-2019", "-o", file, "--devices", 20)[0] == 0
    document = json.loads(run("profiles", "fit", file, "-o", out, "--json")[1])
    assert "no noise differs between two passes" in document["notes"][-1]
    assert "--output-noise 0.06" in document["notes"][-1]
    assert "lf" not in run("profiles", "check", out)[1].split()
    said = run("profiles", "fit", file, "-o", out, "--force", "--output-noise", 0.06)[1]
    assert "no noise differs" not in said
    assert "anp, lf," in run("profiles", "check", out)[1]
    (noise,) = load_profile(out).calibration.effects
    assert (noise.kind, noise.sigma) == ("output-noise", 0.06)
    assert {origin.status for _, _, origin in noise.numbers()} == {"assumed"}
    status, _, said = run("profiles", "fit", file, "-o", out, "--force", "--output-noise", -1)
    assert (status, said) == (1, "error: output_noise = -1: give a positive number, or leave it out\n")


def test_nothing_is_lost(measured, tmp_path, run):
    out = tmp_path / "a.toml"
    out.write_text("mine")
    for arguments, said in (
        (("fit", measured, "-o", out), "there is a file already; choose another place, or say --force"),
        (("measure", "rram-milo-2021", "-o", measured), "there is a file already"),
        (("fit", measured, "-o", measured), "ends in .toml"),
        (("fit", measured, "-o", tmp_path), "ends in .toml"),
        (("fit", measured, "-o", tmp_path / "b.toml", "--experiments", "reed"), "unknown experiment 'reed'"),
        (("fit", measured, "-o", tmp_path / "b.toml", "--g-max-us", -1), "give a positive number"),
        (("fit", tmp_path / "no.csv", "-o", tmp_path / "b.toml"), "cannot be read"),
        (("measure", "ideal", "-o", tmp_path / "b.csv"), "no devices whose conductance could be measured"),
    ):
        before = measured.read_bytes()
        status, printed, errors = run("profiles", *arguments)
        assert status == 1
        assert printed == ""
        assert errors.count("\n") == 1
        assert said in errors
        assert measured.read_bytes() == before
    assert out.read_text() == "mine"
    assert not (tmp_path / "b.toml").exists()
    assert run("profiles", "fit", measured, "-o", out, "--force")[0] == 0
