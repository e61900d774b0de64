"""Writing differential pairs and curves of the conductance, in Numba and in Triton's interpreter or on a GPU."""

import itertools

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from support.checks import moments_agree
from support.kits import Kit
from torch import Tensor

from noisylearn.effects.curves import Curve
from noisylearn.effects.one_over_f import OneOverFReadNoise
from noisylearn.effects.programming_noise import ProgrammingNoise
from noisylearn.ground.counter_draws import CounterDraws
from noisylearn.kernels.curves import Noise, curve_numbers
from noisylearn.kernels.on_cpu.curves import curve_into, terms_of
from noisylearn.kernels.on_cpu.elementary import compiled
from noisylearn.kernels.on_gpu.curves import value_at
from noisylearn.kernels.on_gpu.programming import BLOCKS
from noisylearn.profiles import load_profile, profile_files

G_MAX_US, REFERENCE_US = 20.0, 25.0
ALL_TERMS = {
    "polynomial": [0.3, -0.2, 0.1], "log": [0.05, 0.4], "power": [0.1, -0.5], "saturating": [0.3, 0.2],
    "clip": [0.1, 0.9],
    "below": {"limit": 0.5, "power": [0.3, 0.5], "below": {"limit": 0.9, "polynomial": [*[0.2] * 16]}},
}  # fmt: skip


def published() -> dict[str, Curve]:
    """Every curve of an effect on devices that a profile states."""
    effects = {f"{name}, {e.kind}": e for name in profile_files() for e in load_profile(name).effects("weight")}
    found = {
        f"{name}, {key}": getattr(e, key, None)
        for (name, e), key in itertools.product(effects.items(), ("sigma_us", "relative_amplitude", "amplitude_us"))
    }
    return {name: curve for name, curve in found.items() if isinstance(curve, Curve)}


@triton.jit
def _values(g, out, n, numbers, per_us, largest, gain, shape: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, value_at(tl.load(g + i, i < n, 0.0), numbers, per_us, largest, gain, shape), i < n)


@compiled
def _values_on_cpu(g, out, terms):
    curve_into(out, g, terms, np.empty((3, len(g)), np.float32), len(g))


def by_kernel(curve: Curve, g: Tensor, kit: Kit) -> Tensor:
    given, out = curve_numbers(curve, G_MAX_US, REFERENCE_US, 1.5, kit.device), torch.empty_like(g)
    if kit.name == "numba":
        _values_on_cpu(g.numpy(), out.numpy(), terms_of(given))
        return out
    _values[(1,)](g, out, len(g), given.numbers, given.per_us, given.largest, given.gain, given.shape, 256)
    return out


@pytest.mark.parametrize("name", [*published(), "all terms"])
def test_a_curve_in_a_kernel_is_the_curve(kit: Kit, name: str) -> None:
    curve = Curve.model_validate(ALL_TERMS) if name == "all terms" else published()[name]
    g = torch.cat([torch.zeros(1), torch.linspace(1e-3, 3 * G_MAX_US, 249)]).to(kit.device)
    expected = 1.5 * curve.at(g.double() / G_MAX_US, REFERENCE_US)
    torch.testing.assert_close(by_kernel(curve, g, kit).double(), expected, rtol=2e-5, atol=2e-6)


def noise(effect: ProgrammingNoise | OneOverFReadNoise, device: torch.device, seed: int = 2) -> Noise:
    draws = CounterDraws(seed, device)
    if isinstance(effect, ProgrammingNoise):
        gain, reference = G_MAX_US / effect.reference_g_max_us, effect.reference_g_max_us
        return Noise(curve_numbers(effect.sigma_us, G_MAX_US, reference, gain, device), draws.keys(("write",)))
    curve = effect.relative_amplitude or effect.amplitude_us
    assert curve is not None
    return Noise(curve_numbers(curve, G_MAX_US, G_MAX_US, 1.0, device), draws.keys(("slow",)))


def effects() -> tuple[ProgrammingNoise, OneOverFReadNoise]:
    found = load_profile("pcm-nandakumar-2019").effects("weight")
    return found[0], found[2]  # type: ignore[return-value]


