"""What --help shows, and what a shell completes."""

import re

import pytest

from noisylearn.cli.commands import COMMANDS
from noisylearn.cli.panels import PANELS


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")


def test_brackets_are_no_markup(run):
    assert "TOML file with task, rules, profiles, seeds, [settings] and [search]." in run("sweep", "--help")[1]


@pytest.mark.parametrize("command", ["", *COMMANDS, "lava run", "profiles show"])
def test_a_flag_takes_no_value(command, run):
    status, out, err = run(*command.split(), "--help")
    assert (status, err) == (0, "")
    assert re.search(r"--help +Show this message and exit", out)
    assert "bool" not in out.lower()


def test_a_paragraph_is_wrapped_by_the_terminal_alone(run):
    assert "A finished run is not run again. Several processes share" in run("train", "--help")[1]


@pytest.mark.parametrize("name", ["train", "compare"])
def test_options_are_in_groups(name, run):
    """The first has what names a run; a new setting is to be put into a group."""
    panels = re.split(r"╭─ (.+?) ─+╮", run(name, "--help")[1])[1:]
    found = {
        title: re.findall(r"^│ [* ]*(--[a-z-]+)", body, re.M)
        for title, body in zip(panels[::2], panels[1::2], strict=True)
    }
    assert list(found) == ["Options", *PANELS]
    first = {"train": ["--task", "--rule", "--profile", "--seed"]}
    assert found["Options"] == [*first.get(name, ["--task", "--rules", "--profiles", "--seeds"]), "--help"]
    assert found["Optimisation"][:2] == ["--optimizer", "--lr"]
    assert "--route" in found["Options of rules"]


@pytest.mark.parametrize(
    ("typed", "meant"), [("trian", "'train'"), ("Compare", "'compare'"), ("rule", "'rules'"), ("xyz", "")]
)
def test_the_nearest_command_is_proposed(typed, meant, run):
    status, out, err = run(typed, "--task", "digits")
    proposed = f"No such command '{typed}'." + f" Did you mean {meant}?" * bool(meant)
    assert (status, out) == (2, "")
    assert proposed in err
    assert ("Did you mean" in err) == bool(meant)


def test_a_shell_completes_commands_and_options(run, monkeypatch):
    monkeypatch.setenv("_NOISYLEARN_COMPLETE", "complete_bash")
    for words, number, completed in (("noisylearn tr", 1, ["train"]), ("noisylearn tasks s", 2, ["show"])):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(number))
        assert run()[1].split() == completed
    monkeypatch.setenv("COMP_WORDS", "noisylearn train --decorr")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert run()[1].split() == ["--decorrelation-rate"]
