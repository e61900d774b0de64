"""Runs a network file in Lava, in a process group of its own, under a watchdog."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np

from noisylearn.backends.lava.child import LAVA
from noisylearn.backends.lava.compat import require_lava
from noisylearn.backends.lava.fixed import check_cores
from noisylearn.backends.lava.group import POLL_S, last_words, process_group
from noisylearn.backends.lava.integers import IntegerOptions, IntegerResult, plan_of, read_executed
from noisylearn.backends.lava.lowering import Options, Specs, lower
from noisylearn.backends.lava.netfile import Array, LavaNet, read_net
from noisylearn.backends.lava.report import FAILURE, new_reports, open_reports
from noisylearn.ground.errors import UserError
from noisylearn.ground.tree_file import Tree, TreeFile

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
        """Largest difference from what torch learned of the same draws, by array.

        Raises UserError after another number of steps than torch made.
        """
        if len(self.losses) != net.steps:
            raise UserError(f"{len(self.losses)} steps ran, torch learned for {net.steps}: these cannot be compared")
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
    require_lava()
    if n_steps < 1:
        raise UserError(f"--steps {n_steps}: give at least 1")
    _check_timeout(timeout_s)
    options = Options(n_steps, learns, replays)
    with _scratch() as folder:
        specs = lower(read_net(path), options, new_reports(folder))  # so that mistakes show before anything starts
        _run_job({"net": str(path.resolve()), "options": vars(options)}, folder, n_steps, timeout_s, on_step)
        return _result(specs)


def run_net_in_integers(
    path: Path,
    options: IntegerOptions,
    timeout_s: float = TIMEOUT_S,
    on_step: OnStep = lambda step, total, loss: None,
) -> IntegerResult:
    """Run a network file in Lava's fixed-point learning engine, bit for bit what `integers.emulate` does.

    Raises UserError as `run_net` does, and for what has no form in integers.
    """
    require_lava()
    plan = plan_of(read_net(path), options)
    check_cores(plan.network.cores)
    _check_timeout(timeout_s)
    with _scratch() as folder:
        new_reports(folder)
        total = options.n_steps * plan.schedule.t_epoch
        _run_job({"net": str(path.resolve()), "integers": vars(options)}, folder, total, timeout_s, on_step)
        return read_executed(folder)


def _check_timeout(timeout_s: float) -> None:
    if not timeout_s > 0:
        raise UserError(f"--timeout {timeout_s:g}: give seconds, more than 0")


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nl-lava-") as name:
        yield Path(name)


def _run_job(job: dict[str, Any], folder: Path, total: int, timeout_s: float, on_step: OnStep) -> None:
    """Run a job in a process group of its own, and watch it."""
    (folder / "job.json").write_text(json.dumps(job | {"folder": str(folder)}), encoding="utf-8")
    command = [sys.executable, "-m", "noisylearn.backends.lava.child", str(folder / "job.json")]
    with process_group(command, folder) as process:
        _watch(process, folder, total, timeout_s, on_step)


@final
class ResultFile(TreeFile):
    """Losses and learned arrays of a network that ran in Lava."""

    what, mend = "result file", "run the network again"

    def missing(self, tree: Tree) -> set[str]:
        return {"facts", "losses", "learned"} - set(tree)


def write_result(path: Path, net: LavaNet, result: LavaResult) -> None:
    """Losses and learned arrays in an HDF5 file, with the facts of the run. Raises UserError as writing fails."""
    learned = {key.replace("/", "|"): value for key, value in result.learned.items()}
    ResultFile(path).write({"facts": net.facts, "losses": result.losses, "learned": learned})


def _watch(process: subprocess.Popen[bytes], folder: Path, total: int, timeout_s: float, on_step: OnStep) -> None:
    """Wait for the end. Raises UserError for a process that fails, or for too long without progress."""
    reports = open_reports(folder)
    last, since = -1, time.monotonic()
    while process.poll() is None:
        _raise_failures(folder)
        steps = reports.steps()
        done = sum(steps.values())
        if done != last:
            last, since = done, time.monotonic()
            on_step(min(max(min(steps.values(), default=0) - 1, 0), total), total, float("nan"))
        elif time.monotonic() - since > (timeout_s if last > 0 else START_S + timeout_s):
            raise UserError(_hang(steps, timeout_s))
        time.sleep(POLL_S)
    _raise_failures(folder)
    if process.returncode:
        raise UserError(f"Lava ended with status {process.returncode} before its last step:\n{last_words(folder)}")


def _raise_failures(folder: Path) -> None:
    """Raises UserError with the name and the traceback of a process that failed; its own, before Lava's."""
    found = sorted(folder.glob(f"*{FAILURE}"), key=lambda path: (path.stem == LAVA, path.name))
    if found:
        trace = found[0].read_text(encoding="utf-8").strip()
        what = LAVA if found[0].stem == LAVA else f"Lava process '{found[0].stem}'"
        raise UserError(f"{what} failed: {trace.splitlines()[-1] if trace else 'no traceback'}\n{trace}")


def _hang(steps: dict[str, int], timeout_s: float) -> str:
    least = min(steps.values(), default=0)
    behind = ", ".join(title for title, step in steps.items() if step == least) or "all of them"
    return (
        f"no Lava process made a step for {timeout_s:g} s; furthest behind, in step {least}: {behind}; if the network "
        "is large, give a longer --timeout"
    )


def _result(specs: Specs) -> LavaResult:
    recorded = specs.recorder.report.results()
    times = recorded["times_s"]
    speed = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else float("nan")
    learned: dict[str, Array] = {}
    if specs.source.run.learns:
        for spec in specs.connections:
            found = spec.report.results()
            learned[f"{spec.layer}.weight"] = found["weight"]
            if spec.bias is not None:
                learned[f"{spec.layer}.bias"] = found["bias"]
        for name, decorrelation in specs.decorrelations.items():
            learned[f"{specs.decorrelated(name)}.matrix"] = decorrelation.report.results()["matrix"]
    n_processes = 3 + len(specs.connections) + len(specs.neurons) + len(specs.decorrelations)
    return LavaResult(recorded["losses"], learned, speed, n_processes)
