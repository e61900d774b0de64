"""Pulses by the kernel of Numba beside plain torch with the same random numbers."""

import pytest
import torch

import noisylearn as nl
from noisylearn.ground.counter_draws import CounterDraws
from noisylearn.ground.draws import StreamOf
from noisylearn.kernels.layer import kernel_draws
from noisylearn.kernels.on_cpu.pulses import pulse
from noisylearn.profiles.write import DeviceArray
from noisylearn.profiles.write import array as module

PULSED = [name for name in nl.profiles.profile_files() if nl.load_profile(name).in_place is not None]


def pulsed(n: int, most: int) -> torch.Tensor:
    """Whole numbers up to `most` of both signs, a third of them zero."""
    generator = torch.Generator().manual_seed(most)
    return torch.randint(-most, most + 1, (n, 7), generator=generator) * (torch.rand(n, 7, generator=generator) > 0.3)


@pytest.mark.parametrize("name", PULSED)
@pytest.mark.parametrize("most", [1, 3, 200])
def test_states_are_those_of_plain_torch(monkeypatch, name: str, most: int) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(module, "CACHED", 64)
    mode = nl.load_profile(name).in_place
    assert mode is not None
    arrays = [
        DeviceArray(mode.device, (30, 7), StreamOf(draws, "a"), *by)
        for draws, by in ((kernel_draws(1, torch.device("cpu")), (pulse,)), (CounterDraws(1), ()))
    ]
    for sign in (1, -1, 1):
        for array in arrays:
            array.pulse(sign * pulsed(30, most).float())
        found, expected = (array.state for array in arrays)
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=1e-4, atol=2e-5, msg=lambda m, k=key: f"{k}: {m}")
        assert float(found["w"].std()) > 0


def test_no_pulse_changes_nothing_and_float64_is_left_to_plain_torch(monkeypatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    device = nl.load_profile("ecram-mo-kim-2019").in_place.device
    for dtype in (torch.float32, torch.float64):
        draw = StreamOf(CounterDraws(2, dtype=dtype), "a")
        state = device.fabricate((5,), draw)
        w = torch.linspace(-0.1, 0.1, 5, dtype=dtype)
        assert torch.equal(pulse(device, w, torch.zeros_like(w), state, draw, torch.empty_like(w)), w)
    again = [StreamOf(CounterDraws(2, dtype=torch.float64), "a") for _ in range(2)]
    by = [one(w, w.sign(), state, draw, torch.empty_like(w)) for one, draw in zip(
        (lambda *given: pulse(device, *given), device.pulse), again, strict=True)]  # fmt: skip
    assert torch.equal(*by)


def test_a_chip_trains_on_pulsed_devices_with_kernels(monkeypatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    model = nl.networks.mlp(6, (5,), 3, 0)
    chip = nl.Chip(model, "reram-soft-bounds-gong-2018", kernels=True)
    assert "write: kernel" in chip.explain()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05)
    before = chip.weights()["readout"]
    chip.program()
    moved = chip.weights()["readout"] - before
    assert 0.03 < float(moved.mean()) < 0.07
