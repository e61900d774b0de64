"""The command on a page repeats its run: the command line makes the same configuration and profile of it."""

import shlex

import pytest
from support.small_runs import PCM, profile_text

from noisylearn.experiments.config import resolve
from noisylearn.ground.errors import UserError
from noisylearn.profiles import load_profile, parse_profile
from noisylearn.report.page.commands import train_command

ECRAM = "ecram-mo-kim-2019"
OWN = profile_text().replace('name = "gaussian-node"', 'name = "mine"')


@pytest.fixture
def repeated(run, monkeypatch, tmp_path):
    """What `noisylearn train` would run for a command, and the words of it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(OWN)
    seen = []

    def instead(config, profile, *others, **more):
        seen.extend((config, profile))
        raise UserError("that is enough")

    monkeypatch.setattr("noisylearn.cli.train.train", instead)

    def call(config, profile):
        words = shlex.split(train_command(config, profile))
        assert words[0] == "noisylearn"
        assert run(*words[1:])[2] == "error: that is enough\n"
        return *seen, words

    return call


@pytest.mark.parametrize(
    ("task", "label", "profile", "settings", "stated"),
    [
        ("digits", "anp", load_profile(PCM), {}, ""),
        ("digits", "danp", load_profile(PCM), {"lr": 0.1 + 0.2, "epochs": 3}, "--lr 0.30000000000000004 --epochs 3"),
        ("digits", "anp", load_profile("gaussian-node"), {"hidden": (), "flips": True}, "--hidden 0 --flips"),
        ("digits", "bp", load_profile(PCM), {"forward": "chip", "hidden": (4, 3)}, "--forward chip --hidden 4,3"),
        ("digits", "np", load_profile("gaussian-node"), {"baseline": "noisy"}, "--baseline noisy"),
        ("digits", "anp", load_profile(PCM), {"readout": "delta", "seed": 4}, "--readout delta"),
        ("mackey-glass", "tbptt5", load_profile("gaussian-node"), {"seq_len": 50}, "--seq-len 50"),
        ("mackey-glass", "anp", load_profile(PCM), {"update": "online", "credit": "trace"}, None),
        ("digits", "anp", load_profile(PCM).without("power-law-drift", "programming-noise"), {}, ""),
        ("digits", "anp", load_profile(PCM).only("one-over-f-read-noise"), {}, ""),
        ("digits", "bp", load_profile(PCM).only(), {}, ""),
        ("digits", "lf", load_profile(ECRAM).written_by("accumulate"), {}, ""),
        ("digits", "lf", load_profile(ECRAM).written_by("accumulate", threshold=0.05).without("dac"), {}, ""),
        ("digits", "anp", parse_profile(OWN), {}, ""),
    ],
)  # fmt: skip
def test_command_repeats_the_run(repeated, task, label, profile, settings, stated):
    config, _ = resolve(task, label, profile, {"device": "cpu", **settings})
    found, machine, words = repeated(config, profile)
    assert found == config
    assert machine.full_text == profile.full_text
    if stated is not None:  # no more than is needed
        kept = words[words.index("--rule") + 2 : -2]
        for option in ("--profile", "--only", "--without", "--write"):
            if option in kept:
                del kept[kept.index(option) : kept.index(option) + 2]
        assert " ".join(kept) == stated
    assert words[-2:] == ["--seed", str(config.seed)]


def test_command_of_a_task_of_ones_own_states_all_and_is_quoted():
    """The recipes are not asked, and so the file that the task names is not run."""
    config, _ = resolve("digits", "anp", load_profile(PCM), {"device": "cpu"})
    command = train_command(config.model_copy(update={"task": "my tasks.py:Mine; rm -rf ."}), load_profile(PCM))
    words = shlex.split(command)
    assert words[words.index("--task") + 1] == "my tasks.py:Mine; rm -rf ."
    assert {"--lr", "--draws", "--baseline", "--hidden", "--optimizer", "--batch"} <= set(words)
