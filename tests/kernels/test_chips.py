"""Chips with kernels beside chips in plain torch that draw the same numbers."""

import pytest
import torch
from support.kits import Kit
from torch import nn

import noisylearn as nl
from noisylearn import HardwareProfile, UserError
from noisylearn.chips.readings import Plan
from noisylearn.ground.counter_draws import CounterDraws
from noisylearn.ground.draws import Draws
from noisylearn.kernels import availability
from noisylearn.kernels.layer import kernel_draws
from noisylearn.profiles import parse_profile, profile_files

PCM = "pcm-nandakumar-2019"
SERVED = (PCM, "pcm-hermes-1-device", "reram-cmo-falcone-2025", "reram-wan-2022", "sonos-agrawal-2022")
ROUNDING = {"rtol": 1e-4, "atol": 1e-5}


def net(kit: Kit) -> nn.Module:
    return nl.networks.mlp(20, (9,), 5).to(kit.device)


def of_other_devices() -> HardwareProfile:
    """The fits of phase-change memory on devices of another size than those that were measured."""
    text = profile_files()[PCM].read_text(encoding="utf-8")
    return parse_profile(text.replace("g_max_us = { value = 25.0", "g_max_us = { value = 10.0"))


def pair(model: nn.Module, profile: str | HardwareProfile) -> tuple[nl.Chip, nl.Chip]:
    """With kernels, and without."""
    plain = CounterDraws(3, next(model.parameters()).device)
    return nl.Chip(model, profile, seed=3, kernels=True), nl.Chip(model, profile, draws=plain)


@pytest.mark.parametrize("profile", [*SERVED, "other devices"])
def test_states_and_reads_agree_to_rounding_at_once_and_after_a_day(kit: Kit, profile: str) -> None:
    kernels, plain = pair(net(kit), of_other_devices() if profile == "other devices" else profile)
    x, plan = torch.rand(7, 20, device=kit.device), Plan(((False, False),) * 3)
    for _ in range(2):
        for group, held in plain.state().items():
            for key, value in kernels.state()[group].items():
                if not key.endswith(".key") and key != "parts":  # numbers that are not made yet
                    torch.testing.assert_close(value, held[key], **ROUNDING, msg=lambda m, k=key: f"{k}: {m}")
        found, expected = (chip.passes(x, plan) for chip in (kernels, plain))
        torch.testing.assert_close(found.output, expected.output, **ROUNDING)
        assert len(found.output.unique()) == found.output.numel(), "every pass has noise of its own"
        for chip in (kernels, plain):
            chip.advance(86400)


def test_estimates_of_a_rule_agree_to_rounding_on_samples_and_along_sequences(kit: Kit) -> None:
    """Differences of losses lose three digits of seven."""
    for model, shape in ((net(kit), (7, 20)), (nl.networks.RNN(20, 6, 5).to(kit.device), (3, 7, 20))):
        rule, gradients = nl.rules.ANP(baseline="noisy"), []
        x = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(kit.device)
        target = torch.ones(*shape[:-1], 5, device=kit.device)
        for chip in pair(model, PCM):
            if len(shape) == 2:
                rule.estimate(chip, x, lambda y, t=target: (y - t).square().sum(1))
            else:
                rule.run(chip, x, target, lambda y, t: (y - t).square().sum(1))
            gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
        found, expected = gradients
        assert float((found - expected).norm() / expected.norm()) < 1e-3


