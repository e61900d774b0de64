"""Training under the constraints of Loihi's cores beside training in floats: two noisy passes, sample by sample.

    OMP_NUM_THREADS=1 python examples/loihi_training.py [--epochs 8] [--seeds 2] [--jobs 2] [--lava-samples 300]

A network 64-100-10 learns 8 x 8 digits by activity-based node perturbation (ANP, noisy baseline), with the noise of
profile loihi2-lava-0.10 in its neurons: in torch, in the integer emulator with every way to round weights, and, for
the first samples, in Lava's fixed-point engine. Everybody gets the same learning rates to choose from, by the loss of
the validation part; the table shows means over seeds of runs on the whole training part. About 15 minutes on 2 cores.
"""

import argparse
import multiprocessing
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import noisylearn as nl
from noisylearn.backends.lava.compat import load_lava
from noisylearn.backends.loihi.emulator import Emulator
from noisylearn.backends.loihi.microcode import Microcode, to_microcode
from noisylearn.backends.loihi.network import Array
from noisylearn.backends.loihi.quantisation import quantise
from noisylearn.backends.losses import cross_entropy
from noisylearn.backends.netlist.rate import from_model
from noisylearn.cli.output import print_table, print_text
from noisylearn.ground.table import Table
from noisylearn.profiles import HardwareProfile, load_profile
from noisylearn.tasks import digits

PROFILE = "loihi2-lava-0.10"
RATES = (1e-3, 3e-3, 6e-3, 1e-2)
RULE = nl.rules.ANP(baseline="noisy")
HEADROOM = {"weight_headroom": 8.0, "activity_headroom": 4.0}

# name -> what is changed in the cores, mantissa of the engine's products; None: floats in torch
CONTENDERS: dict[str, tuple[dict[str, Any], int] | None] = {
    "float, torch": None,
    "per-synapse": ({"rounding": "per-synapse"}, 4),
    "shared": ({"rounding": "shared"}, 4),
    "nearest": ({"rounding": "nearest"}, 4),
    "floor": ({"rounding": "floor"}, 4),
    "per-synapse, finer traces, products cut": ({"rounding": "per-synapse"}, 1),
    "per-synapse, weights of 12 bits": (
        {"rounding": "per-synapse", "weight_bits": 12, "learning_accumulator_bits": 19}, 1
    ),
    "per-synapse, third factor of 16 bits": ({"rounding": "per-synapse", "third_factor_bits": 16}, 4),
}  # fmt: skip


@dataclass(frozen=True)
class Result:
    """Result of one training run.

    Args:
        losses: mean loss of the reference pass in every epoch.
        loss: of the held-out part, without noise.
        accuracy: of the held-out part, without noise.
        saturated: what was clipped, empty in float.
    """

    losses: list[float]
    loss: float
    accuracy: float
    saturated: str = ""


def samples(n: int, epochs: int, seed: int) -> tuple[Array, Array]:
    """Order of the samples of all epochs, and their relative learning rates: half a cosine down to zero."""
    random = np.random.default_rng(seed)
    order = np.concatenate([random.permutation(n) for _ in range(epochs)])
    return order, 0.5 * (1 + np.cos(np.pi * np.arange(len(order)) / len(order)))


def model(seed: int) -> nn.Sequential:
    return nl.networks.mlp(64, [100], 10, activation="relu", seed=seed)


def machine(changes: dict[str, Any]) -> HardwareProfile:
    """The profile with other numbers of its cores."""
    profile = load_profile(PROFILE)
    assert profile.specification.cores is not None
    cores = profile.specification.cores.model_copy(update=changes)
    return profile.model_copy(update={"specification": profile.specification.model_copy(update={"cores": cores})})


def microcode_for(changes: dict[str, Any], mantissa: int, rate: float, seed: int, inputs: Array) -> Microcode:
    network = quantise(from_model(model(seed)), machine(changes), inputs, **HEADROOM)
    return to_microcode(RULE, network, rate, mantissa)


def in_torch(rate: float, epochs: int, seed: int, held_out: str) -> Result:
    """Plain SGD with batches of one sample on a chip of the same noise."""
    torch.set_num_threads(1)
    task, net = digits.load(held_out=held_out), model(seed)
    chip, optimizer = nl.Chip(net, PROFILE, seed=seed), torch.optim.SGD(net.parameters(), lr=rate)
    order, relative = samples(len(task.train_targets), epochs, seed)
    losses = []
    for sample, share in zip(order, relative, strict=True):
        x, y = task.train_inputs[sample][None], task.train_targets[sample][None]
        optimizer.param_groups[0]["lr"] = rate * share
        losses.append(float(RULE.estimate(chip, x, _loss_of(y))))
        optimizer.step()
        chip.program()
    with torch.no_grad():
        return _judged(np.array(losses), epochs, net(task.test_inputs).double().numpy(), task.test_targets.numpy())


def in_integers(changes: dict[str, Any], mantissa: int, rate: float, epochs: int, seed: int, held_out: str) -> Result:
    """The same in the emulator."""
    task = digits.load(held_out=held_out)
    x, y = task.train_inputs.double().numpy(), task.train_targets.numpy()
    order, relative = samples(len(y), epochs, seed)
    emulator = Emulator(microcode_for(changes, mantissa, rate, seed, x), "cross-entropy", seed)
    losses = emulator.run(x[order], y[order], rates=relative).losses[:, 1]
    outputs = emulator.forward(task.test_inputs.double().numpy())
    return _judged(losses, epochs, outputs, task.test_targets.numpy(), str(emulator.saturation))


