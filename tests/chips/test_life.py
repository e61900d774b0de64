"""The life of effects that are not programmed: neurons, converters and circuits are made once and age by the clock."""

from typing import ClassVar, Literal

import pytest
import torch
from support.checks import machine
from torch import Tensor, nn

from noisylearn import Chip, HardwareProfile
from noisylearn.effects import Adc, Effect, Moments, Product, Setting, State
from noisylearn.effects.base import Lifetime, Site
from noisylearn.ground.draws import StreamOf

RATE = 0.01  # of every drift below, per second


class Drifting(Effect):
    """+ b + RATE t: an offset of each unit's own, drawn once, that grows along the clock."""

    lifetime: ClassVar[Lifetime] = "memory"

    def fabricate(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> None:
        assert not value.any()
        state["offset"] = draw.normal("device", tuple(value.shape)).to(value.dtype).mul_(0.1)

    def start(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> None:
        assert "started" not in state, "once"
        state["started"] = value + setting.clock_s
        state["seen_s"] = torch.tensor(setting.clock_s)

    def elapse(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> None:
        assert value.shape == state["offset"].shape
        assert not value.any()
        state["offset"] = state["offset"] + RATE * (setting.clock_s - float(state["seen_s"]))
        state["seen_s"] = torch.tensor(setting.clock_s)

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        return value + state["offset"]

    def carry(self, product: Product, setting: Setting, draw: StreamOf, state: State) -> None:
        product.mean = product.mean + state["offset"]

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        return Moments(value, torch.full_like(value, 0.1**2))


class DriftingNeuron(Drifting):
    site: ClassVar[Site] = "node"
    kind: Literal["drifting-neuron"] = "drifting-neuron"


class DriftingDriver(Drifting):
    site: ClassVar[Site] = "input"
    kind: Literal["drifting-driver"] = "drifting-driver"


class DriftingReadOut(Drifting):
    site: ClassVar[Site] = "output"
    kind: Literal["drifting-read-out"] = "drifting-read-out"


class DriftingAdc(Adc):
    """A converter whose range grows along the clock."""

    def start(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> None:
        state["range"] = torch.full_like(value[:, :, :1], self.range)

    def elapse(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> None:
        state["range"] = torch.full_like(value[:, :, :1], self.range * (1 + RATE * setting.clock_s))


TILE = "[specification.tile]\nCITED" + "rows = 2\ncolumns = 4\n"
X = torch.tensor([[0.5, -1.0, 0.25], [2.0, 1.0, -0.5]], dtype=torch.float64)
SITES = {"node": DriftingNeuron, "input": DriftingDriver, "output": DriftingReadOut}


def profile_with(*effects: Effect, tiles: bool) -> HardwareProfile:
    profile = machine(specification=TILE if tiles else "", tiles=tiles, devices=True, scale="layer")
    calibration = profile.calibration.model_copy(update={"effects": effects})
    return profile.model_copy(update={"calibration": calibration})


def net() -> nn.Linear:
    layer = nn.Linear(3, 4, bias=False).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(4, 3, generator=generator))
    return layer


def drift_at(site: str, layer: nn.Linear, seconds: float) -> Tensor:
    """By how much outputs (2, 4) move as every offset grows by RATE x seconds, written out: tiles of two inputs."""
    weight, step = layer.weight.detach(), RATE * seconds
    ranges = torch.stack([X[:, :2].abs().amax(1), X[:, 2:].abs().amax(1)], 1)
    if site == "node":
        return torch.full((2, 4), step, dtype=torch.float64)
    if site == "output":
        return step * ranges.sum(1, keepdim=True) * weight.abs().max()
    return step * (ranges[:, :1] * weight[:, :2].sum(1) + ranges[:, 1:] * weight[:, 2:].sum(1))


def made(site: str, seed: int = 0) -> Chip:
    effect = SITES[site](status="assumed", source="test")
    return Chip(net(), profile_with(effect, tiles=site != "node"), seed=seed)


def held(chip: Chip) -> dict[str, Tensor]:
    return {key: value for key, value in chip.state()["layer/"].items() if "drifting" in key}


@pytest.mark.parametrize("site", SITES)
def test_what_is_not_programmed_is_made_once_and_ages_through_all_programmings(site: str) -> None:
    chip = made(site)
    chip.advance(7.0)
    assert not held(chip), "nothing is made before it is used"
    first = chip(X)
    assert not torch.allclose(first, chip.model(X), atol=1e-3)
    started = next(value for key, value in held(chip).items() if key.endswith("started"))
    assert torch.equal(started, torch.full_like(started, 7.0))
    chip.advance(2.0)
    chip.program()
    chip.advance(3.0)
    torch.testing.assert_close(chip(X), first + drift_at(site, chip.model, 5.0))
    assert torch.equal(chip(X), chip(X))


@pytest.mark.parametrize("site", SITES)
def test_a_saved_chip_holds_what_its_circuits_became(site: str) -> None:
    chip = made(site)
    chip(X)
    chip.advance(2.0)
    state = {part: {key: value.clone() for key, value in table.items()} for part, table in chip.state().items()}
    again = made(site, seed=5)
    again(X)
    again.advance(100.0)
    again.load_state(state)
    for one in (chip, again):
        one.program()
        one.advance(1.5)
    assert torch.equal(chip(X), again(X))
    assert not torch.equal(made(site, seed=5)(X), made(site)(X))


def test_converters_age_too() -> None:
    """Outputs far beyond the range of the converter show what its range is."""
    profile = profile_with(tiles=True)
    converter = DriftingAdc(status="assumed", source="test", bits=12, range=0.01)
    specification = profile.specification.model_copy(update={"adc": converter, "tile": None})
    chip = Chip(net(), profile.model_copy(update={"specification": specification}))
    largest = X.abs().amax(1, keepdim=True) * chip.model.weight.detach().abs().max()
    for seconds in (0.0, 30.0):
        chip.advance(seconds)
        expected = chip.model(X).detach().sign() * largest * 0.01 * (1 + RATE * seconds)
        torch.testing.assert_close(chip(X), expected)


def test_noise_that_no_pass_differs_by_is_no_signal_and_cannot_be_switched_off() -> None:
    for kind in SITES.values():
        effect = kind(status="assumed", source="test")
        assert effect.is_simulated
        assert not effect.can_be_off
        assert not effect.differs_between_passes
