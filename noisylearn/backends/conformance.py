"""Conformance: what every rule does on every backend, stated as a claim that can be run, or excluded with the reason.

A claim is cheap to state; `verify` runs it. Torch in float64 is the reference, whose rules are held against closed
forms elsewhere; float Lava has to equal it, and Lava's learning engine the integer emulator.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noisylearn import networks
from noisylearn.backends.lava.export import Data, to_lava_net
from noisylearn.backends.lava.fixed import run_fixed
from noisylearn.backends.lava.launch import run_net
from noisylearn.backends.lava.netfile import write_net
from noisylearn.backends.lava.process_specs import why_not
from noisylearn.backends.loihi.emulator import Emulator
from noisylearn.backends.loihi.microcode import Microcode, to_microcode
from noisylearn.backends.loihi.quantisation import quantise
from noisylearn.backends.netlist.rate import from_model
from noisylearn.chips.simulated import Chip
from noisylearn.ground.errors import UserError
from noisylearn.networks.decorrelation import decorrelate
from noisylearn.profiles import HardwareProfile, load_profile
from noisylearn.rules import ANP, BP, BPTT, INP, NP, REINFORCE, WP, Delta, PerLayer, Rule
from noisylearn.rules.base import Perturbation
from noisylearn.rules.estimate import Baseline
from noisylearn.rules.in_time import Update

TORCH, FLOAT_LAVA, EMULATOR, FIXED_LAVA = BACKENDS = (
    "torch, float64",
    "Lava, float64",
    "integer emulator",
    "Lava, fixed point",
)
NETWORKS = ("feed-forward", "feed-forward, decorrelated", "recurrent", "recurrent, decorrelated")
CORES = "loihi2-lava-0.10"
STEPS, SAMPLES, PERIOD, LR = 500, 40, 50, 1e-3
PERTURBATIONS: tuple[tuple[type[Perturbation], Baseline, int], ...] = (
    (NP, "clean", 1), (NP, "noisy", 1), (INP, "clean", 1), (ANP, "clean", 1), (ANP, "noisy", 1), (ANP, "mean", 3),
    (WP, "clean", 1), (WP, "noisy", 2),
)  # fmt: skip
TOLERANCE = {False: 1e-12, True: 1e-10}  # by whether the network is recurrent


@dataclass(frozen=True)
class Case:
    """One rule on one network."""

    rule: Rule
    network: str

    @property
    def recurs(self) -> bool:
        return self.network.startswith("recurrent")

    @property
    def name(self) -> str:
        """The rule as one would write it, without what is everywhere the same."""
        if not isinstance(self.rule, Perturbation):
            return type(self.rule).__name__
        draws = f", draws={self.rule.draws}" if self.rule.draws > 1 else ""
        return f"{type(self.rule).__name__}(baseline='{self.rule.baseline}'{draws})"


@dataclass(frozen=True)
class Claim:
    """What holds for a case on a backend; `excluded` says why nothing does."""

    case: Case
    backend: str
    holds: str = ""
    excluded: str = ""


def cases() -> list[Case]:
    """Every rule, with every baseline that it has, on every network."""
    found = []
    for network in NETWORKS:
        in_time = network.startswith("recurrent")
        update: Update = "online" if in_time else "sequence"
        for kind, baseline, draws in PERTURBATIONS:
            found.append(Case(kind(baseline=baseline, draws=draws, update=update), network))
        anp = ANP(baseline="noisy", update=update)
        backprop: Rule = BPTT(truncate=1, update="online") if in_time else BP()
        for rule in (REINFORCE(update=update), PerLayer(rules={"readout": Delta(), "*": anp}), backprop):
            found.append(Case(rule, network))
    return found


def claims() -> list[Claim]:
    """What every case does on every backend, found out without running it."""
    return [claim(case, backend) for case in cases() for backend in BACKENDS]


def claim(case: Case, backend: str) -> Claim:
    """The claim for one case on one backend."""
    if backend == TORCH:
        return Claim(case, backend, "reference")
    if backend == FLOAT_LAVA:
        reason = why_not(case.rule, profile(case), from_model(model(case)))
        holds = f"equal within {TOLERANCE[case.recurs]:g}"
        return Claim(case, backend, excluded=reason) if reason else Claim(case, backend, holds)
    try:
        _integers(case)
    except UserError as reason:
        return Claim(case, backend, excluded=str(reason))
    return Claim(case, backend, "yes" if backend == EMULATOR else "bit for bit the emulator")


def verify(claimed: Claim) -> str:
    """Run a claim; empty if it holds, else what was found in its place. Excluded ones hold as they are.

    The two of Lava's learning engine load Lava into this process, see `noisylearn.backends.lava.compat.load_lava`.
    """
    checks: dict[str, Callable[[Case], str]] = {
        TORCH: _learns_in_torch, FLOAT_LAVA: _equals_torch, EMULATOR: _learns_in_integers, FIXED_LAVA: _equals_emulator,
    }  # fmt: skip
    return "" if claimed.excluded else checks[claimed.backend](claimed.case)


def model(case: Case) -> nn.Module:
    """A network small enough to run often; relu, so that integers can carry it."""
    decorrelates = "decorrelated" in case.network
    if case.recurs:
        return networks.RNN(6, 10, 3, "relu", decorrelation_rate=1e-2 if decorrelates else 0.0)
    plain = networks.mlp(6, (12, 8), 3, activation="relu")
    return decorrelate(plain, 1e-2) if decorrelates else plain


def profile(case: Case) -> HardwareProfile:
    """Injected noise where the rule perturbs."""
    return load_profile("gaussian-weight" if isinstance(case.rule, WP) else "gaussian-node")


def samples(case: Case, steps: int = STEPS) -> Data:
    """A smooth function of random inputs."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.rand(steps, 1, 6, generator=generator, dtype=torch.float64)
    weight = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    counts = torch.ones(steps, 1, dtype=torch.float64)
    return Data(inputs, torch.tanh(inputs @ weight), counts, PERIOD if case.recurs else 0, _squared_error)


