"""What a pass sees is the same whatever other passes a plan has: one stream of random numbers for each."""

import pytest
import torch
from support.checks import ONE_OVER_F, PROGRAMMING, machine, tanh_net
from torch import Tensor, nn

from noisylearn import Chip, HardwareProfile
from noisylearn.chips.readings import Plan

BATCH = 4
CONVERTER = "[specification.adc]\nCITED" + 'bits = 8\nrange = 0.2\nsaturation = "halve-inputs"\nmax_halvings = 3\n'
TILES = "[specification.tile]\nCITED" + "rows = 3\ncolumns = 4\n"
INPUT, OUTPUT = ('kind = "input-noise"\nsigma = 0.02', 'kind = "output-noise"\nsigma = 0.06')
TELEGRAPH = (
    'kind = "telegraph-node"\namplitude = 0.2\namplitude_spread = 0.1\noffset_spread = 0.05\ndwell_time_us = 2.0'
)
SLOW = 'kind = "ornstein-uhlenbeck-node"\nsigma = 0.02\ncorrelation_time_us = 2.0'
MACHINES = {
    "nodes": machine('kind = "gaussian-node"\nsigma = 0.02', observable=("clean_pass",)),
    "nodes that share": machine(
        'kind = "correlated-node"\nsigma = 0.02\ncorrelation = 0.5', observable=("clean_pass",)
    ),
    "weights": machine('kind = "gaussian-weight"\nsigma = 0.02', observable=("clean_pass",)),
    "nodes with memory": machine(TELEGRAPH, devices=True),
    "nodes that forget slowly": machine(SLOW, devices=True),
    "reads": machine(PROGRAMMING, ONE_OVER_F, devices=True),
    "reads on tiles": machine(PROGRAMMING, ONE_OVER_F, specification=TILES, tiles=True),
    "inputs and outputs": machine(INPUT, OUTPUT, specification=TILES, tiles=True),
    "outputs read again": machine(OUTPUT, specification=TILES + CONVERTER, tiles=True),
    "inputs read again": machine(INPUT, OUTPUT, specification=TILES + CONVERTER, tiles=True),
}


def net(kind: str) -> tuple[nn.Module, Tensor]:
    generator = torch.Generator().manual_seed(1)
    if kind == "linear":
        return tanh_net(7, 6, 5), torch.randn(BATCH, 7, generator=generator, dtype=torch.float64)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Tanh(), nn.Conv2d(3, 2, 2), nn.Flatten(), nn.Linear(8, 3)).double()
    return model, torch.randn(BATCH, 2, 4, 4, generator=generator, dtype=torch.float64)


def outputs(profile: HardwareProfile, kind: str, perturbed: list[bool], calls: int = 1) -> Tensor:
    """Of every pass of the last of some calls."""
    model, x = net(kind)
    chip = Chip(model, profile, seed=3)
    plan = Plan(tuple((one,) * len(chip.layers) for one in perturbed))
    return [chip.passes(x, plan).output for _ in range(calls)][-1]


@pytest.mark.parametrize("kind", ["linear", "convolutions"])
@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("calls", [1, 2])
def test_a_pass_sees_the_same_in_a_plan_of_two_and_of_seven(name: str, kind: str, calls: int) -> None:
    few, many = (outputs(MACHINES[name], kind, [True] * n, calls) for n in (2, 7))
    torch.testing.assert_close(few, many[:2], rtol=1e-9, atol=1e-12)
    assert not torch.allclose(many[0], many[1])
    assert not torch.allclose(many[1], many[6])


@pytest.mark.parametrize("name", ["nodes", "nodes that share", "weights"])
def test_which_other_passes_are_perturbed_changes_nothing_in_a_pass(name: str) -> None:
    every, last = (outputs(MACHINES[name], "linear", [False, one, one, True]) for one in (True, False))
    torch.testing.assert_close(every[[0, 3]], last[[0, 3]], rtol=1e-9, atol=1e-12)
    assert not torch.allclose(every[1], last[1])
    assert torch.equal(last[0], last[1])
