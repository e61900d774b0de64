"""Profiles: what is packaged is sound, and what a user may get wrong is one line that says what to mend."""

import pickle

import pytest
import torch
from support.small_runs import PCM, profile_text

from noisylearn import Chip
from noisylearn.chips.crossbar import Crossbar
from noisylearn.effects import Setting
from noisylearn.ground.draws import Draws
from noisylearn.ground.errors import UserError
from noisylearn.networks import mlp
from noisylearn.profiles import HardwareProfile, load_profile, parse_profile, profile_files, profile_from_text
from noisylearn.rules import BP, NP, rules_for

# old text, new text, what the one line must name
WRONG = {
    "bad TOML": ("sigma = 1e-3", "sigma = = 1", ["not valid TOML", "line"]),
    "truth for a number": ("sigma = 1e-3", "sigma = true", ["effects.0", "sigma: true and false are no value"]),
    "unknown key": ("sigma = 1e-3", "sigm = 1e-3", ["effects.0", "unknown key 'sigm'", "did you mean sigma"]),
    "unknown table": ("[specification]", "[specifications]", ["'specifications'", "did you mean specification"]),
    "wrong type": ("sigma = 1e-3", 'sigma = "loud"', ["sigma: must be a number", "'loud'"]),
    "negative": ("sigma = 1e-3", "sigma = -1e-3", ["sigma: must be greater than", "-0.001"]),
    "nan": ("sigma = 1e-3", "sigma = nan", ["sigma", "finite"]),
    "infinite": ("sigma = 1e-3", "sigma = inf", ["sigma", "finite"]),
    "missing number": ("sigma = 1e-3", "", ["sigma: is required"]),
    "unknown effect": (
        '"gaussian-node"\nst', '"gausian-node"\nst', ["effects.0", "unknown kind", "did you mean gaussian-node"],
    ),
    "effect without kind": ('kind = "gaussian-node"\n', "", ["effects.0", "no kind"]),
    "unknown source": ('source = "dalm-2023"', 'source = "dalm"', ["source 'dalm'", "[sources]"]),
    "unknown status": ('status = "assumed"', 'status = "guessed"', ["status", "'measured'", "'guessed'"]),
    "half a cited value": ("sigma = 1e-3", "sigma = { value = 1e-3 }", ["sigma", "status and source"]),
    "cited value, status": (
        "sigma = 1e-3", 'sigma = { value = 1e-3, status = "guessed", source = "dalm-2023" }', ["status", "'guessed'"],
    ),
    "cited value, source": (
        "sigma = 1e-3", 'sigma = { value = 1e-3, status = "fitted", source = "dalm" }', ["source 'dalm'"],
    ),
    "cited value, type": (
        "sigma = 1e-3", 'sigma = { value = 1e-3, status = "fitted", source = ["dalm-2023"] }', ["source", "string"],
    ),
    "unknown observable": ('"clean_pass"]', '"clean"]', ["observable.4", "'clean_pass'", "'clean'"]),
    "observable without effect": ('"injected_noise"', '"injected_weight_noise"', ["weight_noise", "no effect"]),
    "other version": ("schema_version = 1", "schema_version = 3", ["schema_version", "3"]),
    "bad name": ('name = "gaussian-node"', 'name = "Gaussian Node"', ["name", "'Gaussian Node'"]),
    "no date": ("date = 2026-11-20\n\n[calibration]", "\n[calibration]", ["specification.date", "required"]),
    "one effect as a table": ("[[calibration.effects]]", "[calibration.effects]", ["calibration.effects", "tuple"]),
}  # fmt: skip
WRONG_PCM = {
    "no mapping": ("[specification.mapping]", "[specification.nothing]", ["unknown key 'nothing'"]),
    "mapping of another kind": ('"differential-pair"', '"pair"', ["mapping.kind", "'differential-pair'", "'pair'"]),
    "negative conductance": ("value = 25.0", "value = -25.0", ["g_max_us", "greater than"]),
    "clean pass with lasting noise": ('"activity"]', '"activity", "clean_pass"]', ["clean_pass", "programming-noise"]),
    "curve of nothing": ("{ polynomial = [0.26348, 1.9650, -1.1731] }", "{ }", ["sigma_us", "curve"]),
    "infinite interval": ("pass_interval_us = 1.0", "pass_interval_us = inf", ["pass_interval_us", "finite"]),
    "no step interval": (
        "pass_interval_us = 1.0",
        "pass_interval_us = 1.0\nstep_interval_us = 0.0",
        ["step_interval_us", "greater"],
    ),
    "infinite step interval": (
        "pass_interval_us = 1.0",
        "pass_interval_us = 1.0\nstep_interval_us = inf",
        ["step_interval_us", "finite"],
    ),
}


