"""Rules in time: a training step against backprop through time, an online epoch, and memory against length.

OMP_NUM_THREADS=1 python benchmarks/sequences.py [--part steps|epoch|memory] [--seconds 30] [--device cuda] [--json]
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from timing import Row, interleaved, machine, matrix_flops, report
from torch import Tensor, nn

import noisylearn as nl

BATCH, LENGTH, SIZES = 10, 200, (100, 300, 1000)
EPOCH_STEPS, EPOCH_UNITS = 5_000, 1_000
MEMORY_UNITS, MEMORY_LENGTHS = 500, (500, 5_000, 50_000)
BPTT_LENGTHS = (500, 1_000, 2_000)
ANP_RULE = nl.rules.ANP(baseline="noisy")


def squared_error(output: Tensor, target: Tensor) -> Tensor:
    return (output - target).square().mean(1)


class Fused(nn.Module):
    """The standard network in torch: nn.RNN and a readout."""

    def __init__(self, n_hidden: int) -> None:
        super().__init__()
        self.rnn = nn.RNN(1, n_hidden, bias=False)
        self.readout = nn.Linear(n_hidden, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.readout(self.rnn(x)[0])
        return outputs


def series(length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Inputs and targets (length, batch, 1); their values do not matter here."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(length, BATCH, 1, generator=generator).mul_(0.2).to(device)
    return inputs, inputs.roll(-15, 0)


def by_rule(
    rule: nl.rules.Rule,
    n_hidden: int,
    length: int,
    device: torch.device,
    rate: float = 0.0,
    graphs: bool = False,
    kernels: bool = False,
) -> Callable:
    """A training step along one batch of sequences, on gaussian-node."""
    model = nl.networks.RNN(1, n_hidden, 1, decorrelation_rate=rate).to(device)
    chip = nl.Chip(model, "gaussian-node", seed=0, cuda_graphs=graphs, kernels=kernels)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    inputs, targets = series(length, device)

    def step() -> None:
        rule.run(chip, inputs, targets, squared_error, optimizer)
        if rule.in_time().update == "sequence":
            optimizer.step()
            chip.program()

    return step


def by_autograd(model: nn.Module, along: Callable[[Tensor], Tensor], length: int, device: torch.device) -> Callable:
    """Backprop through time in plain torch; `along` gives the outputs of all steps."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    inputs, targets = series(length, device)

    def step() -> None:
        optimizer.zero_grad()
        (along(inputs) - targets).square().mean().backward()
        optimizer.step()

    return step


