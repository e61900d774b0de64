"""The adapter for tiles of aihwkit; skipped, but for the refusal, where the kit is not installed."""

import importlib.util
import sys

import pytest
import torch
import torch.nn.functional as F

import noisylearn as nl
from noisylearn.chips.aihwkit import AihwkitTiles

needs_kit = pytest.mark.skipif(importlib.util.find_spec("aihwkit") is None, reason="aihwkit is not installed")


def network() -> torch.nn.Module:
    return nl.decorrelate(nl.networks.mlp(64, (32,), 10, seed=0), rate=1e-3)


def test_a_missing_kit_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aihwkit.nn", None)
    with pytest.raises(nl.UserError, match=r"aihwkit is not installed here .* pip install aihwkit"):
        AihwkitTiles(network(), None)


@needs_kit
def test_without_noise_the_tiles_give_the_models_readings() -> None:
    from aihwkit.simulator.configs import FloatingPointRPUConfig

    model = network()
    tiles = AihwkitTiles(model, FloatingPointRPUConfig())
    with torch.no_grad():
        model.hidden1.decorrelation.matrix.add_(0.01 * torch.randn(64, 64))
        for parameter in model.parameters():
            parameter.add_(0.1)
    tiles.program(model.state_dict())
    x = torch.rand(5, 64)
    output, readings = tiles.forward(x)
    assert torch.allclose(output, model(x), atol=1e-4)
    assert set(readings) == set(nl.OwnChip(model, tiles).layers)


@pytest.mark.slow
@needs_kit
@pytest.mark.parametrize("kind", ["inference", "pulsed"])
def test_two_noisy_passes_learn_digits_on_the_kits_tiles(kind: str) -> None:
    from aihwkit.simulator.configs import InferenceRPUConfig
    from aihwkit.simulator.presets import EcRamMOPreset

    torch.manual_seed(0)
    task, model = nl.tasks.load("digits"), network()
    chip = nl.OwnChip(model, AihwkitTiles(model, InferenceRPUConfig() if kind == "inference" else EcRamMOPreset()))
    rule, optimizer = nl.rules.ANP(baseline="noisy"), torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(3):
        for rows in torch.randperm(len(task.train_inputs)).split(20):
            targets = task.train_targets[rows]
            rule.estimate(
                chip, task.train_inputs[rows], lambda out, t=targets: F.cross_entropy(out, t, reduction="none")
            )
            optimizer.step()
            chip.program()
    assert float((chip(task.test_inputs).argmax(1) == task.test_targets).float().mean()) > 0.7