def refusal(text):
    with pytest.raises(UserError) as caught:
        parse_profile(text, "mine.toml")
    message = str(caught.value)
    assert message.startswith("profile mine.toml: ")
    assert "\n" not in message
    assert len(message) < 500
    return message


@pytest.mark.parametrize("what", WRONG)
def test_wrong_profile(what):
    old, new, named = WRONG[what]
    text = profile_text()
    assert old in text
    message = refusal(text.replace(old, new))
    assert all(part in message for part in named), message


def test_an_effect_stated_twice():
    text = profile_text()
    effect = text[text.index("[[calibration.effects]]") :]
    assert "gaussian-node is stated twice" in refusal(text + "\n" + effect)


@pytest.mark.parametrize("what", WRONG_PCM)
def test_wrong_profile_of_devices(what):
    old, new, named = WRONG_PCM[what]
    text = profile_text(PCM)
    assert old in text
    message = refusal(text.replace(old, new))
    assert all(part in message for part in named), message


def test_devices_without_a_mapping():
    text = profile_text(PCM)
    start, end = text.index("[specification.mapping]"), text.index("[specification.timing]")
    assert "state specification.mapping" in refusal(text[:start] + text[end:])


def test_many_mistakes_are_counted():
    text = profile_text().replace("title =", "titel =").replace("sigma = 1e-3", "").replace("schema_version = 1", "")
    assert "titel" in refusal(text)


@pytest.mark.parametrize("text", ["", "name = 1", "[[observable]]", "sources = 3", "a\0b", "x" * 10_000])
def test_text_that_is_no_profile(text):
    refusal(text)


@pytest.mark.parametrize("name", profile_files())
def test_packaged_profile(name):
    profile = load_profile(name)
    assert profile.name == name
    assert load_profile(profile) is profile
    assert load_profile(str(profile_files()[name])) == profile
    assert BP() in rules_for(profile)
    for _, table in profile.cited_tables():
        for _, _, origin in table.numbers():
            assert origin.source in profile.sources
            assert origin.status in ("measured", "fitted", "assumed")
    used = {key for _, table in profile.cited_tables() for key in table.sources()}
    assert used <= set(profile.sources)


def test_packaged_profiles_of_this_version():
    assert {"ideal", "gaussian-node", "gaussian-weight", PCM} <= set(profile_files())


def test_one_number_with_a_source_of_its_own():
    mapping = load_profile(PCM).specification.mapping
    assert mapping.g_max_us == 25.0
    assert mapping.provenance("g_max_us") == ("measured", "nandakumar-2019")
    assert mapping.provenance("scale") == ("assumed", "this-profile")


def test_text_of_a_profile_changed_in_python():
    profile = load_profile("gaussian-node")
    assert profile.full_text == profile_text()
    louder = profile.calibration.effects[0].model_copy(update={"sigma": 0.5})
    calibration = profile.calibration.model_copy(update={"effects": (louder,)})
    changed = profile.model_copy(update={"calibration": calibration})
    assert changed.full_text != profile.full_text
    assert HardwareProfile.model_validate_json(changed.full_text).calibration.effects[0].sigma == 0.5


def test_the_interval_of_steps_reaches_the_effects_and_is_no_part_of_the_text_where_it_is_not_stated():
    plain = load_profile(PCM).without("power-law-drift")
    assert "step_interval_us" not in plain.full_text
    assert profile_from_text(plain.full_text) == plain
    interval = "pass_interval_us = 1.0"
    stated = parse_profile(profile_text(PCM).replace(interval, f"{interval}\nstep_interval_us = 250.0"))
    settings = [Crossbar("l", torch.nn.Linear(2, 2), profile, Draws(0)).setting for profile in (plain, stated)]
    assert settings[0].step_interval_s is None
    assert settings[1].step_interval_s == pytest.approx(250e-6)
    again = profile_from_text(stated.without("power-law-drift").full_text)
    assert again.specification.timing.step_interval_us == 250.0


