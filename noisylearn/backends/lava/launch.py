"""Runs a network file in Lava, in a process group of its own, watched for failures and for lack of progress."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, final

import numpy as np

from noisylearn.backends.lava.compat import require_lava
from noisylearn.backends.lava.fixed import check_cores
from noisylearn.backends.lava.group import POLL_S, last_output, process_group
from noisylearn.backends.lava.integers import IntegerOptions, IntegerResult, microcode_of, read_executed
from noisylearn.backends.lava.monitoring import FAILURE, LAVA, Monitors, new_monitors, open_monitors
from noisylearn.backends.lava.netfile import Array, LavaNet, read_net
from noisylearn.backends.lava.process_specs import FloatOptions, NetworkSpecs, process_specs
from noisylearn.ground.errors import UserError
from noisylearn.ground.stored import Arrays, Series, Stored, Text
from noisylearn.ground.tree_file import Tree, TreeFile

START_S = 120.0  # to import, compile and start
TIMEOUT_S = 60.0
OnStep = Callable[[int, int, float], None]


@dataclass(frozen=True, eq=False)
class LavaResult:
    """What a run in Lava gave.

    Args:
        losses: of the reference pass at every step, (steps,).
        learned: "layer.weight", "layer.bias" and "population.matrix" -> the array at the end; empty where nothing
            learned.
        steps_per_s: after the first step.
        n_processes: number of Lava processes.
    """

    losses: Array
    learned: dict[str, Array] = field(default_factory=dict)
    steps_per_s: float = float("nan")
    n_processes: int = 0

    def difference(self, net: LavaNet) -> dict[str, float]:
        """Largest difference from what torch learned with the same draws, by array.

        Args:
            net: content of the network file.

        Raises:
            UserError: the run had another number of steps than torch's.
        """
        if len(self.losses) != net.steps:
            raise UserError(f"{len(self.losses)} steps ran, torch learned for {net.steps}: these cannot be compared")
        return {key: float(np.abs(value - net.torch[key]).max()) for key, value in self.learned.items()}


def run_net(
    path: str | Path,
    n_steps: int,
    learns: bool = False,
    replays: bool = False,
    timeout_s: float = TIMEOUT_S,
    on_step: OnStep = lambda step, total, loss: None,
) -> LavaResult:
    """Run a network file as Lava processes, in a process group of its own.

    No process is left behind, however the run ends.

    Args:
        path: the network file.
        n_steps: number of steps.
        learns: whether the weights change, by the rule of the file; each neuron draws noise of its own.
        replays: whether the recorded draws of torch take the place of the neurons' own; the result then equals torch's
            to rounding.
        timeout_s: seconds without any progress after which the run is ended.
        on_step: called with the number of finished steps, the total and the loss (nan: not known before the end).

    Raises:
        UserError: Lava is not installed, the file has no form as processes, a process fails (with its name and
            traceback) or no step ends in time.
    """
    require_lava()
    if n_steps < 1:
        raise UserError(f"--steps {n_steps}: give at least 1")
    _check_timeout(timeout_s)
    options = FloatOptions(n_steps, learns, replays)
    with TemporaryDirectory(prefix="nl-lava-") as name:
        folder = Path(name)
        specs = checked_specs(read_net(path), options, new_monitors(folder))
        _run_job({"net": str(Path(path).resolve()), "options": vars(options)}, folder, n_steps, timeout_s, on_step)
        return _result(specs)


def checked_specs(net: LavaNet, options: FloatOptions, monitors: Monitors) -> NetworkSpecs:
    """What the processes of a run would be given, so that mistakes show before any of them starts.

    Args:
        net: content of the network file.
        options: of the run.
        monitors: of the run.

    Raises:
        UserError: the network has no form as processes, or the draws to be replayed are those of another one.
    """
    specs = process_specs(net, options, monitors)
    try:
        for neurons in specs.neurons if options.replays else ():
            if neurons.noise is not None:
                neurons.noise(0)
        for connection in specs.connections if options.replays else ():
            if connection.weight_noise is not None:
                connection.weight_noise(0)
    except (IndexError, ValueError) as error:
        raise UserError(
            f"the draws in the network file are not those of its network ({error}); export it again"
        ) from None
    return specs


def replay_here(net: LavaNet) -> LavaResult:
    """Learn in this process from all draws of a network, without a watchdog; `run_net` starts a process for that.

    Saves the start of a process for those who run many networks; loads Lava, see `compat.load_lava`.

    Args:
        net: content of the network file.

    Returns:
        What the processes learned.

    Raises:
        UserError: Lava is not installed, or the network has no form as processes.
    """
    from noisylearn.backends.lava.child import run_processes

    with TemporaryDirectory(prefix="nl-lava-") as name:
        folder = Path(name)
        monitors = new_monitors(folder)
        specs = process_specs(net, FloatOptions(net.steps, learns=True, replays=True), monitors)
        run_processes(specs, monitors)
        return _result(specs)


def run_net_in_integers(
    path: str | Path,
    options: IntegerOptions,
    timeout_s: float = TIMEOUT_S,
    on_step: OnStep = lambda step, total, loss: None,
) -> IntegerResult:
    """Run a network file in Lava's fixed-point learning engine, bit for bit what `integers.emulate` computes.

    Args:
        path: the network file.
        options: of the run.
        timeout_s: seconds without any progress after which the run is ended.
        on_step: as in `run_net`; steps are those of the cores' clock.

    Raises:
        UserError: as in `run_net`, and for what has no form in integers.
    """
    require_lava()
    microcode = microcode_of(read_net(path), options)
    check_cores(microcode.network.cores)
    _check_timeout(timeout_s)
    with TemporaryDirectory(prefix="nl-lava-") as name:
        folder = Path(name)
        new_monitors(folder)
        total = options.n_steps * microcode.schedule.t_epoch
        _run_job({"net": str(Path(path).resolve()), "integers": vars(options)}, folder, total, timeout_s, on_step)
        return read_executed(folder)


def _check_timeout(timeout_s: float) -> None:
    """Refuse a time-out that is not above 0."""
    if not timeout_s > 0:
        raise UserError(f"--timeout {timeout_s:g}: give seconds, more than 0")


def _run_job(job: dict[str, Any], folder: Path, total: int, timeout_s: float, on_step: OnStep) -> None:
    """Run a job in a process group of its own, and watch it."""
    (folder / "job.json").write_text(json.dumps(job | {"folder": str(folder)}), encoding="utf-8")
    command = [sys.executable, "-m", "noisylearn.backends.lava.child", str(folder / "job.json")]
    with process_group(command, folder) as process:
        _watch(process, folder, total, timeout_s, on_step)


class _Result(Stored):
    facts: Text
    losses: Series
    learned: Arrays


@final
class ResultFile(TreeFile[Tree]):
    """Losses and learned arrays of a network that ran in Lava."""

    what, mend = "result file", "run the network again"

    def checked(self, tree: Tree) -> Tree:
        """The tree, once names and types of all of it were checked."""
        _Result.model_validate(tree)
        return tree


def write_result(path: Path, net: LavaNet, result: LavaResult, force: bool = False) -> None:
    """Write losses and learned arrays into an HDF5 file, with the facts of the run.

    Args:
        path: the file to write.
        net: content of the network file.
        result: of the run.
        force: whether to replace whatever is there.

    Raises:
        UserError: the file cannot be written, or something else than a result file is there.
    """
    file = ResultFile(path)
    file.check_free(force)
    learned = {key.replace("/", "|"): value for key, value in result.learned.items()}
    file.write({"facts": net.facts, "losses": result.losses, "learned": learned}, force)


def _watch(process: subprocess.Popen[bytes], folder: Path, total: int, timeout_s: float, on_step: OnStep) -> None:
    """Wait for the end of a run; refuse a process that fails, and too long a time without progress."""
    monitors = open_monitors(folder)
    last, since = -1, time.monotonic()
    while process.poll() is None:
        _raise_failures(folder)
        steps = monitors.steps()
        done = sum(steps.values())
        if done != last:
            last, since = done, time.monotonic()
            on_step(min(max(min(steps.values(), default=0) - 1, 0), total), total, float("nan"))
        elif time.monotonic() - since > (timeout_s if last > 0 else START_S + timeout_s):
            raise UserError(_hang(steps, timeout_s))
        time.sleep(POLL_S)
    _raise_failures(folder)
    if process.returncode:
        raise UserError(f"Lava ended with status {process.returncode} before its last step:\n{last_output(folder)}")


def _raise_failures(folder: Path) -> None:
    """Raise the error of a process that failed, with its name and traceback; one of ours before that of Lava itself."""
    found = sorted(folder.glob(f"*{FAILURE}"), key=lambda path: (path.stem == LAVA, path.name))
    if found:
        trace = found[0].read_text(encoding="utf-8").strip()
        what = LAVA if found[0].stem == LAVA else f"Lava process '{found[0].stem}'"
        raise UserError(f"{what} failed: {trace.splitlines()[-1] if trace else 'no traceback'}\n{trace}")


def _hang(steps: dict[str, int], timeout_s: float) -> str:
    """Message for a run in which no process makes progress."""
    least = min(steps.values(), default=0)
    behind = ", ".join(title for title, step in steps.items() if step == least) or "all of them"
    return (
        f"no Lava process made a step for {timeout_s:g} s; furthest behind, in step {least}: {behind}; if the network "
        "is large, give a longer --timeout"
    )


def _result(specs: NetworkSpecs) -> LavaResult:
    """The result that the processes left in their folder."""
    recorded = specs.loss_log.monitor.results()
    times = recorded["times_s"]
    speed = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else float("nan")
    learned: dict[str, Array] = {}
    if specs.source.settings.learns:
        for spec in specs.connections:
            found = spec.monitor.results()
            learned[f"{spec.layer}.weight"] = found["weight"]
            if spec.bias is not None:
                learned[f"{spec.layer}.bias"] = found["bias"]
        for name, decorrelation in specs.decorrelations.items():
            learned[f"{specs.decorrelated(name)}.matrix"] = decorrelation.monitor.results()["matrix"]
    n_processes = 3 + len(specs.connections) + len(specs.neurons) + len(specs.decorrelations)
    return LavaResult(recorded["losses"], learned, speed, n_processes)
