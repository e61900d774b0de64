"""Why two noisy passes fail on asymmetric devices, and what helps: an experiment in two tables and a plot.

    python examples/asymmetric_devices.py --out asymmetric-out [--seeds 5] [--epochs 20]

A network 64-32-10 learns 8 x 8 digits sample by sample with plain gradient descent; its weights exist on
pulsed devices.
About 80 s for every contender, device and seed at 20 epochs; finished runs are read again.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

import noisylearn as nl
from noisylearn.cli.output import print_table, print_text, progress
from noisylearn.experiments.compare import compare
from noisylearn.experiments.row import Row
from noisylearn.ground.table import Table
from noisylearn.profiles.write import PulsedDevice
from noisylearn.report.plots import accuracy_curves
from noisylearn.report.tables import trivial_baselines

DEVICES = ("ecram-mo-kim-2019", "reram-soft-bounds-gong-2018")
COMMON: dict[str, Any] = {"optimizer": "sgd", "batch": 1, "schedule": "cosine"}
RATES = {"anp": 6e-3, "danp": 2e-2, "bp": 6e-3}
SPAN = 1.5  # weight at full scale
IN_TRANSFER = {"read_noise": 0.01, "symmetry_error": 0.01}  # of the auxiliary array, assumed

# what is done, rule, write mode, its numbers, what is changed in the device
SYMMETRIC = {"step": "constant", "gamma_up": None, "gamma_down": None, "gamma_spread": 0.0}
CONTENDERS: list[tuple[str, str, str, dict[str, float], dict[str, Any]]] = [
    ("as published", "anp", "pulsed", {}, {}),
    ("pulses without noise", "anp", "pulsed", {}, {"cycle_spread": 0.0, "write_noise": 0.0}),
    ("steps alike everywhere", "anp", "pulsed", {}, SYMMETRIC),
    ("as published", "bp", "pulsed", {}, {}),
    ("auxiliary array", "anp", "auxiliary", IN_TRANSFER, {}),
    ("accumulated, 1 pulse", "anp", "accumulate", {"threshold": 0.0}, {}),
    ("accumulated, 0.05 of full scale", "anp", "accumulate", {"threshold": 0.05}, {}),
    ("accumulated, 0.2 of full scale", "anp", "accumulate", {"threshold": 0.2}, {}),
    ("accumulated, 0.05 of full scale", "danp", "accumulate", {"threshold": 0.05}, {}),
]


def accuracies(devices: list[str], seeds: int, epochs: int, out: Path) -> list[tuple[str, Row]]:
    """Train every contender on every device."""
    rows = []
    with progress() as bar:
        for name in devices:
            for what, rule, mode, numbers, changed in CONTENDERS:
                profile = nl.load_profile(name)
                assert profile.in_place is not None
                device = PulsedDevice.model_validate({**dict(profile.in_place.device), **changed})
                profile = profile.written_by(mode, device=device, weight_at_full_scale=SPAN, **numbers)
                if changed:
                    profile = profile.model_copy(update={"name": f"{name}-{what.replace(' ', '-')}"})
                stated = {**COMMON, "lr": RATES[rule], "epochs": epochs}
                if rule != "bp":
                    stated |= {"baseline": "noisy", "draws": 1}
                found = compare("digits", [rule], [profile], range(seeds), stated, out, watch=bar)
                rows.append((f"{rule}, {what}", found[0]))
    return rows


def pulses_sent(rule: nl.rules.Rule, lr: float, samples: int) -> tuple[float, float]:
    """Pulses per weight of the first layer, in all and net, that a rule sends to devices that are alike everywhere."""
    task = nl.tasks.load("digits")
    model = nl.networks.mlp(64, (32,), 10, seed=0)
    chip = nl.Chip(model, "idealised-device", seed=0)
    layer, optimizer = next(iter(chip.layers.values())), torch.optim.SGD(model.parameters(), lr=lr)
    start, gross = layer.weight.detach().clone(), torch.zeros_like(layer.weight)
    for x, target in zip(task.train_inputs[:samples].split(1), task.train_targets[:samples].split(1), strict=True):
        before = layer.weight.detach().clone()
        rule.estimate(chip, x, lambda output, t=target: F.cross_entropy(output, t, reduction="none"))
        optimizer.step()
        chip.program()
        gross += (layer.weight.detach() - before).abs()
    return float(gross.mean()), float((layer.weight.detach() - start).abs().mean())


def pull(name: str) -> float:
    """Change of weight, up and down in all, after which an asymmetric device has forgotten 1 - 1/e of its weight.

    One pulse up and one down move w by -dw_min w (slope_up - slope_down): 1 / relaxation of
    (slope_up - slope_down) / 2 per unit of state moved either way.
    """
    mode = nl.load_profile(name).in_place
    assert mode is not None
    device = mode.device
    up, down = (device.gamma_up or 1.0) / device.w_max, (device.gamma_down or 1.0) / device.w_min
    return SPAN * 2 / (up - down)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("asymmetric-out"), help="folder for run files and plot")
    parser.add_argument("--seeds", type=int, default=5, help="runs of every contender")
    parser.add_argument("--epochs", type=int, default=20, help="fewer for a quick look")
    parser.add_argument("--devices", default=",".join(DEVICES), help="profiles with pulsed devices")
    arguments = parser.parse_args()
    devices = arguments.devices.split(",")

    causes = []
    for label, rule in (("anp", nl.rules.ANP(baseline="noisy")), ("bp", nl.rules.BP(forward="chip"))):
        gross, net = pulses_sent(rule, RATES[label], samples=1000)
        causes.append([label, f"{gross:.3f}", f"{net:.3f}", f"{gross / net:.1f}"])
    title = "First layer, 1000 samples: what a weight is moved"
    print_table(Table(title, ["rule", "in all", "net", "ratio"], causes, 3))
    print_text("forgotten after: " + ", ".join(f"{pull(name):.2f} in all on {name}" for name in devices))

    rows = accuracies(devices, arguments.seeds, arguments.epochs, arguments.out)
    cells = [
        [name, *(_figure(row) for label, row in rows if label == name)] for name in dict.fromkeys(n for n, _ in rows)
    ]
    print_table(Table("Digits, accuracy on the chip (mean ± sd)", ["", *devices], cells, len(devices)))
    for name in devices:
        chosen = [(label, row) for label, row in rows if row.profile.startswith(name)]
        labels, drawn = zip(*chosen, strict=True)
        accuracy_curves(drawn, "accuracy", trivial_baselines(drawn), arguments.out / f"{name}.png", labels)


def _figure(row: Row) -> str:
    if not row.runs:
        return row.refused
    found = row.summary()["accuracy_at_once"]
    spread = f" ± {100 * found['sd']:.1f}" if found["n"] > 1 else ""
    return f"{100 * found['mean']:.1f}{spread}"


if __name__ == "__main__":
    main()
