"""`noisylearn lava install`; the wheel's real installation is tried by tools/try_install.py."""

import importlib.util
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from noisylearn.backends.lava import install
from noisylearn.ground.errors import UserError


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "is_installed", lambda: False)


def test_without_yes_the_commands_are_printed_and_nothing_runs(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("something was run"))
    monkeypatch.setattr("noisylearn.cli.lava.is_installed", lambda: False)
    status, out, _ = run("lava", "install")
    first, second, hint = out.splitlines()
    assert status == 0
    assert shlex.split(first) == [sys.executable, "-m", "pip", "install", "asteval>=1.0", "networkx>=3.0"]
    assert shlex.split(second)[3:] == ["install", "--no-deps", "--ignore-requires-python", "lava-nc==0.10.0"]
    assert hint.endswith("noisylearn lava install --yes")
    document = json.loads(run("lava", "install", "--json")[1])
    assert document == {"version": "0.10.0", "installed": False, "commands": [first, second]}


@pytest.mark.usefixtures("missing")
def test_the_commands_run_in_order_and_then_lava_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def says(text: str) -> list[str]:
        return [sys.executable, "-c", f"open({str(tmp_path / 'said')!r}, 'a').write({text!r})"]

    monkeypatch.setattr(install, "commands", lambda: [says("needs "), says("lava ")])
    monkeypatch.setattr(install, "_LOAD", says("loaded")[-1])
    install.install()
    assert (tmp_path / "said").read_text() == "needs lava loaded"


@pytest.mark.usefixtures("missing")
def test_pip_that_finds_no_index_is_one_line(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The true pip, told to look nowhere and to install into an empty folder."""
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": "", "CONFIG_FILE": "/dev/null", "TARGET": str(tmp_path)}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    status, out, err = run("lava", "install", "--yes")
    assert (status, out) == (1, "")
    assert err.startswith(f"error: {sys.executable} -m pip install 'asteval>=1.0'")
    assert "exit status 1: ERROR: No matching distribution found for asteval>=1.0; check the network" in err
    assert err.count("\n") == 1


@pytest.mark.usefixtures("missing")
def test_a_python_without_pip_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"has no pip; make it with: .* -m ensurepip$"):
        install.install()


def test_lava_that_does_not_load_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "is_installed", lambda: True)
    monkeypatch.setattr(install, "_LOAD", "import no_such_module")
    with pytest.raises(UserError, match=r"No module named 'no_such_module'; Lava is there but") as error:
        install.install()
    assert "\n" not in str(error.value)
