"""Chips that are not simulated here, behind two methods."""

import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.checks import gradients, sample_batch, tanh_net
from torch import Tensor, nn

import noisylearn as nl
from noisylearn.rules import ANP, BP, NP

EXAMPLE = Path(__file__).parents[2] / "examples" / "chip_in_the_loop.py"


class Recorded:
    """Hardware that adds noise it was given, pass by pass."""

    def __init__(
        self, model: nn.Sequential, noise: list[list[Tensor]], forget: str = "", samples: int | None = None
    ) -> None:
        self.model, self.noise, self.forget, self.samples = model, noise, forget, samples
        self.programmed: list[dict[str, Tensor]] = []

    def forward(self, x: Tensor) -> tuple[Tensor, Mapping[str, tuple[Tensor, Tensor]]]:
        noise, readings = self.noise.pop(0), {}
        for name, layer in self.model.named_children():
            if isinstance(layer, nn.Linear):
                activity = layer(x) + noise.pop(0)
                readings[name] = x[: self.samples], activity[: self.samples]
                x = activity
            else:
                x = layer(x)
        readings.pop(self.forget, None)
        return x, readings

    def program(self, state: Mapping[str, Tensor]) -> None:
        self.programmed.append({name: value.clone() for name, value in state.items()})


def noise_of(passes: int) -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(5)
    return [[0.01 * torch.randn(7, n, generator=generator, dtype=torch.float64) for n in (4, 2)] for _ in range(passes)]


def loss(t: Tensor):
    return lambda out: (out - t).square().sum(1)


def test_passes_that_do_not_differ_are_named() -> None:
    model, (x, t) = tanh_net(3, 4, 2), sample_batch(7, 3, 2)
    (noise,) = noise_of(1)
    other = [n + 1 for n in noise]
    for steps, warned in (([noise] * 5, 1), ([noise] * 9, 1), ([noise] * 4 + [other] + [noise] * 4, 0)):
        passes = [list(n) for second in steps for n in (noise, second)]
        chip = nl.OwnChip(model, Recorded(model, passes), name="bench")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in steps:
                ANP(baseline="noisy").estimate(chip, x, loss(t))
        message = "chip 'bench': all passes of 5 steps in a row read the same pre-activations"
        assert [str(w.message).partition(",")[0] for w in caught] == warned * [message]


def test_anp_from_readings_alone_is_the_closed_form() -> None:
    """dL N da / ||da||^2 times the input of the first pass, written out, layer by layer and sample by sample."""
    model, (x, t), noise = tanh_net(3, 4, 2), sample_batch(7, 3, 2), noise_of(2)
    W1, b1, W2, b2 = (p.detach() for p in model.parameters())
    chip = nl.OwnChip(model, Recorded(model, [list(n) for n in noise]))
    ANP(baseline="noisy").estimate(chip, x, loss(t))
    a1 = [x @ W1.T + b1 + n[0] for n in noise]
    a2 = [torch.tanh(a) @ W2.T + b2 + n[1] for a, n in zip(a1, noise, strict=True)]
    d1, d2 = a1[1] - a1[0], a2[1] - a2[0]
    dL = (a2[1] - t).square().sum(1) - (a2[0] - t).square().sum(1)
    scale = dL * 6 / (d1.square().sum(1) + d2.square().sum(1))
    expected = {
        "0.weight": (scale[:, None] * d1).T @ x / 7, "0.bias": (scale[:, None] * d1).mean(0),
        "2.weight": (scale[:, None] * d2).T @ torch.tanh(a1[0]) / 7, "2.bias": (scale[:, None] * d2).mean(0),
    }  # fmt: skip
    for name, value in gradients(model).items():
        torch.testing.assert_close(torch.tensor(value), expected[name])


def test_program_sends_parameters_and_decorrelations() -> None:
    model = nl.decorrelate(nl.networks.mlp(4, (3,), 2, seed=0), rate=1e-3)
    hardware = Recorded(nn.Sequential(), [])
    chip = nl.OwnChip(model, hardware)
    with torch.no_grad():
        for p in model.parameters():
            p += 1
    chip.program()
    assert len(hardware.programmed) == 2
    assert set(hardware.programmed[1]) == set(model.state_dict())
    assert any("matrix" in name for name in hardware.programmed[1])
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in hardware.programmed[1].items() if "loss" not in k)


def test_rules_that_know_the_noise_are_refused() -> None:
    model, (x, t) = tanh_net(3, 4, 2), sample_batch(7, 3, 2)
    chip = nl.OwnChip(model, Recorded(model, noise_of(2)), name="bench 3")
    with pytest.raises(nl.UserError, match=r"cannot learn on profile 'bench 3'.*ANP\(baseline='noisy'\)"):
        NP(baseline="noisy").estimate(chip, x, loss(t))
    with pytest.raises(nl.UserError, match="no weights that the host could differentiate"):
        BP(forward="chip").estimate(chip, x, loss(t))
    BP().estimate(chip, x, loss(t))
    assert gradients(model)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [({"forget": "2"}, "gave no reading of layer '2'; it gave: 0"), ({"samples": 3}, "read for 3 samples, not 7")],
)
def test_readings_that_do_not_fit_are_refused(wrong: dict, reason: str) -> None:
    model, (x, t) = tanh_net(3, 4, 2), sample_batch(7, 3, 2)
    with pytest.raises(nl.UserError, match=reason):
        ANP(baseline="noisy").estimate(nl.OwnChip(model, Recorded(model, noise_of(2), **wrong)), x, loss(t))