def drawn(name: str, *shape: int) -> Tensor:
    return CounterDraws(2, dtype=torch.float64).normal((name,), shape)


def tilings(kit: Kit) -> list[dict]:
    return [{"blocks": blocks} for blocks in (BLOCKS, (4, 8), (32, 32))] if kit.name == "triton" else [{}]


def weights_and_scales(kit: Kit) -> list[tuple[Tensor, Tensor]]:
    """One scale for a row, and one for every weight; rows that are no multiple of a tile, or longer than a part."""
    n_in = 30 if kit.name == "triton" else 1031
    weight = torch.randn(13, n_in, generator=torch.Generator().manual_seed(0))
    by_row = weight.abs().amax(1, keepdim=True) / (G_MAX_US - 0.5)
    return [(weight, by_row), (weight.T.contiguous().T, by_row * torch.linspace(1, 2, n_in))]


def test_conductances_are_those_by_definition(kit: Kit) -> None:
    write, _ = effects()
    for weight, scale in weights_and_scales(kit):
        target = weight.double() / scale.double()
        target = torch.stack([target, -target]).clamp(min=0) + 0.5
        sigma = G_MAX_US / 25.0 * (0.26348 + 1.9650 * (target / G_MAX_US) - 1.1731 * (target / G_MAX_US) ** 2)
        expected = (target + sigma * drawn("write", 2, *weight.shape)).clamp(min=0)
        for tiling in tilings(kit):
            given = weight.to(kit.device), scale.to(kit.device), 0.5, noise(write, kit.device)
            found = kit.module("programming").program(*given, **tiling)
            torch.testing.assert_close(found.double().cpu(), expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("in_us", [False, True])
def test_weights_that_are_read_are_those_by_definition(kit: Kit, in_us: bool) -> None:
    _, slow = effects()
    for weight, scale in weights_and_scales(kit):
        g = torch.stack([weight, -weight]).clamp(min=0).mul(5).double()
        q = (0.0088 * (g / G_MAX_US).clamp(min=1e-30) ** -0.65).clamp(0, 0.2)
        amplitude = g * (q / g.clamp(min=1e-6) if in_us else q)
        now = g + 0.7 * amplitude * drawn("slow", 2, *weight.shape)
        expected = (now[0] - now[1]) * scale, 0.3 * amplitude.square().sum(0) * scale.double() ** 2
        for tiling in tilings(kit):
            given = g.float().to(kit.device), scale.to(kit.device), noise(slow, kit.device), in_us, 0.7, 0.3
            found = kit.module("programming").as_read(*given, **tiling)
            for one, other in zip(found, expected, strict=True):
                torch.testing.assert_close(one.double().cpu(), other, rtol=2e-5, atol=1e-5)


def test_a_layer_without_inputs_has_no_devices(kit: Kit) -> None:
    empty, scale = torch.empty(3, 0, device=kit.device), torch.ones(3, 1, device=kit.device)
    write, slow = effects()
    written = kit.module("programming").program(empty, scale, 0.0, noise(write, kit.device))
    found = kit.module("programming").as_read(written, scale, noise(slow, kit.device), False, 1.0, 1.0)
    assert (written.shape, found[0].shape) == ((2, 3, 0), (3, 0))


@pytest.mark.parametrize("g_us", [0.0, 0.4, 12.0])
def test_moments_of_what_is_written_are_those_of_the_effect(kit: Kit, g_us: float) -> None:
    """Statistical budget: 1e-4 a conductance and toolkit."""
    write, _ = effects()
    weight, scale = torch.full((100, 200), g_us, device=kit.device), torch.ones(100, 1, device=kit.device)
    found = kit.module("programming").program(weight, scale, 0.0, noise(write, kit.device, seed=1))[0]
    setting = load_profile("pcm-nandakumar-2019").setting
    mean, variance = write.moments(torch.tensor(g_us, dtype=torch.float64), type(setting)(g_max_us=G_MAX_US))
    assert moments_agree(found.flatten().double().cpu().numpy(), float(mean), float(variance), 1e-4)