def _loss_of(y: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda output: F.cross_entropy(output, y, reduction="none")


def _judged(losses: Array, epochs: int, outputs: Array, targets: Array, saturated: str = "") -> Result:
    by_epoch = losses.reshape(epochs, -1).mean(1).tolist()
    accuracy = float((outputs.argmax(1) == targets).mean())
    return Result(by_epoch, float(cross_entropy(outputs, targets).mean()), accuracy, saturated)


def run(name: str, rate: float, epochs: int, seed: int, held_out: str) -> Result:
    contender = CONTENDERS[name]
    if contender is None:
        return in_torch(rate, epochs, seed, held_out)
    return in_integers(*contender, rate, epochs, seed, held_out)


def in_lava(rate: float, n_samples: int) -> tuple[bool, float]:
    """Whether Lava's losses are the emulator's on the first samples, and their mean over the last quarter of them."""
    from noisylearn.backends.lava.fixed import run_fixed

    task = digits.load()
    order, relative = samples(len(task.train_targets), 1, 0)
    chosen = order[:n_samples]
    x, y = task.train_inputs.double().numpy(), task.train_targets.numpy()
    microcode = microcode_for({"rounding": "per-synapse"}, 4, rate, 0, x)
    own = Emulator(microcode, "cross-entropy").run(x[chosen], y[chosen], rates=relative[:n_samples])
    lava = run_fixed(microcode, "cross-entropy", x[chosen], y[chosen], rates=relative[:n_samples])
    return bool((own.losses == lava.losses).all()), float(lava.losses[-n_samples // 4 :, 1].mean())


def in_float_lava(rate: float, epochs: int, seed: int) -> Result:
    """The whole training as float Lava processes, each neuron making its own noise."""
    from noisylearn.backends.lava.export import Data, to_lava_net
    from noisylearn.backends.lava.launch import run_net
    from noisylearn.backends.lava.netfile import write_net

    task, net = digits.load(), model(seed)
    order, relative = (torch.from_numpy(part) for part in samples(len(task.train_targets), epochs, seed))
    x, y = task.train_inputs.double()[order][:, None], task.train_targets[order][:, None]
    data = Data(x, y, torch.ones(len(x), 1, dtype=torch.float64), 0, task.loss_fn, relative)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.h5"
        write_net(path, to_lava_net(net, RULE, load_profile(PROFILE), data, rate, seed))
        result = run_net(path, len(x), learns=True)
    net.load_state_dict({key: torch.from_numpy(value) for key, value in result.learned.items()})
    with torch.no_grad():
        outputs = net(task.test_inputs).double().numpy()
    return _judged(result.losses, epochs, outputs, task.test_targets.numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--lava-samples", type=int, default=300, help="0 leaves Lava out")
    options = parser.parse_args()
    if options.lava_samples:
        load_lava()  # before any process is started
    names, seeds = list(CONTENDERS), range(1, options.seeds + 1)
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        tuning = {
            (name, rate): pool.submit(run, name, rate, options.epochs, 0, "validation")
            for name in names
            for rate in RATES
        }
        best = {name: min(RATES, key=lambda rate, n=name: tuning[n, rate].result().loss) for name in names}
        final = {name: [pool.submit(run, name, best[name], options.epochs, s, "test") for s in seeds] for name in names}
        results = {name: [future.result() for future in futures] for name, futures in final.items()}
    if options.lava_samples:
        best["float, Lava"] = best["float, torch"]
        results["float, Lava"] = [in_float_lava(best["float, Lava"], options.epochs, s) for s in seeds]
    reference = float(np.mean([r.loss for r in results["float, torch"]]))
    rows = []
    for name, found in results.items():
        loss, accuracy = np.mean([r.loss for r in found]), np.mean([r.accuracy for r in found])
        curve = np.mean([r.losses for r in found], 0)
        tuned = " ".join(f"{tuning[name, rate].result().loss:.2f}" for rate in RATES if (name, rate) in tuning)
        shown = " ".join(f"{value:.2f}" for value in curve)
        rows.append(
            [name, f"{best[name]:g}", tuned, shown, f"{loss:.3f}", f"{loss / reference:.2f}", f"{accuracy:.3f}"]
        )
    head = [
        "",
        "rate",
        f"validation loss at {RATES}",
        "training loss by epoch",
        "test loss",
        "of float",
        "test accuracy",
    ]
    print_table(Table("64-100-10, digits, ANP with a noisy baseline", head, rows))
    for name, found in results.items():
        if found[0].saturated:
            print_text(f"{name}: {found[0].saturated}")
    if options.lava_samples:
        same, loss = in_lava(best["per-synapse"], options.lava_samples)
        print_text(
            f"Lava, fixed point, per-synapse, {options.lava_samples} samples: "
            f"losses {'equal' if same else 'NOT equal'} to the emulator's, {loss:.2f} over the last quarter"
        )


if __name__ == "__main__":
    main()
