"""Writing differential pairs and curves of the conductance, in Triton's interpreter or on a GPU."""

import itertools

import pytest
import torch
import triton
import triton.language as tl
from support.checks import moments_agree
from torch import Tensor

from noisylearn.effects.curves import Curve
from noisylearn.effects.one_over_f import OneOverFReadNoise
from noisylearn.effects.programming_noise import ProgrammingNoise
from noisylearn.ground.counter_draws import CounterDraws
from noisylearn.kernels.curves import curve_numbers, value_at
from noisylearn.kernels.programming import BLOCKS, Noise, program
from noisylearn.profiles import load_profile, profile_files

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
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


def by_kernel(curve: Curve, g: Tensor) -> Tensor:
    given, out = curve_numbers(curve, G_MAX_US, REFERENCE_US, 1.5, DEVICE), torch.empty_like(g)
    _values[(1,)](g, out, len(g), given.numbers, given.per_us, given.largest, given.gain, given.shape, 256)
    return out


@pytest.mark.parametrize("name", [*published(), "all terms"])
def test_a_curve_in_a_kernel_is_the_curve(name: str) -> None:
    curve = Curve.model_validate(ALL_TERMS) if name == "all terms" else published()[name]
    g = torch.cat([torch.zeros(1), torch.linspace(1e-3, 3 * G_MAX_US, 249)]).to(DEVICE)
    expected = 1.5 * curve.at(g.double() / G_MAX_US, REFERENCE_US)
    torch.testing.assert_close(by_kernel(curve, g).double(), expected, rtol=2e-5, atol=2e-6)


def noise(effect: ProgrammingNoise | OneOverFReadNoise, draws: CounterDraws) -> Noise:
    if isinstance(effect, ProgrammingNoise):
        gain, reference = G_MAX_US / effect.reference_g_max_us, effect.reference_g_max_us
        return Noise(curve_numbers(effect.sigma_us, G_MAX_US, reference, gain, DEVICE), draws.keys(("write",)))
    curve = effect.relative_amplitude or effect.amplitude_us
    assert curve is not None
    return Noise(curve_numbers(curve, G_MAX_US, G_MAX_US, 1.0, DEVICE), draws.keys(("slow",)))


def effects() -> tuple[ProgrammingNoise, OneOverFReadNoise]:
    found = load_profile("pcm-nandakumar-2019").effects("weight")
    return found[0], found[2]  # type: ignore[return-value]


@pytest.mark.parametrize("blocks", [BLOCKS, (4, 8), (32, 32)])
def test_conductances_are_those_by_definition_in_any_tiling(blocks: tuple[int, int]) -> None:
    weight = torch.randn(13, 30, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    scale = weight.abs().amax(1, keepdim=True) / (G_MAX_US - 0.5)
    write, slow = effects()
    found = program(weight, scale, 0.5, *(noise(e, CounterDraws(2, DEVICE)) for e in (write, slow)), blocks=blocks)
    draws, target = CounterDraws(2, DEVICE, torch.float64), weight.double() / scale.double()
    target = torch.stack([target, -target]).clamp(min=0) + 0.5
    z = draws.normal(("write",), (2, 13, 30))
    sigma = G_MAX_US / 25.0 * (0.26348 + 1.9650 * (target / G_MAX_US) - 1.1731 * (target / G_MAX_US) ** 2)
    expected = (target + sigma * z).clamp(min=0)
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(found.conductance_us.double(), expected, **close)
    relative = (0.0088 * (found.conductance_us.double() / G_MAX_US).clamp(min=1e-30) ** -0.65).clamp(0, 0.2)
    torch.testing.assert_close(found.relative.double(), relative, **close)
    torch.testing.assert_close(found.slow.double(), draws.normal(("slow",), (1, 2, 13, 30)), rtol=1e-5, atol=3e-5)


def test_without_noise_the_target_is_written_and_an_amplitude_in_microsiemens_is_divided() -> None:
    weight, scale = torch.tensor([[2.0, -1.0, 0.0]], device=DEVICE), torch.tensor([[0.1]], device=DEVICE)
    bare = program(weight, scale, 0.0, None, None)
    assert bare.conductance_us.tolist() == [[[20.0, 0.0, 0.0]], [[0.0, 10.0, 0.0]]]
    assert (bare.relative, bare.slow) == (None, None)
    in_us = OneOverFReadNoise(kind="one-over-f-read-noise", t_read_ns=250, amplitude_us=Curve(polynomial=(0.5,)),
                              status="assumed", source="test")  # fmt: skip
    found = program(weight, scale, 1.0, None, noise(in_us, CounterDraws(0, DEVICE)), in_us=True)
    assert found.relative is not None
    torch.testing.assert_close(found.relative, 0.5 / found.conductance_us)
    assert program(weight[:, :0], scale, 0.0, None, None).conductance_us.shape == (2, 1, 0)


@pytest.mark.parametrize("g_us", [0.0, 0.4, 12.0])
def test_moments_of_what_is_written_are_those_of_the_effect(g_us: float) -> None:
    """Statistical budget: 1e-4 a conductance."""
    write, _ = effects()
    weight, scale = torch.full((100, 200), g_us, device=DEVICE), torch.ones(1, 1, device=DEVICE)
    made = noise(write, CounterDraws(1, DEVICE))
    found = program(weight, scale.expand(100, 1), 0.0, made, None, blocks=(64, 64)).conductance_us[0]
    setting = load_profile("pcm-nandakumar-2019").setting
    mean, variance = write.moments(torch.tensor(g_us, dtype=torch.float64), type(setting)(g_max_us=G_MAX_US))
    assert moments_agree(found.flatten().double().cpu().numpy(), float(mean), float(variance), 1e-4)