def _learns_in_torch(case: Case) -> str:
    data, network = samples(case, steps=PERIOD), model(case).double()
    chip = Chip(network, profile(case))
    optimizer = torch.optim.SGD(network.parameters(), lr=LR)
    before = [p.detach().clone() for p in network.parameters()]
    if case.recurs:
        case.rule.run(chip, data.inputs, data.targets, _squared_error, optimizer)
    else:
        x, y = data.inputs.flatten(0, 1), data.targets.flatten(0, 1)
        case.rule.estimate(chip, x, lambda output: _squared_error(output, y))
        optimizer.step()
    moved = [float((p.detach() - b).abs().max()) for p, b in zip(network.parameters(), before, strict=True)]
    return "" if all(np.isfinite(m) and m > 0 for m in moved) else f"parameters moved by {moved}"


def _equals_torch(case: Case) -> str:
    net = to_lava_net(model(case), case.rule, profile(case), samples(case), LR)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.h5"
        write_net(path, net)
        result = run_net(path, STEPS, learns=True, replays=True)
    difference = float(np.max(list(result.difference(net).values())))
    return "" if difference <= TOLERANCE[case.recurs] else f"differs by {difference:.1e}"


def _integers(case: Case) -> Microcode:
    data = samples(case, SAMPLES)
    network = quantise(from_model(model(case)), CORES, data.inputs[:, 0].numpy())
    return to_microcode(case.rule, network, learning_rate=0.05)


def _learns_in_integers(case: Case) -> str:
    emulator, before = _emulated(case)
    moved = {name: int(np.abs(weights - before[name]).max()) for name, weights in emulator.weights.items()}
    return "" if all(moved.values()) else f"weights moved by {moved}"


def _emulated(case: Case) -> tuple[Emulator, dict[str, np.ndarray]]:
    data, emulator = samples(case, SAMPLES), Emulator(_integers(case), "squared-error")
    before = {name: weights.copy() for name, weights in emulator.weights.items()}
    emulator.run(data.inputs[:, 0].numpy(), data.targets[:, 0].numpy())
    return emulator, before


def _equals_emulator(case: Case) -> str:
    data = samples(case, SAMPLES)
    emulator, _ = _emulated(case)
    found = run_fixed(_integers(case), "squared-error", data.inputs[:, 0].numpy(), data.targets[:, 0].numpy())
    differ = [name for name, weights in emulator.weights.items() if not np.array_equal(weights, found.weights[name])]
    return f"weights differ: {', '.join(differ)}" if differ else ""


def _squared_error(output: Tensor, target: Tensor) -> Tensor:
    return F.mse_loss(output, target, reduction="none").mean(1)


def page() -> str:
    """The page of the docs, in Markdown."""
    return HEAD + table(claims())


HEAD = f"""# Conformance: every rule on every backend

Written by `noisylearn conformance`; the tests run every claim and fail where this page is stale. "reference": torch
runs the rule, which the tests hold against closed forms and autograd. "equal within": after {STEPS} updates with
replayed draws no weight, bias or decorrelating matrix differs by more. "yes": the emulator of profile
`{CORES}` learns; "bit for bit": all its weights are those that Lava's learning engine gives, after {SAMPLES} samples.

"""


def table(found: Sequence[Claim]) -> str:
    """Markdown: a table for each network, and below them the reasons, numbered."""
    reasons: list[str] = []
    parts = []
    for network in NETWORKS:
        rows = [c for c in found if c.case.network == network]
        lines = [f"## {network.capitalize()}", "", f"| rule | {' | '.join(BACKENDS)} |", "| --- |" + " --- |" * 4]
        for name in dict.fromkeys(row.case.name for row in rows):
            cells = [_cell(row, reasons) for row in rows if row.case.name == name]
            lines.append(f"| `{name}` | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    numbered = "\n".join(f"{i}. {reason}" for i, reason in enumerate(reasons, start=1))
    return "\n\n".join([*parts, "## Why not", numbered]) + "\n"


def _cell(row: Claim, reasons: list[str]) -> str:
    if not row.excluded:
        return row.holds
    reason = row.excluded.replace(row.case.rule.describe(), type(row.case.rule).__name__)
    if reason not in reasons:
        reasons.append(reason)
    return f"no ({reasons.index(reason) + 1})"
