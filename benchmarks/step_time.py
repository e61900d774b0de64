"""Time and peak memory of a training step, against a reference on the same net and batch: backprop in plain torch.

A step is the estimate, `optimizer.step()` and, for rules that run on the chip, `chip.program()`. Figures are means over
as many steps as learned feedback takes to learn once.
"""

import argparse
import copy
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import timing
import torch
from torch import Tensor, nn

import noisylearn as nl
from noisylearn.networks.layers import PLACEABLE, parameter_gradients
from noisylearn.rules import Rule
from noisylearn.rules.feedback import layerwise

PCM = "pcm-nandakumar-2019"
NODE = "gaussian-node"
REFERENCE, BARE = "BP, plain torch", "ANP clean, its arithmetic alone"


@dataclass(frozen=True)
class Net:
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    batch: int


@dataclass(frozen=True)
class Contender:
    """What is timed.

    Args:
        rule: learning rule; None for plain torch.
        profile: hardware profile.
        decorrelated: whether the inputs of every layer are decorrelated.
        programs: whether a step programs the chip.
        kernels: whether kernels read and write the devices.
        first: steps before the timed ones, in which the rule does more than later.
    """

    rule: Rule | None = None
    profile: str = "ideal"
    decorrelated: bool = False
    programs: bool = True
    kernels: bool = False
    first: int = 0


NETS = {
    "20-12-10": Net(partial(nl.networks.mlp, 20, [12], 10), (20,), 8),  # for tests of what uses this
    "784-300-10": Net(partial(nl.networks.mlp, 784, [300], 10), (784,), 200),
    "784-1024x3-10": Net(partial(nl.networks.mlp, 784, [1024] * 3, 10), (784,), 1000),
    "convnet": Net(partial(nl.networks.convnet, (3, 32, 32), 10), (3, 32, 32), 100),
}
FIRST, TOGETHER = layerwise.LEARNED_AT_FIRST, layerwise.LEARNED_EVERY
CLEAN, NOISY = nl.rules.ANP(baseline="clean"), nl.rules.ANP(baseline="noisy")
DIRECT, LAYERWISE = (nl.rules.LearnedFeedback(baseline="noisy", route=route) for route in ("direct", "layerwise"))
CONTENDERS = {
    REFERENCE: Contender(),
    BARE: Contender(),
    "BP": Contender(nl.rules.BP(), programs=False),
    "DBP": Contender(nl.rules.BP(), decorrelated=True, programs=False),
    "ANP clean, gaussian-node": Contender(CLEAN, NODE),
    "ANP noisy, gaussian-node": Contender(NOISY, NODE),
    "DANP clean, gaussian-node": Contender(CLEAN, NODE, decorrelated=True),
    "DANP noisy, gaussian-node": Contender(NOISY, NODE, decorrelated=True),
    "ANP noisy, pcm, not programmed": Contender(NOISY, PCM, programs=False),
    "ANP noisy, pcm": Contender(NOISY, PCM),
    "ANP noisy, pcm, not programmed, kernels": Contender(NOISY, PCM, programs=False, kernels=True),
    "ANP noisy, pcm, kernels": Contender(NOISY, PCM, kernels=True),
    "ANP clean, gaussian-node, kernels": Contender(CLEAN, NODE, kernels=True),
    "DANP noisy, pcm": Contender(NOISY, PCM, decorrelated=True),
    "LF direct, gaussian-node": Contender(DIRECT, NODE, first=FIRST),
    "LF layerwise, gaussian-node": Contender(LAYERWISE, NODE, first=FIRST),
    "LF direct, pcm": Contender(DIRECT, PCM, first=FIRST),
    "LF layerwise, pcm": Contender(LAYERWISE, PCM, first=FIRST),
}


def make_step(net: str, contender: str, device: torch.device) -> timing.Step:
    """A training step on random data; the learning rate is small, so that a thousand steps change nothing much."""
    chosen = CONTENDERS[contender]
    batch = NETS[net].batch
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(batch, *NETS[net].shape, generator=generator).to(device)
    y = torch.randint(10, (batch,), generator=generator).to(device)
    model = NETS[net].make()
    if chosen.decorrelated:
        model = nl.decorrelate(model, rate=1e-6)
    model = model.to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    if contender == BARE:
        return partial(_bare_step, model, copy.deepcopy(model), optimizer, x, y)
    if chosen.rule is None:
        return partial(_plain_step, model, optimizer, x, y)
    step = partial(_chip_step, chosen, nl.Chip(model, chosen.profile, seed=0, kernels=chosen.kernels), optimizer, x, y)
    for _ in range(chosen.first):
        step()
    return step


