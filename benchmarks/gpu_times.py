"""Times beside the least that a machine needs, by the bytes and flops of the work; used by gpu.py."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from gpu_checks import PCM, why_no_kernels
from sequences import ANP_RULE, BATCH, Fused, by_autograd, by_rule
from step_time import NETS, REFERENCE, make_step
from timing import Step, interleaved
from torch import nn

import noisylearn as nl
from noisylearn.chips.execution.one_launch import MOST_UNITS
from noisylearn.chips.readings import Plan

PASSES = 8
FLOAT = 4  # bytes


@dataclass(frozen=True)
class Scale:
    """Sizes of the settings.

    Args:
        layers: inputs, outputs and batch of a layer.
        units: hidden units of a recurrent network.
        length: steps of a sequence.
        probe: rows of the square matrices that measure the machine.
        nets: networks of step_time.py.
    """

    layers: tuple[tuple[int, int, int], ...]
    units: tuple[int, ...]
    length: int
    probe: int
    nets: tuple[str, ...]


OF_GPU = Scale(((784, 300, 200), (1024, 1024, 1000), (4096, 4096, 1000)), (100, 300, 1000), 200, 8192, tuple(NETS)[1:])
OF_CPU = Scale(((32, 16, 8),), (16,), 10, 256, ("20-12-10",))  # so that the script itself is tested


@dataclass(frozen=True)
class Work:
    """What any implementation must do at least.

    Args:
        n_bytes: read from and written to memory once.
        flops: of matrix products, at the precision of the weights.
    """

    n_bytes: float
    flops: float


@dataclass(frozen=True)
class Setting:
    """Contenders that do the same work."""

    name: str
    work: Work
    contenders: dict[str, Step]


@dataclass(frozen=True)
class Row:
    """One line of the report; `floor_ms` is what the machine's measured rates allow."""

    setting: str
    contender: str
    ms: float
    floor_ms: float
    n_bytes: float
    flops: float


@dataclass(frozen=True)
class Rates:
    """What a machine reaches, in units per second."""

    n_bytes: float
    flops: float

    def floor_s(self, work: Work) -> float:
        """The longer of the two times, in seconds."""
        return max(work.n_bytes / self.n_bytes, work.flops / self.flops)


def measured_rates(device: torch.device, rows: int) -> Rates:
    """Rates of a copy, and of a product in float32 of square matrices; tf32 stays off, as torch leaves it."""
    a, b = (torch.randn(rows, rows, device=device) for _ in range(2))
    out = torch.empty_like(a)
    found = interleaved(
        {"copy": partial(out.copy_, a), "product": partial(torch.mm, a, b, out=out)}, "copy", device, 0.5
    )
    return Rates(2 * FLOAT * rows**2 / found["copy"].seconds, 2 * rows**3 / found["product"].seconds)


def settings_of_layers(device: torch.device, scale: Scale) -> Iterator[Setting]:
    """One layer of phase-change memory: read by some passes, and written."""
    for n_in, n_out, batch in scale.layers:
        x = torch.rand(batch, n_in, device=device)
        plan = Plan(((False,),) * PASSES)
        reads = FLOAT * (batch * n_in + 2 * n_out * n_in + PASSES * batch * n_out)
        # Weights read; conductances of two devices written and read; weights and their variance written, both copied.
        writes = FLOAT * 9 * n_out * n_in
        layer = nn.Linear(n_in, n_out).to(device)
        chips = {"plain": nl.Chip(layer, PCM)}
        if not why_no_kernels(device):
            chips["kernel"] = nl.Chip(layer, PCM, kernels=True)
        yield Setting(
            f"read {batch} x {n_in} x {n_out}, {PASSES} passes",
            Work(reads, 4 * batch * n_in * n_out),
            {name: partial(chip.passes, x, plan) for name, chip in chips.items()},
        )
        yield Setting(
            f"write {n_in} x {n_out}",
            Work(writes, 0.0),
            {name: partial(_written, chip) for name, chip in chips.items()},
        )


def _written(chip: nl.Chip) -> None:
    chip.program()
    chip.weights()


def settings_of_steps(device: torch.device, scale: Scale) -> Iterator[Setting]:
    """A whole training step on phase-change memory, by ANP and by learned feedback, beside backprop in plain torch."""
    for name in scale.nets:
        net = NETS[name]
        weights = sum(parameter.numel() for parameter in net.make().parameters())
        work = Work(FLOAT * 9 * weights, 6 * net.batch * weights)  # a write; the products of backprop
        contenders = [REFERENCE, "ANP noisy, pcm", "LF layerwise, pcm"]
        contenders += [] if why_no_kernels(device) else ["ANP noisy, pcm, kernels"]
        yield Setting(
            f"step of {name}, batch {net.batch}", work, {one: make_step(name, one, device) for one in contenders}
        )


def settings_in_time(device: torch.device, scale: Scale) -> Iterator[Setting]:
    """A training step of a recurrent network along a sequence, on gaussian-node, and backprop through time."""
    for units in scale.units:
        rows, weights = scale.length * BATCH, units * (units + 1)
        work = Work(
            FLOAT * (3 * weights + 2 * 2 * rows * units),  # activities and noise of both passes, once
            2 * weights * (2 * rows + rows),  # two passes, and the sum of outer products
        )
        fused = Fused(units).to(device)
        contenders: dict[str, Callable] = {
            "torch.nn.RNN, BPTT": by_autograd(fused, fused, scale.length, device),
            "plain": by_rule(ANP_RULE, units, scale.length, device),
        }
        if device.type == "cuda":
            contenders["CUDA graph"] = by_rule(ANP_RULE, units, scale.length, device, graphs=True)
        if units <= MOST_UNITS and not why_no_kernels(device):
            contenders["kernel"] = by_rule(ANP_RULE, units, scale.length, device, kernels=True)
        yield Setting(f"ANP along {scale.length} steps, {units} units, batch {BATCH}", work, contenders)


def rows(device: torch.device, seconds: float) -> Iterator[Row]:
    """Times of all settings, until the time is over; a setting takes its share of what is left.

    Args:
        device: where to run.
        seconds: for all.
    """
    stop, scale = time.monotonic() + seconds, OF_GPU if device.type == "cuda" else OF_CPU
    rates = measured_rates(device, scale.probe)
    n_settings = 2 * len(scale.layers) + len(scale.units) + len(scale.nets)
    makers = (settings_of_layers, settings_of_steps, settings_in_time)
    for number, setting in enumerate(one for make in makers for one in make(device, scale)):
        left = stop - time.monotonic()
        if left <= 0:
            return
        reference = next(iter(setting.contenders))
        times = interleaved(setting.contenders, reference, device, left / (n_settings - number))
        for name, ratio in times.items():
            floor_ms = 1e3 * rates.floor_s(setting.work)
            yield Row(setting.name, name, 1e3 * ratio.seconds, floor_ms, setting.work.n_bytes, setting.work.flops)
