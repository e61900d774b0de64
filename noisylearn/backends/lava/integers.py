"""A network file under the constraints of Loihi's cores: in the emulator, or in Lava's learning engine."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisylearn.backends.lava.fixed import run_fixed
from noisylearn.backends.lava.monitoring import Monitors
from noisylearn.backends.lava.netfile import Array, LavaNet
from noisylearn.backends.loihi.emulator import Emulator
from noisylearn.backends.loihi.microcode import Microcode, to_microcode
from noisylearn.backends.loihi.quantisation import quantise
from noisylearn.backends.loihi.saturation import Saturation
from noisylearn.ground.errors import UserError

CORES = "loihi2-lava-0.10"
_RESULT, _WEIGHTS = "integers.npz", "weights of "


@dataclass(frozen=True)
class IntegerOptions:
    """How a network file is run in integers.

    Args:
        n_steps: number of samples.
        learns: whether the weights change.
        lr: learning rate; None for that of the file.
        profile: name of the profile of the cores; None for the file's own, or `loihi2-lava-0.10` where that has no
            cores.
        headroom: how many times over the largest weight of a connection fits at the start.
    """

    n_steps: int
    learns: bool
    lr: float | None = None
    profile: str | None = None
    headroom: float = 2.0


@dataclass(frozen=True, eq=False)
class IntegerResult:
    """What a run in integers gave.

    Args:
        losses: (samples, 2), the perturbed pass first, then the reference.
        weights: connection -> integers (targets, payloads).
        saturation: what was clipped to its range, in one line.
        steps: steps of the cores' clock.
        seconds: that these steps took.
    """

    losses: Array
    weights: dict[str, NDArray[np.int64]]
    saturation: str
    steps: int
    seconds: float


def microcode_of(net: LavaNet, options: IntegerOptions) -> Microcode:
    """The network of a file in integers, with the microcode of its rule.

    Args:
        net: content of the file.
        options: of the run.

    Raises:
        UserError: the options are out of range, or the network, rule or profile has no such form.
    """
    if options.n_steps < 1:
        raise UserError(f"--steps {options.n_steps}: give at least 1")
    if not options.headroom > 0:
        raise UserError(f"--headroom {options.headroom:g}: give a number above 0")
    if net.period and options.n_steps > net.period:
        raise UserError(
            f"--steps {options.n_steps}: the file has sequences of {net.period} steps, and the cores' state is not "
            "reset between them; run one sequence"
        )
    if net.batch != 1:
        raise UserError(
            f"the file has {net.batch} samples a step, but the cores learn from one at a time: export with --batch 1"
        )
    own = net.profile.specification.cores is not None
    profile = options.profile or (net.profile if own else CORES)
    network = quantise(net.netlist, profile, net.inputs[:, 0], weight_headroom=options.headroom)
    return to_microcode(net.rule, network, net.lr if options.lr is None else options.lr)


def emulate(net: LavaNet, options: IntegerOptions) -> tuple[Microcode, IntegerResult]:
    """Run a network file in the emulator.

    Args:
        net: content of the file.
        options: of the run.

    Returns:
        The microcode that the cores execute, and the result.

    Raises:
        UserError: as `microcode_of`.
    """
    microcode = microcode_of(net, options)
    emulator = Emulator(microcode, net.loss, net.seed)
    inputs, targets, rates = _samples(net, options.n_steps)
    start = time.perf_counter()
    run = emulator.run(inputs, targets, options.learns, rates)
    steps = microcode.schedule.t_epoch * options.n_steps
    seconds = time.perf_counter() - start
    return microcode, IntegerResult(run.losses, emulator.weights, str(emulator.saturation), steps, seconds)


def execute(net: LavaNet, options: IntegerOptions, monitors: Monitors) -> None:
    """Run a network file in Lava in this process, and write the result into the monitors' folder.

    Args:
        net: content of the file.
        options: of the run.
        monitors: of the run.

    Raises:
        UserError: as `microcode_of` and `run_fixed`.
    """
    inputs, targets, rates = _samples(net, options.n_steps)
    run = run_fixed(
        microcode_of(net, options), net.loss, inputs, targets, net.seed, options.learns, rates, monitors=monitors
    )
    weights = {f"{_WEIGHTS}{name}": weights for name, weights in run.weights.items()}
    facts = np.array(
        json.dumps({"saturation": dict(run.saturation.counts), "steps": run.steps, "seconds": run.seconds})
    )
    np.savez(monitors.folder / _RESULT, allow_pickle=False, losses=run.losses, facts=facts, **weights)


def read_executed(folder: Path) -> IntegerResult:
    """The result that `execute` wrote."""
    with np.load(folder / _RESULT, allow_pickle=False) as arrays:
        facts: dict[str, Any] = json.loads(str(arrays["facts"]))
        weights = {key.removeprefix(_WEIGHTS): arrays[key] for key in arrays if key.startswith(_WEIGHTS)}
        counts = Saturation()
        counts.add(facts["saturation"])
        return IntegerResult(arrays["losses"], weights, str(counts), facts["steps"], facts["seconds"])


def _samples(net: LavaNet, n: int) -> tuple[Array, NDArray[Any], Array]:
    """Inputs, targets and relative rates of n samples; the rate of a step that does not count is 0."""
    rows = np.arange(n) % net.steps
    return net.inputs[rows, 0], net.targets[rows, 0], net.counts[rows, 0] * net.rates[rows]
