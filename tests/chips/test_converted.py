"""Networks whose layers another simulator computes: by a stand-in, and by CrossSim where it is installed."""

import copy
import importlib.util
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import noisylearn as nl
from noisylearn.chips.converted import ConvertedNetwork
from noisylearn.chips.crosssim import CrossSimCores

needs_kit = pytest.mark.skipif(importlib.util.find_spec("simulator") is None, reason="CrossSim is not installed")


def network() -> torch.nn.Module:
    return nl.decorrelate(nl.networks.mlp(64, (32,), 10, seed=0), rate=1e-3)


class StandIn(ConvertedNetwork):
    """A simulator without any noise: the layers are torch's own."""

    def __init__(self, model: torch.nn.Module) -> None:
        own = copy.deepcopy(model)
        super().__init__(own, {n: m for n, m in own.named_modules() if isinstance(m, torch.nn.Linear)})

    def program(self, state) -> None:
        self.load(state)


def moved(model: torch.nn.Module) -> torch.nn.Module:
    """The model with other weights, biases and decorrelating matrices than the copy was made with."""
    with torch.no_grad():
        for value in (*model.parameters(), *(b for n, b in model.named_buffers() if n.endswith("matrix"))):
            value.add_(0.05 * torch.randn(value.shape, generator=torch.Generator().manual_seed(1)))
    return model


def exact_cores(model: torch.nn.Module) -> CrossSimCores:
    from simulator import CrossSimParameters

    parameters = CrossSimParameters()
    parameters.xbar.device.infinite_on_off_ratio = True
    return CrossSimCores(model, parameters)


@pytest.mark.parametrize("kit", [StandIn, pytest.param(exact_cores, marks=needs_kit)])
def test_without_noise_the_copy_gives_the_models_readings(kit) -> None:
    model = network()
    converted = kit(model)
    converted.program(moved(model).state_dict())
    x = torch.rand(5, 64)
    output, readings = converted.forward(x)
    assert torch.allclose(output, model(x), atol=1e-4)
    assert set(readings) == set(nl.OwnChip(model, converted).layers)
    entered, activity = readings["hidden1.layer"]
    assert torch.allclose(entered, x @ model.hidden1.decorrelation.matrix.T, atol=1e-5)
    assert torch.allclose(activity, model.hidden1(x), atol=1e-4)


def test_a_missing_kit_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "simulator.algorithms.dnn.torch", None)
    with pytest.raises(nl.UserError, match=r"CrossSim is not installed here .* pip install \. in it"):
        CrossSimCores(network(), None)


@pytest.mark.slow
@needs_kit
def test_two_noisy_passes_learn_digits_on_the_kits_cores() -> None:
    from simulator import CrossSimParameters

    parameters = CrossSimParameters()
    parameters.xbar.device.infinite_on_off_ratio = True
    device = parameters.xbar.device
    for noise, magnitude in ((device.programming_error, 0.02), (device.read_noise, 0.01)):
        noise.enable, noise.model, noise.magnitude = True, "NormalIndependentDevice", magnitude
    np.random.seed(0)
    task, model = nl.tasks.load("digits"), network()
    chip = nl.OwnChip(model, CrossSimCores(model, parameters))
    rule, optimizer = nl.rules.ANP(baseline="noisy"), torch.optim.Adam(model.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        for rows in torch.randperm(len(task.train_inputs), generator=generator).split(20):
            targets = task.train_targets[rows]
            rule.estimate(
                chip, task.train_inputs[rows], lambda out, t=targets: F.cross_entropy(out, t, reduction="none")
            )
            optimizer.step()
            chip.program()
    assert float((chip(task.test_inputs).argmax(1) == task.test_targets).float().mean()) > 0.7
