"""Installing Lava, whose metadata excludes every Python but 3.10: it does not need it, so pip is told to look away."""

import importlib.util
import shlex
import subprocess
import sys
from collections.abc import Sequence

from noisylearn.backends.lava.compat import VERSION, is_installed
from noisylearn.ground.errors import UserError

NEEDS = ("asteval>=1.0", "networkx>=3.0")  # as the extra `lava`; of what Lava's metadata names, it imports these alone
_LOAD = "from noisylearn.backends.lava.compat import load_lava; load_lava()"


def commands() -> list[list[str]]:
    """The commands that install Lava for the Python that runs now: what it needs, and Lava without what it names."""
    pip = [sys.executable, "-m", "pip", "install"]
    return [[*pip, *NEEDS], [*pip, "--no-deps", "--ignore-requires-python", f"lava-nc=={VERSION}"]]


def install() -> None:
    """Install Lava where it is missing, and load it once in a process of its own.

    Raises:
        UserError: this Python has no pip, pip fails, or Lava cannot be loaded.
    """
    if not is_installed():
        if importlib.util.find_spec("pip") is None:
            raise UserError(f"{sys.executable}: has no pip; make it with: {sys.executable} -m ensurepip")
        for command in commands():
            _run(command, "check the network and who may write to this environment, or run it yourself")
    _run([sys.executable, "-c", _LOAD], "Lava is there but cannot be loaded; install it anew in an empty environment")


def _run(command: Sequence[str], remedy: str) -> None:
    """Run a command silently.

    Raises:
        UserError: it fails; the message has its last line that speaks of an error, or its last line.
    """
    ended = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if ended.returncode:
        said = [line.strip() for line in (ended.stdout + ended.stderr).splitlines() if line.strip()]
        errors = [line for line in said if line.lower().startswith("error")] or said or ["it says nothing"]
        raise UserError(f"{shlex.join(command)}: exit status {ended.returncode}: {errors[-1]}; {remedy}")
