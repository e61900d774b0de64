"""Time of products and forwards with read noise, against the same without it.

Lumped noise (what a chip does) is one more product and one normal number per output; per-device draws, the naive
way to the same distribution, take a noise matrix for every sample.
"""

import argparse
import sys
from dataclasses import dataclass
from functools import partial

import timing
import torch
from torch import Tensor, nn

import noisylearn as nl
from noisylearn.chips.readings import Plan

PCM = "pcm-nandakumar-2019"
PASSES = 8
NAIVE_SAMPLES = 4


@dataclass(frozen=True)
class Call:
    """A call to time.

    Args:
        step: the call.
        work: its work relative to that of the reference; time and flops are divided by it.
    """

    step: timing.Step
    work: float = 1.0


def lumped(x: Tensor, weight: Tensor, variance: Tensor, generator: torch.Generator) -> Tensor:
    """Product with weights that are independent Gaussians at every read and sample; exact in distribution."""
    deviation = nn.functional.linear(x.square(), variance).sqrt_()
    z = torch.randn(deviation.shape, generator=generator, device=x.device)
    return nn.functional.linear(x, weight).addcmul_(deviation, z)


def per_device(x: Tensor, weight: Tensor, deviation: Tensor, generator: torch.Generator) -> Tensor:
    """Product of the same distribution, with every weight drawn for every sample."""
    z = torch.randn((len(x), *weight.shape), generator=generator, device=x.device)
    return torch.bmm(torch.addcmul(weight, deviation, z), x[:, :, None])[:, :, 0]


def layer_calls(device: torch.device) -> dict[str, Call]:
    """64 samples through one layer of 512 x 512."""
    layer = nn.Linear(512, 512, bias=False).to(device)
    chip = nl.Chip(layer, PCM, seed=0)
    weight = chip.weights()[""]
    variance = 1e-4 * weight.square() + 1e-6
    x = torch.rand(64, 512, device=device)
    generator = torch.Generator(device).manual_seed(0)
    return {
        "plain product": Call(partial(nn.functional.linear, x, weight)),
        "lumped read noise": Call(partial(lumped, x, weight, variance, generator)),
        "chip(x)": Call(partial(chip, x)),
        f"chip, {PASSES} passes, per pass": Call(partial(chip.passes, x, Plan(((False,),) * PASSES)), PASSES),
        f"per-device draws, {NAIVE_SAMPLES} samples, scaled": Call(
            partial(per_device, x[:NAIVE_SAMPLES], weight, variance.sqrt(), generator), NAIVE_SAMPLES / len(x)
        ),
    }


def model_calls(model: nn.Module, x: Tensor) -> dict[str, Call]:
    chip = nl.Chip(model, PCM, seed=0)
    ideal = nl.Chip(model, "ideal")
    plan = Plan(((False,) * len(chip.layers),) * PASSES)
    return {
        "model(x)": Call(partial(model, x)),
        "chip(x), ideal": Call(partial(ideal, x)),
        "chip(x), pcm": Call(partial(chip, x)),
        f"chip, pcm, {PASSES} passes, per pass": Call(partial(chip.passes, x, plan), PASSES),
    }


@torch.no_grad()
def measure(setting: str, calls: dict[str, Call], device: torch.device, seconds: float) -> list[timing.Row]:
    """Measure all calls of a setting, relative to the first of them."""
    print(f"measuring {setting} ...", file=sys.stderr)
    reference = next(iter(calls))
    flops = {name: timing.matrix_flops(call.step) / call.work for name, call in calls.items()}
    times = timing.interleaved({n: c.step for n, c in calls.items()}, reference, device, seconds, min_rounds=20)
    rows = []
    for name, call in calls.items():
        t, work = times[name], call.work
        scaled = timing.Ratio(t.seconds / work, t.median / work, t.lower / work, t.upper / work, t.rounds)
        rows.append(timing.Row(setting, name, flops[name] / flops[reference], scaled))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--seconds", type=float, default=20.0, help="time for each setting")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    mlp = nl.networks.mlp(784, [300], 10).to(device)
    convnet = nl.networks.convnet((3, 32, 32), 10).to(device)
    settings = {
        "product 64 x 512 x 512": layer_calls(device),
        "784-300-10, batch 200": model_calls(mlp, torch.rand(200, 784, device=device)),
        "convnet 3x32x32, batch 100": model_calls(convnet, torch.rand(100, 3, 32, 32, device=device)),
    }
    rows = [row for setting, calls in settings.items() for row in measure(setting, calls, device, options.seconds)]
    timing.report("Read noise, relative to none", rows, device, options.json)


if __name__ == "__main__":
    main()
