"""What must agree between a CPU and another device, or between two ways on one device; used by gpu.py."""

import copy
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import noisylearn as nl
from noisylearn.chips.readings import Plan
from noisylearn.experiments.config import resolve
from noisylearn.experiments.run_file import OF_THE_OCCASION
from noisylearn.experiments.train import train
from noisylearn.ground.counter_draws import CounterDraws
from noisylearn.ground.tree_file import differences
from noisylearn.kernels.availability import toolkit_for
from noisylearn.rules import REGISTRY, Rule
from noisylearn.rules.variants import combinations_in_time, variants

PCM = "pcm-nandakumar-2019"
PROFILES = "gaussian-node", "gaussian-weight", PCM
CPU = torch.device("cpu")
ROUNDING_64 = 1e-9  # of an estimate in float64; the last bit of the inputs moves one by up to 5e-12
ROUNDING_32 = 1e-5  # of sums of 100 products in float32, and of the functions of noise and drift
ROUNDING_OF_LOSSES = 1e-2  # of an estimate in float32 from differences of losses
BATCH, T = 6, 5
Gradients = dict[str, Tensor]


@dataclass(frozen=True)
class Check:
    """One comparison.

    Args:
        name: of what is compared.
        deviation: largest difference, relative to the largest number.
        bound: up to which it agrees.
    """

    name: str
    deviation: float
    bound: float

    @property
    def holds(self) -> bool:
        """Whether the two agree; a deviation that is no number does not."""
        return self.deviation <= self.bound


def squared_error(output: Tensor, target: Tensor) -> Tensor:
    return (output - target).square().sum(1)


def estimate(rule: Rule, profile: str, device: torch.device, dtype: torch.dtype = torch.float64) -> Gradients:
    """Gradients of two estimates with an update between them, on samples; noise by counter, alike on every device."""
    model = nl.networks.mlp(7, (6, 5), 3).to(device, dtype)
    chip = nl.Chip(model, profile, draws=CounterDraws(1, device, dtype))
    x, target = (_data(shape, device, dtype) for shape in ((BATCH, 7), (BATCH, 3)))
    for _ in range(2):
        rule.estimate(chip, x, lambda output: squared_error(output, target))
        _step(model)
        chip.program()
    return _gradients(model)


def along(
    rule: Rule, device: torch.device, dtype: torch.dtype = torch.float64, graphs: bool = False, kernels: bool = False
) -> Gradients:
    """Gradients along a sequence, at its fourth time: graphs are recorded at the second."""
    model = nl.networks.RNN(2, 6, 3).to(device, dtype)
    chip = nl.Chip(model, "gaussian-node", draws=CounterDraws(1, device, dtype), cuda_graphs=graphs, kernels=kernels)
    inputs, targets = (_data(shape, device, dtype) for shape in ((T, BATCH, 2), (T, BATCH, 3)))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    for _ in range(4):
        rule.run(chip, inputs, targets, squared_error, optimizer)
        if rule.in_time().update == "sequence":
            optimizer.step()
            chip.program()
    return _gradients(model)


def _data(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(len(shape) + shape[-1])
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)


