"""Edges of the command line: full devices, numbers out of any range, Ctrl-C before it has begun."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

import noisylearn
from noisylearn.cli import app
from noisylearn.ground.errors import UserError

COMMAND = [sys.executable, "-m", "noisylearn"]


@pytest.mark.slow
def test_a_full_device_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        result = subprocess.run([*COMMAND, "rules", "list"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 1
    assert result.stderr.splitlines() == ["error: standard output: cannot be written: No space left on device"]


INTERRUPTED_AT_TORCH = """
import os, signal, sys, time

class Interrupting:
    def find_spec(self, name, *rest):
        if name == "torch":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)

sys.meta_path.insert(0, Interrupting())
sys.argv[0] = sys.argv[1]
from noisylearn.cli import main
"""


def test_ctrl_c_while_torch_is_imported_is_one_word() -> None:
    found = [
        subprocess.run([sys.executable, "-c", INTERRUPTED_AT_TORCH, name], capture_output=True, text=True)
        for name in ("/bin/noisylearn", "my_own_script.py")
    ]
    assert (found[0].returncode, found[0].stdout, found[0].stderr) == (130, "", "interrupted\n")
    assert "KeyboardInterrupt" in found[1].stderr  # a program of one's own keeps its own handling


INTERRUPTED_IN_A_CLASS = """
import os, signal, sys, time

class Pressing:
    def __set_name__(self, owner, name):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)

class Interrupting:
    def find_spec(self, name, *rest):
        if name == "matplotlib":
            type("Axes", (), {"wrapped": Pressing()})

sys.meta_path.insert(0, Interrupting())
sys.argv = ["noisylearn", *sys.argv[1:]]
from noisylearn.cli import main
main()
"""


def test_ctrl_c_while_a_class_is_made_is_one_word(tmp_path) -> None:
    """As in the import of matplotlib: Python 3.11 makes a RuntimeError of what `__set_name__` raises."""
    arguments = ["profiles", "show", "pcm-nandakumar-2019", "--plot", str(tmp_path / "a.png")]
    found = subprocess.run([sys.executable, "-c", INTERRUPTED_IN_A_CLASS, *arguments], capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (130, "interrupted\n")


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"noisylearn {noisylearn.__version__}\n")


def test_no_help_text_has_lost_a_word() -> None:
    """Words in brackets would be taken for styles."""
    for command in ("train", "compare", "export", "reproduce"):
        text = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "4000"}, terminal_width=4000).output
        assert "the numbers that differ" in text or command not in ("train", "compare")
        assert "of  where" not in text


WHOLE = ["--draws", "--epochs", "--batch", "--hidden", "--seed"]


@pytest.mark.parametrize("number", ["99999999999999999999", str(10**9), "-1"])
@pytest.mark.parametrize("option", WHOLE)
def test_numbers_out_of_any_range(option: str, number: str, tmp_path) -> None:
    if (option, number) == ("--seed", str(10**9)):
        return
    arguments = ["train", "--task", "digits", "--rule", "anp", option, number, "--out", str(tmp_path)]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, UserError), result.exception
    assert "\n" not in str(result.exception)
    assert list(tmp_path.glob("*.h5")) == []