def test_what_no_kernel_serves_runs_plainly_and_explain_says_why(kit: Kit) -> None:
    conv = nn.Sequential(nn.Conv1d(2, 3, 2), nn.Flatten(), nn.Linear(9, 4)).to(kit.device)
    kernels, plain = pair(conv, PCM)
    x = torch.rand(5, 2, 4, device=kit.device)
    torch.testing.assert_close(kernels(x), plain(x), **ROUNDING)
    told = kernels.explain()
    assert told.splitlines()[:5] == [
        f"{PCM} on {kit.device.type}, random numbers by counter",
        "0 (Conv1d 3 x 2 x 2)",
        "  write: kernel; effects: programming-noise",
        "  weights right after: kernel",
        "  read: plain torch (a Conv1d is in no kernel, a Linear is); lumped at the output: one-over-f-read-noise",
    ]
    assert "  read: kernel" in told
    assert plain.explain().count("plain torch (kernels=True was not given)") == 7


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ("gaussian-node", ("weights are held exactly", "nothing is drawn at a read", "injected: gaussian-node")),
        ("gaussian-weight", ("injected: gaussian-weight",)),
        ("isaac-2016", ("levels is in no kernel", "inputs and outputs pass converters")),
        ("reram-cmo-falcone-2025", ("relaxation is in no kernel", "read: kernel")),
        ("ecram-mo-kim-2019", ("weights right after: plain torch (inputs and outputs pass converters)",)),
    ],
)
def test_explain_names_the_reason(kit: Kit, profile: str, words: tuple[str, ...]) -> None:
    told = nl.Chip(net(kit), profile, kernels=True).explain()
    assert all(word in told for word in words), told


def test_pulses_are_in_no_kernel_for_gpus(kit: Kit) -> None:
    told = nl.Chip(net(kit), "ecram-mo-kim-2019", kernels=True).explain()
    assert ("plain torch (weights change by pulses, in place)" in told) == (kit.name == "triton")


def test_double_precision_runs_plainly(kit: Kit) -> None:
    chip = nl.Chip(net(kit).double(), PCM, kernels=True)
    assert "plain torch (weights are torch.float64, those of kernels torch.float32)" in chip.explain()
    assert chip(torch.rand(2, 20, dtype=torch.float64, device=kit.device)).dtype == torch.float64


def test_a_state_goes_from_a_chip_with_kernels_to_one_without(kit: Kit) -> None:
    kernels, _ = pair(net(kit), PCM)
    other = nl.Chip(kernels.model, PCM, draws=CounterDraws(9, kit.device))
    other.load_state(kernels.state())
    x = torch.rand(4, 20, device=kit.device)
    torch.testing.assert_close(other(x), kernels(x), **ROUNDING)


@pytest.mark.parametrize("days", [0, 1])
def test_a_chip_goes_on_bit_for_bit_from_a_state(kit: Kit, days: int) -> None:
    kernels, _ = pair(net(kit), PCM)
    kernels.advance(86400 * days)
    other, _ = pair(kernels.model, PCM)
    other.load_state(kernels.state())
    x = torch.rand(4, 20, device=kit.device)
    for _ in range(2):
        assert torch.equal(other(x), kernels(x))
        for chip in (kernels, other):
            chip.program()


@pytest.mark.parametrize("shape", [(300, 784), (7, 10), (1, 3), (4, 1), (2, 0)])
def test_numbers_by_numba_are_those_of_plain_torch(monkeypatch, shape: tuple[int, int]) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    fast, plain = kernel_draws(5, torch.device("cpu")), CounterDraws(5)
    for draw in ("uniform", "normal"):
        for passes in (None, range(shape[0])):
            found, expected = (getattr(draws, draw)(("a",), shape, passes) for draws in (fast, plain))
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=3e-6 if draw == "normal" else 0.0)
            assert found.is_contiguous()
    double = CounterDraws(5, dtype=torch.float64, made=fast.made), CounterDraws(5, dtype=torch.float64)
    assert torch.equal(*(draws.normal(("b",), shape) for draws in double))


def test_draws_that_are_not_by_counter_are_refused(kit: Kit) -> None:
    with pytest.raises(UserError, match="not by counter"):
        nl.Chip(net(kit), PCM, draws=Draws(0, kit.device), kernels=True)


def test_where_kernels_cannot_run_a_line_says_what_to_do(monkeypatch) -> None:
    with pytest.raises(UserError, match="the model is on mps; there are some for cuda and cpu, leave the option out"):
        availability.toolkit_for(torch.device("mps"))
    monkeypatch.setattr(availability, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"need the package triton"):
        nl.Chip(nn.Linear(2, 2), PCM, kernels=True)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(UserError, match=r"need the package numba"):
        nl.Chip(nn.Linear(2, 2), PCM, kernels=True)