@pytest.mark.slow
def test_a_chip_in_another_process_learns_and_survives_its_death(tmp_path: Path) -> None:
    """Killed before step 40: one line, and the next start goes on after 40 full steps."""
    command = [sys.executable, EXAMPLE, "--epochs", "2", "--state", tmp_path / "state.pt"]
    killed = subprocess.run([*command, "--kill-after", "40"], capture_output=True, text=True, timeout=120)
    assert killed.returncode == 1
    assert killed.stderr.startswith("error: the chip (process ")
    assert "ended with status -9 during 'forward'" in killed.stderr
    assert killed.stderr.count("\n") == 1
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    assert saved["step"] == 40
    again = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "continuing after step 40" in again.stdout
    last = again.stdout.splitlines()[-1]
    assert float(last.split(": ")[1].split("%")[0]) > 50, "chance is 10 %"


class _Reusing(Recorded):
    """A driver that reads every pass into the same buffers."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.buffers: dict[tuple[str, int], Tensor] = {}

    def forward(self, x: Tensor) -> Any:
        output, read = super().forward(x)
        for name, pair in read.items():
            for i, values in enumerate(pair):
                self.buffers.setdefault((name, i), torch.empty_like(values)).copy_(values)
        return output, {name: (self.buffers[name, 0], self.buffers[name, 1]) for name in read}


def test_a_driver_may_use_its_buffers_again() -> None:
    found = []
    for kind in (Recorded, _Reusing):
        model, (x, t) = tanh_net(3, 4, 2), sample_batch(7, 3, 2)
        ANP(baseline="noisy").estimate(nl.OwnChip(model, kind(model, noise_of(2))), x, loss(t))
        found.append(gradients(model))
    assert all(bool(g.any()) for g in found[0].values())
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])


class _Spoilt(Recorded):
    def __init__(self, model: Any, noise: Any, spoil: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__(model, noise)
        self.spoil = spoil

    def forward(self, x: Tensor) -> Any:
        output, read = super().forward(x)
        return output, {name: self.spoil(*pair) for name, pair in read.items()}


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda entered, left: (left, entered), "read with 4 units where it has 3"),
        (lambda entered, left: (entered, left / 0), "not finite"),
        (lambda entered, left: (entered[:, :2], left), "read with 2 units where it has 3"),
    ],
)
def test_readings_of_the_wrong_shape_or_none_at_all_are_refused(spoil: Any, reason: str) -> None:
    model, (x, t) = tanh_net(3, 4, 2), sample_batch(7, 3, 2)
    with pytest.raises(nl.UserError, match=reason):
        ANP(baseline="noisy").estimate(nl.OwnChip(model, _Spoilt(model, noise_of(2), spoil)), x, loss(t))
    with pytest.raises(nl.UserError, match="give samples as"):
        nl.OwnChip(model, Recorded(model, noise_of(2))).passes(x[:0], ANP(baseline="noisy").plan(2))


class _Answers(Recorded):
    def __init__(self, model: nn.Sequential, answer: Any) -> None:
        super().__init__(model, [])
        self.answer = answer

    def forward(self, x: Tensor) -> Any:
        return self.answer


@pytest.mark.parametrize("answer", [None, torch.zeros(7, 2), (torch.zeros(7, 2), [])])
def test_an_answer_of_another_form_is_refused(answer: Any) -> None:
    model, (x, t) = tanh_net(3, 4, 2), sample_batch(7, 3, 2)
    with pytest.raises(nl.UserError, match=r"forward has to return \(output, readings by layer\)"):
        ANP(baseline="noisy").estimate(nl.OwnChip(model, _Answers(model, answer)), x, loss(t))


def test_what_drivers_give_is_taken_as_it_is() -> None:
    """Arrays of numpy in single precision, for a model in double."""

    class Arrays(Recorded):
        def forward(self, x: Tensor) -> Any:
            output, read = super().forward(x)
            found = {name: tuple(v.detach().float().numpy() for v in both) for name, both in read.items()}
            return output.detach().float().numpy(), found

    model, (x, t), noise = tanh_net(3, 4, 2), sample_batch(7, 3, 2), noise_of(2)
    found = []
    for kind in (Recorded, Arrays):
        model.zero_grad()
        ANP(baseline="noisy").estimate(nl.OwnChip(model, kind(model, [list(n) for n in noise])), x, loss(t))
        found.append(gradients(model))
    torch.testing.assert_close(found[1], found[0], rtol=1e-2, atol=1e-4)


def test_hardware_without_its_methods_is_refused() -> None:
    with pytest.raises(nl.UserError, match="object has no method forward and no program"):
        nl.OwnChip(tanh_net(3, 4, 2), object())  # type: ignore[arg-type]


def test_a_loss_that_is_not_finite_teaches_nothing() -> None:
    model, (x, t), noise = tanh_net(3, 4, 2), sample_batch(7, 3, 2), noise_of(2)
    chip = nl.OwnChip(model, Recorded(model, noise))
    with pytest.raises(nl.UserError, match="the loss is not finite"):
        ANP(baseline="noisy").estimate(chip, x, loss(t * torch.nan))
    assert all(p.grad is None for p in model.parameters())


def test_a_chip_that_shows_the_loss_alone_refuses_learned_feedback(tmp_path: Path) -> None:
    command = [sys.executable, EXAMPLE, "--loss-only", "--state", tmp_path / "state.pt"]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert refused.returncode == 1
    assert "the error at the output" in refused.stderr
    assert "rules that work there: anp" in refused.stderr
    assert "; in Python ANP(baseline='noisy')" in refused.stderr
    assert refused.stderr.count("\n") == 1
