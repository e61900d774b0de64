"""A process group of its own for Lava, which leaves nothing behind: no process, no shared memory, no file."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from noisylearn.ground.errors import UserError

POLL_S = 0.02
STDERR = "stderr.txt"
GRACE_S = 3.0  # for the shared memory to be given back
LONGEST_FOLDER = 60  # a socket under it must have a path of at most 107 bytes


@contextlib.contextmanager
def process_group(command: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that leads a group of its own; the group is gone at the end of the block, however the block ends.

    Args:
        command: program and arguments.
        folder: where the group's standard output and error are kept, and its temporary files where the path is short
            enough for a socket.

    Returns:
        A context manager that gives the leader of the group.
    """
    env = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    if len(str(folder)) <= LONGEST_FOLDER:
        env["TMPDIR"] = str(folder)  # multiprocessing's files are then removed with the folder
    with (folder / STDERR).open("wb") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=errors,
            stderr=errors,
            start_new_session=True,
            env=env,
        )
    try:
        yield process
    finally:
        _end(process)


def run_in_group(command: list[str], folder: Path, timeout_s: float) -> None:
    """Run a command to its end in a process group of its own.

    Args:
        command: program and arguments.
        folder: where its output is kept.
        timeout_s: seconds after which the group is ended.

    Raises:
        UserError: the command fails, with the last line of its output, or takes longer than `timeout_s`.
    """
    with process_group(command, folder) as leader:
        try:
            leader.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise UserError(f"Lava did not finish within {timeout_s:g} s and was ended; give more timeout_s") from None
    if leader.returncode:
        lines = last_output(folder).splitlines() or [f"exit status {leader.returncode}"]
        raise UserError(f"Lava stopped: {lines[-1]}")


def last_output(folder: Path) -> str:
    """The end of what the group wrote to its standard output and error, at most 2000 characters."""
    return (folder / STDERR).read_text(encoding="utf-8", errors="replace").strip()[-2000:]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the whole group: first by a signal that lets it return shared memory, then by one it cannot ignore."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, kind)
            os.killpg(process.pid, signal.SIGCONT)
        deadline = time.monotonic() + GRACE_S
        while time.monotonic() < deadline:
            process.poll()
            if not _group_lives(process.pid):
                break
            time.sleep(POLL_S)
    if process.stdin is not None:
        process.stdin.close()
    process.wait()


def _group_lives(group: int) -> bool:
    """Whether any process of the group is left."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def end_with_parent(folder: Path) -> None:
    """Wait until the parent's death closes standard input, then remove the folder and end the whole group.

    The signal is one that multiprocessing's tracker of shared memory survives: it gives the memory back.

    Args:
        folder: of the run.
    """
    while os.read(0, 1):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    os.killpg(0, signal.SIGCONT)
    os.killpg(0, signal.SIGTERM)
