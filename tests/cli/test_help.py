"""What --help shows, and what a shell completes."""

import re

import pytest

from noisylearn.cli.commands import COMMANDS


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


def test_a_shell_completes_commands_and_options(run, monkeypatch):
    monkeypatch.setenv("_NOISYLEARN_COMPLETE", "complete_bash")
    for words, number, completed in (("noisylearn tr", 1, ["train"]), ("noisylearn tasks s", 2, ["show"])):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(number))
        assert run()[1].split() == completed
    monkeypatch.setenv("COMP_WORDS", "noisylearn train --decorr")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert run()[1].split() == ["--decorrelation-rate"]
