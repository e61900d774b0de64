"""Time of one crossbar layer with noise and converters, and of a pulsed update, against the plain arithmetic."""

import argparse
import sys
from functools import partial

import timing
import torch
from torch import Tensor, nn

import noisylearn as nl
from noisylearn.ground.draws import Draws, StreamOf
from noisylearn.kernels.layer import kernel_draws
from noisylearn.kernels.on_cpu.pulses import pulse
from noisylearn.profiles import HardwareProfile, parse_profile
from noisylearn.profiles.write import DeviceArray, PulsedDevice

BATCH = 64
CITED = 'status = "assumed"\nsource = "bench"\n'
HEAD = f"""schema_version = 1
name = "bench"
title = "a benchmark"
description = "numbers of no meaning"
observable = ["loss", "input", "activity"]
[sources.bench]
citation = "a benchmark"
[specification]
date = 2026-01-01
[specification.mapping]
{CITED}kind = "differential-pair"
g_max_us = 25.0
scale = "column"
reads_clip = false
[specification.timing]
{CITED}t0_s = 1.0
pass_interval_us = 1.0
"""
CONVERTERS = f"""[specification.inputs]
{CITED}scaling = "absolute-maximum"
[specification.dac]
{CITED}bits = 8
[specification.adc]
{CITED}bits = 9
range = 12.0
"""
CALIBRATION = "[calibration]\ndate = 2026-01-01\n"
OUTPUT_NOISE = f'[[calibration.effects]]\n{CITED}kind = "output-noise"\nsigma = 0.06\n'


def read_noise(curve: str) -> str:
    return f'[[calibration.effects]]\n{CITED}kind = "read-noise"\nreference_g_max_us = 25.0\nsigma_us = {curve}\n'


CONSTANT, BY_CONDUCTANCE = read_noise("{ polynomial = [0.25] }"), read_noise("{ polynomial = [0.05, 0.2] }")


def profile(*parts: str) -> HardwareProfile:
    return parse_profile(HEAD + "".join(parts))


def forward_calls(size: int) -> dict[str, timing.Step]:
    """64 samples through one layer of size x size."""
    x = torch.rand(BATCH, size)

    def chip(*parts: str, kernels: bool = False) -> timing.Step:
        layer = nn.Linear(size, size, bias=False)
        return partial(nl.Chip(layer, profile(*parts), seed=0, kernels=kernels), x)

    layer = nn.Linear(size, size, bias=False)
    return {
        "plain product": partial(nn.functional.linear, x, layer.weight.detach()),
        "read noise, equal devices": chip(CALIBRATION, CONSTANT),
        "read noise by conductance": chip(CALIBRATION, BY_CONDUCTANCE),
        "read noise by conductance, kernels": chip(CALIBRATION, BY_CONDUCTANCE, kernels=True),
        "DAC, ADC, output noise": chip(CONVERTERS, CALIBRATION, OUTPUT_NOISE),
        "DAC, ADC, output noise, read noise, equal devices": chip(CONVERTERS, CALIBRATION, OUTPUT_NOISE, CONSTANT),
        "DAC, ADC, output noise, read noise by conductance": chip(
            CONVERTERS, CALIBRATION, OUTPUT_NOISE, BY_CONDUCTANCE
        ),
    }


def update_calls(size: int, pulses: float) -> dict[str, timing.Step]:
    """A rank-64 update of size x size, exact and by pulses; `pulses` is the mean number for a device.

    The last two are what no pulsed update can do without: the product, and for every device one uniform number, one
    normal number for the noise of its pulses and, where a profile states write noise, a second one.
    """
    signal, inputs = torch.randn(BATCH, size), torch.randn(BATCH, size)
    weight = torch.zeros(size, size)

    def exact() -> Tensor:
        return weight.add_(signal.T @ inputs, alpha=1e-9)

    def pulsed(name: str, kernels: bool) -> timing.Step:
        mode = nl.load_profile(name).in_place
        assert mode is not None
        draws = kernel_draws(0, torch.device("cpu")) if kernels else Draws(0)
        array = DeviceArray(
            mode.device, (size, size), StreamOf(draws, "bench"), pulse if kernels else PulsedDevice.pulse
        )
        draw = StreamOf(draws, "round")
        step = pulses * mode.device.dw_min / (BATCH**0.5 * 0.8)

        def update() -> None:
            array.pulse(mode.stochastic_pulses((signal.T @ inputs).mul_(step), draw))

        return update

    def least(normals: int) -> timing.Step:
        draws = Draws(0)

        def update() -> None:
            _ = signal.T @ inputs
            draws.uniform(("bench",), (size, size))
            for _ in range(normals):
                draws.normal(("bench",), (size, size))

        return update

    names = ("idealised-device", "ecram-mo-kim-2019", "reram-soft-bounds-gong-2018", "reram-exponential-gong-2018")
    return {
        "exact rank-64 update": exact,
        **{f"{name}{kernels}": pulsed(name, bool(kernels)) for kernels in ("", ", kernels") for name in names},
        "product, uniform and one normal alone": least(1),
        "product, uniform and two normals alone": least(2),
    }


@torch.no_grad()
def measure(setting: str, calls: dict[str, timing.Step], seconds: float) -> list[timing.Row]:
    """Measure all calls of a setting, relative to the first of them."""
    print(f"measuring {setting} ...", file=sys.stderr)
    reference, device = next(iter(calls)), torch.device("cpu")
    flops = {name: timing.matrix_flops(call) for name, call in calls.items()}
    times = timing.interleaved(calls, reference, device, seconds, min_rounds=20)
    return [timing.Row(setting, name, flops[name] / flops[reference], times[name]) for name in calls]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--seconds", type=float, default=20.0, help="time for each setting")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    nl.keep_freed_memory()
    settings = {f"{BATCH} x {n} x {n}": forward_calls(n) for n in (512, 1000)}
    settings |= {f"update of 512 x 512, {p:g} pulses": update_calls(512, p) for p in (0.1, 1.0, 10.0)}
    rows = [row for setting, calls in settings.items() for row in measure(setting, calls, options.seconds)]
    timing.report("Crossbar, relative to the plain arithmetic", rows, torch.device("cpu"), options.json)


if __name__ == "__main__":
    main()