def looped(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """The same cell, step by step."""

    def along(x: Tensor) -> Tensor:
        outputs, state = [], None
        for step in x:
            output, state = model(step, state)
            outputs.append(output)
        return torch.stack(outputs)

    return along


def bare(n_hidden: int, length: int, device: torch.device, online: bool = False) -> Callable:
    """The arithmetic that any ANP with two passes needs, written by hand: a lower bound of its time.

    Products, normal numbers, tanh, gradient and update; no losses, norms or differences. Only the sizes of the numbers
    are right.

    Args:
        n_hidden: hidden units.
        length: steps of a sequence.
        device: where to run.
        online: gradient, update and a programmed copy of the weights at every step; else one update at the end, with
            the weights stored column by column.
    """
    inputs = series(length, device)[0].repeat_interleave(2, 1)
    weight = torch.randn(n_hidden, n_hidden + 1, device=device).div_(n_hidden**0.5)
    programmed = weight.clone() if online else weight.T.contiguous().T
    state = torch.zeros(2 * BATCH, n_hidden, device=device)

    def update(seen: Tensor, change: Tensor) -> None:
        weight.add_(change.T @ seen, alpha=-1e-9)
        programmed.copy_(weight)

    def step() -> None:
        now, seen, activities = state, [], []
        noise = torch.randn(length, 2 * BATCH, n_hidden, device=device)
        for u, drawn in zip(inputs, noise, strict=True):
            joined = torch.cat([u, now], 1)
            activity = torch.addmm(drawn, joined, programmed.T)
            now = torch.tanh(activity)
            if online:
                update(joined[::2], activity[1::2])
            else:
                seen.append(joined)
                activities.append(activity)
        if not online:
            update(torch.cat(seen)[::2], torch.cat(activities)[1::2])

    return step


def contenders(n_hidden: int, device: torch.device) -> dict[str, Callable]:
    cell = nl.networks.RNN(1, n_hidden, 1).to(device)
    fused = Fused(n_hidden).to(device)
    found = {
        "BPTT, autograd over the same cell": by_autograd(cell, looped(cell), LENGTH, device),
        "BPTT, torch.nn.RNN": by_autograd(fused, fused, LENGTH, device),
        "BPTT, noisylearn": by_rule(nl.rules.BPTT(), n_hidden, LENGTH, device),
        "ANP noisy": by_rule(ANP_RULE, n_hidden, LENGTH, device),
        "DANP noisy": by_rule(ANP_RULE, n_hidden, LENGTH, device, rate=1e-4),
        "ANP's products, noise and tanh alone": bare(n_hidden, LENGTH, device),
    }
    if device.type == "cuda":
        for name, rate in (("ANP noisy", 0.0), ("DANP noisy", 1e-4)):
            found[f"{name}, CUDA graph"] = by_rule(ANP_RULE, n_hidden, LENGTH, device, rate, graphs=True)
    return found


def steps(seconds: float, device: torch.device, as_json: bool, clock: Callable[[], float]) -> None:
    rows = []
    for n_hidden in SIZES:
        found = contenders(n_hidden, device)
        reference = next(iter(found))
        times = interleaved(found, reference, device, seconds / len(SIZES), clock=clock)
        flops = {name: matrix_flops(call) for name, call in found.items()}
        setting = f"{n_hidden} units, T = {LENGTH}, batch {BATCH}"
        rows += [Row(setting, name, flops[name] / flops[reference], times[name]) for name in found]
    report("A training step along a sequence, update at its end, SGD", rows, device, as_json)


def epoch(device: torch.device, as_json: bool) -> None:
    """CPU seconds of 5000 time steps, after a tenth as many to warm up."""
    found = {}
    for name, update, rate in (("ANP online", "online", 0.0), ("DANP online", "online", 1e-4),
                               ("ANP by sequence", "sequence", 0.0)):  # fmt: skip
        rule = nl.rules.ANP(baseline="noisy", update=update)
        by_rule(rule, EPOCH_UNITS, EPOCH_STEPS // 10, device, rate)()
        found[name] = _cpu_s(by_rule(rule, EPOCH_UNITS, EPOCH_STEPS, device, rate))
    found["ANP online, its products, noise and updates alone"] = _cpu_s(
        bare(EPOCH_UNITS, EPOCH_STEPS, device, online=True)
    )
    _print({"cpu_s": found, "machine": machine(device)}, as_json)


def _cpu_s(call: Callable) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def memory(as_json: bool) -> None:
    """Peak resident memory of a process of its own for every length, in MiB."""
    found: dict[str, dict[int, float]] = {"ANP online": {}, "BPTT, autograd over the same cell": {}}
    for length in MEMORY_LENGTHS:
        found["ANP online"][length] = _peak_mib("anp", length)
    for length in BPTT_LENGTHS:
        found["BPTT, autograd over the same cell"][length] = _peak_mib("bptt", length)
    _print({"peak_mib": found, "machine": machine(torch.device("cpu"))}, as_json)


def _peak_mib(what: str, length: int) -> float:
    command = [sys.executable, __file__, "--part", "memory", "--alone", what, "--length", str(length)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def alone(what: str, length: int) -> None:
    """Print the peak memory of one step along a sequence, beyond what the data takes."""
    device = torch.device("cpu")
    data_mib = 2 * length * BATCH * 4 / 2**20
    if what == "anp":
        step = by_rule(nl.rules.ANP(baseline="noisy", update="online"), MEMORY_UNITS, length, device)
    else:
        cell = nl.networks.RNN(1, MEMORY_UNITS, 1)
        step = by_autograd(cell, looped(cell), length, device)
    step()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - data_mib)


def _print(found: dict, as_json: bool) -> None:
    print(json.dumps(found, indent=2) if as_json else "\n".join(f"{key}: {value}" for key, value in found.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=["steps", "epoch", "memory"], default="steps")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument(
        "--cpu-time", action="store_true", help="of steps, count CPU time: on a machine with other jobs"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    parser.add_argument("--length", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    nl.keep_freed_memory()
    if arguments.alone:
        alone(arguments.alone, arguments.length)
    elif arguments.part == "steps":
        clock = time.thread_time if arguments.cpu_time else time.perf_counter
        steps(arguments.seconds, arguments.device, arguments.json, clock)
    elif arguments.part == "epoch":
        epoch(arguments.device, arguments.json)
    else:
        memory(arguments.json)


if __name__ == "__main__":
    main()
