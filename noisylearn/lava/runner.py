"""Runs a network file in Lava, in a process group of its own, under a watchdog."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from noisylearn.errors import UserError
from noisylearn.lava import child
from noisylearn.lava.compat import require_lava
from noisylearn.lava.group import POLL_S, process_group
from noisylearn.lava.lowering import Options, Specs, lower
from noisylearn.lava.netfile import Array, LavaNet, read_net
from noisylearn.runs import TreeFile

START_S = 120.0  # to import, compile and start
TIMEOUT_S = 60.0
OnStep = Callable[[int, int, float], None]


@dataclass(frozen=True, eq=False)
class LavaResult:
    """What a run in Lava gave.

    losses: of the reference pass at every step, (steps,).  learned: "layer.weight", "layer.bias" and
    "population.matrix" at the end; empty where nothing learned.  steps_per_s: after the first.
    """

    losses: Array
    learned: dict[str, Array] = field(default_factory=dict)
    steps_per_s: float = float("nan")
    n_processes: int = 0

    def difference(self, net: LavaNet) -> dict[str, float]:
        """Largest difference from what torch learned of the same draws, by array."""
        return {key: float(np.abs(value - net.torch[key]).max()) for key, value in self.learned.items()}


def run_net(
    path: Path,
    n_steps: int,
    learns: bool = False,
    replays: bool = False,
    timeout_s: float = TIMEOUT_S,
    on_step: OnStep = lambda step, total, loss: None,
) -> LavaResult:
    """Run a network file for so many steps as Lava processes.

    learns: the weights change, by the rule of the file, and torch's noise is drawn anew by each neuron; with `replays`
    the recorded draws take its place, and the result is that of torch to rounding.  timeout_s: without any progress.
    Raises UserError where Lava is not installed, the file has no form as processes, a process fails (with its name and
    traceback) or no step ends in time. No process is left behind, whatever happens.
    """
    if n_steps < 1:
        raise UserError(f"--steps {n_steps}: give at least 1")
    require_lava()
    net = read_net(path)
    options = Options(n_steps, learns, replays)
    with tempfile.TemporaryDirectory(prefix="noisylearn-lava-") as name:
        folder = Path(name)
        progress = np.lib.format.open_memmap(folder / child.PROGRESS, mode="w+", dtype=np.int64, shape=(1000,))
        specs = lower(net, options, folder, progress)  # so that mistakes show before anything starts
        job = {"net": str(path.resolve()), "folder": name} | vars(options)
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        with process_group(
            [sys.executable, "-m", "noisylearn.lava.child", str(folder / "job.json")], folder
        ) as process:
            _watch(process, folder, progress, specs, timeout_s, on_step)
        return _result(folder, specs)


def write_result(path: Path, net: LavaNet, result: LavaResult) -> None:
    """Losses and learned arrays in an HDF5 file, with the facts of the run. Raises UserError as writing fails."""
    learned = {key.replace("/", "|"): value for key, value in result.learned.items()}
    TreeFile(path).write({"facts": net.facts, "losses": result.losses, "learned": learned})


def _watch(
    process: subprocess.Popen[bytes],
    folder: Path,
    progress: np.ndarray,
    specs: Specs,
    timeout_s: float,
    on_step: OnStep,
) -> None:
    """Wait for the end. Raises UserError for a process that fails, or for too long without progress."""
    titles, total = specs.titles(), specs.source.run.n_steps
    last, since = -1, time.monotonic()
    while process.poll() is None:
        _raise_failures(folder)
        steps = progress[: len(titles)]
        done = int(steps.sum())
        if done != last:
            last, since = done, time.monotonic()
            on_step(max(int(steps.min()) - 1, 0), total, float("nan"))
        elif time.monotonic() - since > (timeout_s if last else START_S + timeout_s):
            raise UserError(_hang(titles, steps, timeout_s))
        time.sleep(POLL_S)
    _raise_failures(folder)
    if process.returncode:
        last_words = (folder / "stderr.txt").read_text(encoding="utf-8", errors="replace").strip()[-2000:]
        raise UserError(f"Lava ended with status {process.returncode} before its last step:\n{last_words}")


def _raise_failures(folder: Path) -> None:
    """Raises UserError with the name and the traceback of a process that failed; its own, before Lava's."""
    found = sorted(folder.glob("*.error"), key=lambda path: (path.name == child.FAILED, path.name))
    if found:
        time.sleep(POLL_S)  # it may be in the middle of writing
        trace = found[0].read_text(encoding="utf-8").strip()
        what = "Lava" if found[0].name == child.FAILED else f"Lava process '{found[0].stem}'"
        raise UserError(f"{what} failed: {trace.splitlines()[-1] if trace else 'no traceback'}\n{trace}")


def _hang(titles: list[str], steps: np.ndarray, timeout_s: float) -> str:
    behind = [title for title, step in zip(titles, steps, strict=True) if step == steps.min()]
    return (
        f"no Lava process made a step for {timeout_s:g} s; furthest behind, in step {int(steps.min())}: "
        f"{', '.join(behind)}; if the network is large, give a longer --timeout"
    )


def _result(folder: Path, specs: Specs) -> LavaResult:
    recorded = _arrays(folder, specs.recorder.index)
    times = recorded["times_s"]
    speed = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else float("nan")
    learned: dict[str, Array] = {}
    if specs.source.run.learns:
        for spec in specs.connections:
            found = _arrays(folder, spec.index)
            learned[f"{spec.layer}.weight"] = found["weight"]
            if spec.bias is not None:
                learned[f"{spec.layer}.bias"] = found["bias"]
        for name, decorrelation in specs.decorrelations.items():
            learned[f"{specs.decorrelated(name)}.matrix"] = _arrays(folder, decorrelation.index)["matrix"]
    return LavaResult(recorded["losses"], learned, speed, len(specs.titles()))


def _arrays(folder: Path, index: int) -> dict[str, Any]:
    with np.load(folder / f"{index}.npz", allow_pickle=False) as arrays:
        return dict(arrays)