@pytest.mark.parametrize(
    ("step_interval_us", "first_wait_us"), [(None, 2.0), (3.0, 2.0), (6.0, 2.0), (6.5, 2.5), (1000.0, 996.0)]
)
def test_a_step_comes_a_pass_interval_after_the_last_pass_or_at_the_interval_of_steps(step_interval_us, first_wait_us):
    step_interval_s = None if step_interval_us is None else step_interval_us * 1e-6
    setting = Setting(pass_interval_s=2e-6, step_interval_s=step_interval_s)
    assert setting.waits_s(3, 2) == pytest.approx([t * 1e-6 for t in [first_wait_us, 2.0, 2.0] * 2])


def test_known_noise_injected_beside_the_devices_own():
    profile = load_profile(PCM).injecting(0.02)
    again = profile_from_text(profile.full_text)
    assert again == profile
    assert again.name == "pcm-nandakumar-2019-injected-0-02"
    assert [effect.sigma for effect in again.effects("node")] == [0.02]
    chip = Chip(mlp(4, (5,), 3), profile, seed=0)
    NP(baseline="noisy").estimate(chip, torch.randn(6, 4), lambda y: y.square().sum(1))
    with pytest.raises(UserError, match="needs the injected node noise"):
        NP(baseline="noisy").estimate(Chip(mlp(4, (5,), 3), PCM), torch.randn(6, 4), lambda y: y.sum(1))


@pytest.mark.parametrize(
    ("name", "sigma", "reason"),
    [(PCM, 0.0, "greater than"), ("gaussian-node", 0.1, "stated twice"),
     ("smtj-koenders-2024", 0.1, "cannot be read out")],
)  # fmt: skip
def test_noise_that_cannot_be_injected(name, sigma, reason):
    with pytest.raises(UserError, match=reason):
        load_profile(name).injecting(sigma)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("gausian-node", "did you mean gaussian-node"),
        ("zzz", "known: "),
        ("", "unknown profile ''"),
        ("no/such.toml", "No such file"),
    ],
)
def test_profile_that_is_not_there(name, named):
    with pytest.raises(UserError) as caught:
        load_profile(name)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_beside_is_named_where_its_ending_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-pcm.toml").touch()
    with pytest.raises(
        UserError, match=r"unknown profile 'my-pcm'; a file of yours ends in .toml: my-pcm.toml is here"
    ):
        load_profile("my-pcm")


def test_a_profile_of_ones_own_has_a_name_of_its_own(tmp_path):
    text = profile_files()["gaussian-node"].read_text()
    (tmp_path / "mine.toml").write_text(text)
    assert load_profile(tmp_path / "mine.toml").name == "gaussian-node", "a copy is no other machine"
    (tmp_path / "mine.toml").write_text(text.replace("sigma = 1e-3", "sigma = 2e-3"))
    with pytest.raises(UserError, match="'gaussian-node' is that of a packaged profile; give it another name"):
        load_profile(tmp_path / "mine.toml")


def test_file_that_is_no_text(tmp_path):
    (tmp_path / "a.toml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "b.toml").mkdir()
    for name in ("a.toml", "b.toml"):
        with pytest.raises(UserError, match="cannot be read"):
            load_profile(tmp_path / name)


@pytest.mark.parametrize("name", profile_files())
def test_a_profile_is_sent_to_other_processes_as_its_text(name: str) -> None:
    """So that a process reads it with the effects that are registered there, wherever their classes are."""
    for profile in (load_profile(name), load_profile(name).model_copy(update={"title": "changed"})):
        sent = pickle.dumps(profile)
        assert b"noisylearn.effects" not in sent
        assert pickle.loads(sent).content_hash == profile.content_hash
        assert pickle.loads(sent).full_text == profile.full_text