def _several(step: timing.Step) -> None:
    for _ in range(TOGETHER):
        step()


def _plain_step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()


@torch.no_grad()
def _bare_step(model: nn.Module, written: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    """The arithmetic that any ANP with a clean baseline needs, written by hand: a lower bound of its time.

    Args:
        model: layers one after the other.
        written: a copy of it, whose weights are those of the last programming.
        optimizer: of the model.
        x: samples.
        y: classes.
    """
    batch, inputs, activities = len(x), [], []
    for module in written.children():
        inputs.append(x[:batch])
        x = module(x)
        if isinstance(module, PLACEABLE):
            x = x if len(x) > batch else x.repeat(2, *[1] * (x.dim() - 1))
            x[batch:] += torch.randn_like(x[batch:]).mul_(1e-3)
        activities.append(x)
    losses = nn.functional.cross_entropy(x, y.repeat(2), reduction="none")
    steps = zip(model.children(), inputs, activities, strict=True)
    found = [(layer, seen, a[batch:] - a[:batch]) for layer, seen, a in steps if isinstance(layer, PLACEABLE)]
    squares = [torch.linalg.vector_norm(d.flatten(1), dim=1).square() for _, _, d in found]
    factor = (losses[batch:] - losses[:batch]) * sum(d[0].numel() for _, _, d in found) / sum(squares)
    for layer, seen, d in found:
        gradients = parameter_gradients(layer, seen, d.mul_(factor.view(-1, *[1] * (d.dim() - 1))))
        layer.weight.grad, layer.bias.grad = gradients["weight"], gradients["bias"]
    optimizer.step()
    for there, parameter in zip(written.parameters(), model.parameters(), strict=True):
        there.copy_(parameter)


def _chip_step(contender: Contender, chip: nl.Chip, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    assert contender.rule is not None
    contender.rule.estimate(chip, x, lambda output: nn.functional.cross_entropy(output, y, reduction="none"))
    optimizer.step()
    if contender.programs:
        chip.program()


def measure(
    net: str,
    contenders: Sequence[str],
    reference: str,
    device: torch.device,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> list[timing.Row]:
    """Some contenders on one net. Peak memory counts the gradients, and not what else is held between steps."""
    steps = {name: make_step(net, name, device) for name in dict.fromkeys([reference, *contenders])}
    flops = {name: timing.matrix_flops(partial(_several, step)) for name, step in steps.items()}
    several = {name: partial(_several, step) for name, step in steps.items()}
    times = timing.interleaved(several, reference, device, seconds, clock=clock)
    gradients = sum(p.nbytes for p in NETS[net].make().parameters())
    peaks = {name: timing.peak_bytes(step, device) + gradients for name, step in steps.items()}
    least = peaks[reference]
    return [
        timing.Row(
            f"{net}, batch {NETS[net].batch}",
            name,
            flops[name] / flops[reference],
            replace(times[name], seconds=times[name].seconds / TOGETHER),
            peak / 2**20,
            peak / least,
        )
        for name, peak in peaks.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--net", choices=NETS, action="append", help="one net; may be repeated (default: all)")
    parser.add_argument("--contender", choices=CONTENDERS, action="append", help="one; may be repeated (default: all)")
    parser.add_argument("--reference", choices=CONTENDERS, default=REFERENCE, help="what ratios are formed with")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--seconds", type=float, default=60.0, help="time for each net")
    parser.add_argument("--cpu-time", action="store_true", help="count CPU time, on a machine with other jobs")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    nl.keep_freed_memory()
    device, clock = torch.device(options.device), time.thread_time if options.cpu_time else time.perf_counter
    rows: list[timing.Row] = []
    for net in options.net or list(NETS)[1:]:
        print(f"measuring {net} ...", file=sys.stderr)
        contenders = options.contender or list(CONTENDERS)
        rows += measure(net, contenders, options.reference, device, options.seconds, clock)
    timing.report(f"Training step, relative to {options.reference}", rows, device, options.json)


if __name__ == "__main__":
    main()