def _step(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 1e-3 * parameter.grad


def _gradients(model: nn.Module) -> Gradients:
    return {name: copy.deepcopy(p.grad).cpu() for name, p in model.named_parameters() if p.grad is not None}


def deviation(found: Gradients, expected: Gradients) -> float:
    """Largest difference of any layer, relative to that layer's largest number."""
    assert found.keys() == expected.keys()
    differ = [(found[k] - expected[k]).abs().max() / expected[k].abs().max().clamp(min=1e-300) for k in expected]
    return float(torch.stack(differ).max())


def on_each_profile(kind: type[Rule]) -> dict[str, Rule]:
    """Profile -> the first way in which the rule can learn samples there; profiles on which it cannot are left out."""
    ways = [] if kind is nl.rules.BPTT else variants(kind)
    able = {name: [rule for rule in ways if not rule.missing(nl.load_profile(name))] for name in PROFILES}
    return {name: rules[0] for name, rules in able.items() if rules}


def checks_of_rules(device: torch.device) -> Iterator[Check]:
    """Estimates of every rule, on samples and along sequences, in float64, against the CPU."""
    for name, kind in REGISTRY.items():
        for profile, rule in on_each_profile(kind).items():
            found, expected = (estimate(rule, profile, where) for where in (device, CPU))
            yield Check(f"{name}, samples, {profile}: against the CPU", deviation(found, expected), ROUNDING_64)
        for rule in () if kind in (nl.rules.BP, nl.rules.WP) else combinations_in_time(kind)[:1]:
            found, expected = (along(rule, where) for where in (device, CPU))
            yield Check(f"{name}, sequence, gaussian-node: against the CPU", deviation(found, expected), ROUNDING_64)


def checks_of_graphs(device: torch.device) -> Iterator[Check]:
    """Steps of sequences launched as one against the same steps launched one by one."""
    for baseline in ("noisy", "clean"):
        rule = nl.rules.ANP(baseline=baseline)
        found, expected = (along(rule, device, torch.float32, graphs) for graphs in (True, False))
        yield Check(f"anp {baseline}, sequence: CUDA graphs against plain", deviation(found, expected), 0.0)


def checks_of_runs(device: torch.device) -> Iterator[Check]:
    """The file of a run, made twice on one device: equal bit for bit, wall time apart."""
    for profile in ("gaussian-node", PCM):
        with tempfile.TemporaryDirectory() as folder:
            trees = [_trained(profile, device, Path(folder, name)) for name in ("one", "other")]
        found = list(differences(*trees, OF_THE_OCCASION))
        yield Check(f"anp, digits, {profile}: run file made twice", float(len(found)), 0.0)


def _trained(name: str, device: torch.device, folder: Path) -> dict[str, Any]:
    profile = nl.load_profile(name)
    options = {"baseline": "noisy", "hidden": (12,), "epochs": 2, "batch": 100, "device": device.type}
    return train(resolve("digits", "anp", profile, options)[0], profile, folder).read()


def checks_of_kernels(device: torch.device) -> Iterator[Check]:
    """Devices written and read by kernels against plain torch with the same numbers, and against themselves."""
    for profile in (PCM, "pcm-hermes-1-device"):
        found, again, expected = (read_by(kernels, profile, device) for kernels in (True, True, False))
        for what in expected:
            one, other, plain = ({what: result[what]} for result in (found, again, expected))
            yield Check(f"kernels, {what}, {profile}: against plain", deviation(one, plain), ROUNDING_32)
            yield Check(f"kernels, {what}, {profile}: made twice", deviation(one, other), 0.0)
    for rule in (nl.rules.ANP(baseline="noisy"), nl.rules.ANP(baseline="clean")):
        found, expected = (along(rule, device, torch.float32, kernels=kernels) for kernels in (True, False))
        name = f"kernels, anp {rule.baseline}, sequence: against plain"
        yield Check(name, deviation(found, expected), ROUNDING_OF_LOSSES)


def read_by(kernels: bool, profile: str, device: torch.device) -> Gradients:
    """Weights on the devices of a layer, right after the write and a day later, and three reads of it."""
    layer = nn.Linear(100, 33).to(device)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(_data((*parameter.shape,), device, torch.float32))
    chip = nl.Chip(layer, profile, draws=CounterDraws(1, device), kernels=kernels)
    written = chip.weights()[""]
    reads = chip.passes(_data((20, 100), device, torch.float32), Plan(((False,),) * 3)).output
    chip.advance(86400)
    return {"written": written.cpu(), "read": reads.cpu(), "written, after a day": chip.weights()[""].cpu()}


CHECKS: dict[str, Callable[[torch.device], Iterator[Check]]] = {
    "rules": checks_of_rules,
    "kernels": checks_of_kernels,
    "runs": checks_of_runs,
    "graphs": checks_of_graphs,
}


def why_not(name: str, device: torch.device) -> str:
    """Why checks are left out on a device; empty where they are not."""
    if name == "graphs":
        return "" if device.type == "cuda" else "CUDA graphs need a GPU"
    return why_no_kernels(device) if name == "kernels" else ""


def why_no_kernels(device: torch.device) -> str:
    """Why no kernel runs on a device; empty where kernels do."""
    try:
        toolkit_for(device)
    except nl.UserError as reason:
        return str(reason)
    return ""
