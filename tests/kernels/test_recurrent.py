"""All steps of a recurrent network in one launch, in Triton's interpreter or on a GPU, against steps one by one."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import noisylearn as nl
from noisylearn.chips.execution.one_launch import MOST_UNITS
from noisylearn.chips.readings import Plan
from noisylearn.chips.segments import Segment
from noisylearn.ground.counter_draws import CounterDraws
from noisylearn.kernels.on_gpu import recurrent as module
from noisylearn.kernels.on_gpu.recurrent import recurrent

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
T, BATCH, UNITS = 5, 9, 37
WITH_MEMORY = "smtj-koenders-2024"  # noise of neurons that switch now and then
ROUNDING = {"rtol": 1e-5, "atol": 2e-6}
NOISY, HALF_CLEAN = Plan(((True, True),) * 2), Plan(((False, False), (True, True)))


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(DEVICE)


@pytest.fixture
def launches(monkeypatch) -> list[int]:
    """Steps of every launch of the kernel."""
    seen: list[int] = []

    def counted(drive: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(len(drive))
        return recurrent(drive, *rest)

    monkeypatch.setattr(module, "recurrent", counted)
    return seen


@pytest.mark.parametrize(("n_rows", "n_units"), [(1, 1), (19, UNITS), (16, MOST_UNITS)])
def test_it_is_the_loop_in_double_precision(n_rows: int, n_units: int) -> None:
    drive, weight, start = numbers(T, n_rows, n_units), numbers(n_units, n_units) / n_units, numbers(n_rows, n_units)
    found = recurrent(drive, weight.T, start)  # of any layout
    activities, states, state = [], [], start.double()
    for step in drive.double():
        activities.append(step + state @ weight.double())
        state = activities[-1].tanh()
        states.append(state)
    for one, expected in zip(found, (activities, states), strict=True):
        torch.testing.assert_close(one.double(), torch.stack(expected), **ROUNDING)


def test_its_tanh_keeps_its_digits_everywhere() -> None:
    size = torch.logspace(-6, 1.9, 400, dtype=torch.float64)
    drive = torch.cat([size, -size, torch.zeros(1)]).float().to(DEVICE)[None, :, None]
    zero = torch.zeros(1, 1, device=DEVICE)
    _, states = recurrent(drive, zero, zero.expand(drive.shape[1], 1))
    torch.testing.assert_close(states.double(), drive.double().tanh(), rtol=1e-6, atol=0)


def test_no_steps_give_nothing() -> None:
    assert recurrent(numbers(0, 3, 4), numbers(4, 4), numbers(3, 4))[0].shape == (0, 3, 4)


def pair(model: nn.Module, profile: str = "gaussian-node") -> tuple[nl.Chip, nl.Chip]:
    """With kernels, and without."""
    model = model.to(DEVICE)
    return nl.Chip(model, profile, seed=3, kernels=True), nl.Chip(model, profile, draws=CounterDraws(3, DEVICE))


@pytest.mark.parametrize("plan", [NOISY, HALF_CLEAN])
def test_readings_agree_along_segments_that_follow_each_other(plan: Plan, launches: list[int]) -> None:
    chips = pair(nl.networks.RNN(3, UNITS, 2, bias=True))
    segments = [Segment(numbers(T, BATCH, 3), in_time=True)] * 2
    for _ in range(2):
        found, expected = (chip.passes(segment, plan) for chip, segment in zip(chips, segments, strict=True))
        torch.testing.assert_close(found.output, expected.output, **ROUNDING)
        assert (found.last, found.layers.keys()) == (expected.last, expected.layers.keys())
        for name, layer in expected.layers.items():
            for what in ("input", "activity", "noise"):
                torch.testing.assert_close(getattr(found.layers[name], what), getattr(layer, what), **ROUNDING)
        segments = [Segment(numbers(T, BATCH, 3), True, readings.end) for readings in (found, expected)]
    assert launches == [T, T]


@pytest.mark.parametrize("profile", ["gaussian-node", WITH_MEMORY, "ideal"])
@pytest.mark.parametrize("update", ["sequence", "online"])
def test_a_step_of_training_agrees(update: str, profile: str, launches: list[int]) -> None:
    """Differences of losses lose three digits of seven."""
    rule = nl.rules.BPTT() if profile == "ideal" else nl.rules.ANP(baseline="noisy", update=update)
    changes = []
    for number in range(2):
        model = nl.networks.RNN(3, UNITS, 2)
        chip = pair(model, profile)[number]
        before = [p.detach().clone() for p in model.parameters()]
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
        rule.run(chip, numbers(T, BATCH, 3), numbers(T, BATCH, 2), lambda y, t: (y - t).square().sum(1), optimizer)
        optimizer.step()
        changes.append(torch.cat([(p - b).flatten() for p, b in zip(model.parameters(), before, strict=True)]))
    assert float((changes[0] - changes[1]).detach().norm() / changes[1].detach().norm()) < 1e-3
    assert bool(launches) == (profile != "ideal")


def hooked() -> nn.Module:
    model = nl.networks.RNN(3, UNITS, 2)
    model.readout.register_forward_hook(lambda *_: None)
    return model


@pytest.mark.parametrize(
    ("make", "profile", "reason"),
    [
        (lambda: nl.networks.RNN(3, (8, 8), 2), "gaussian-node", "one layer of at most 128 tanh units"),
        (lambda: nl.networks.RNN(3, MOST_UNITS + 1, 2), "gaussian-node", "one layer of at most 128 tanh units"),
        (lambda: nl.networks.RNN(3, 8, 2, activation="relu"), "gaussian-node", "one layer of at most 128 tanh units"),
        (lambda: nl.networks.RNN(3, 8, 2, decorrelation_rate=1e-3), "gaussian-node", "a decorrelation, hooks"),
        (hooked, "gaussian-node", "a decorrelation, hooks"),
        (lambda: nl.networks.RNN(3, 8, 2).double(), "gaussian-node", "weights are torch.float64"),
        (lambda: nl.networks.RNN(3, 8, 2), "pcm-nandakumar-2019", "layer 'hidden1' gives is not known before"),
        (lambda: nl.networks.RNN(3, 8, 2), "gaussian-weight", "layer 'hidden1' gives is not known before"),
    ],
)
def test_what_it_does_not_serve_runs_step_by_step(
    make: Callable[[], nn.Module], profile: str, reason: str, launches: list[int]
) -> None:
    kernels, plain = pair(make(), profile)
    plan = Plan(((True,) * len(kernels.layers),) * 2)
    x = numbers(3, 2, 3).to(next(kernels.model.parameters()).dtype)
    found, expected = (chip.passes(Segment(x, in_time=True), plan) for chip in (kernels, plain))
    torch.testing.assert_close(found.output, expected.output, **ROUNDING)
    assert not launches
    assert reason in kernels.explain().splitlines()[-1]
