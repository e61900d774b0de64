"""Modules are placed on devices, run digitally, or are refused in one line, as docs/networks.md says."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from noisylearn import Chip, UserError
from noisylearn.rules import ANP

PAGE = (Path(__file__).parents[2] / "docs" / "networks.md").read_text(encoding="utf-8")


class Named(nn.Linear):
    """A subclass that computes as Linear does."""


class Squared(nn.Linear):
    """A subclass that does not."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).square()


class Gain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x


def around(module: nn.Module) -> nn.Sequential:
    """The module between two layers."""
    return nn.Sequential(nn.Linear(4, 4), module, nn.Linear(4, 4))


def in_channels(module: nn.Module, units: int) -> nn.Sequential:
    """The module over one channel of four numbers, with so many numbers behind it."""
    return nn.Sequential(nn.Unflatten(1, (1, 4)), module, nn.Flatten(), nn.Linear(units, 4))


def frozen(module: nn.Module) -> nn.Module:
    return module.requires_grad_(False)


def after_a_batch(model: nn.Module) -> nn.Module:
    model(torch.ones(2, 4))
    return model


def replaced(layer: nn.Linear) -> nn.Linear:
    layer.forward = lambda x: x  # type: ignore[method-assign]
    return layer


def tied() -> nn.Sequential:
    model = around(nn.Tanh())
    model[2].weight = model[0].weight
    return model


def twice() -> nn.Sequential:
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.Tanh(), layer)


PLACED: dict[str, Callable[[], nn.Module]] = {
    "Linear": lambda: around(nn.Linear(4, 4)),
    "Conv1d": lambda: in_channels(nn.Conv1d(1, 2, 3), 4),
    "Conv2d": lambda: nn.Sequential(nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 2, 2), nn.Flatten(), nn.Linear(2, 4)),
    "Conv3d": lambda: nn.Sequential(nn.Unflatten(1, (1, 1, 2, 2)), nn.Conv3d(1, 2, (1, 2, 2)), nn.Flatten()),
    "subclass": lambda: around(Named(4, 4)),
    "LazyLinear": lambda: after_a_batch(around(nn.LazyLinear(4))),
}
DIGITAL: dict[str, Callable[[], nn.Module]] = {
    "Flatten": lambda: around(nn.Flatten()),
    "LayerNorm": lambda: around(frozen(nn.LayerNorm(4))),
    "GroupNorm": lambda: around(frozen(nn.GroupNorm(2, 4))),
    "RMSNorm": lambda: around(frozen(nn.RMSNorm(4))),
    "PReLU": lambda: around(frozen(nn.PReLU())),
    "Embedding": lambda: nn.Sequential(frozen(nn.Embedding(9, 4)), nn.Flatten(), nn.Linear(16, 4)),
    "ConvTranspose1d": lambda: in_channels(frozen(nn.ConvTranspose1d(1, 2, 3)), 12),
    "own": lambda: around(frozen(Gain())),
    "BatchNorm1d": lambda: around(frozen(nn.BatchNorm1d(4))).eval(),
    "InstanceNorm1d": lambda: in_channels(nn.InstanceNorm1d(1), 4),
    "Dropout": lambda: around(nn.Dropout(0.5)).eval(),
    "Dropout, p = 0": lambda: around(nn.Dropout(0.0)),
}
REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "LayerNorm": (lambda: around(nn.LayerNorm(4)), r"\(LayerNorm\) owns parameters .*freeze them"),
    "PReLU": (lambda: around(nn.PReLU()), r"\(PReLU\) owns parameters .*freeze them"),
    "Embedding": (lambda: around(nn.Embedding(9, 4)), r"\(Embedding\) owns parameters .*freeze them"),
    "ConvTranspose1d": (lambda: around(nn.ConvTranspose1d(1, 2, 3)), "owns parameters .*freeze them"),
    "own": (lambda: around(Gain()), r"owns parameters \(gain\) .*freeze them"),
    "BatchNorm1d": (lambda: around(frozen(nn.BatchNorm1d(4))), r"mixes the samples .*model.eval\(\)"),
    "Dropout": (lambda: around(nn.Dropout(0.5)), r"draws noise .*model.eval\(\), or set its p to 0"),
    "LSTM": (lambda: around(nn.LSTM(4, 4)), "is fused: .* build it from single Linear layers"),
    "LSTMCell": (lambda: around(nn.LSTMCell(4, 4)), "is fused"),
    "RNN": (lambda: around(nn.RNN(4, 4)), "is fused"),
    "RNNCell": (lambda: around(nn.RNNCell(4, 4)), "is fused"),
    "GRU": (lambda: around(nn.GRU(4, 4)), "is fused"),
    "GRUCell": (lambda: around(nn.GRUCell(4, 4)), "is fused"),
    "MultiheadAttention": (lambda: around(nn.MultiheadAttention(4, 2)), "is fused"),
    "TransformerDecoderLayer": (lambda: nn.TransformerDecoderLayer(4, 2), "is fused"),
    "Bilinear": (lambda: around(nn.Bilinear(4, 4, 4)), "owns parameters"),
    "subclass": (lambda: around(Squared(4, 4)), r"layer '1' \(Squared\) .*forward pass is one of its own: let it call"),
    "forward replaced": (lambda: around(replaced(nn.Linear(4, 4))), "forward pass is one of its own"),
    "LazyLinear": (lambda: around(nn.LazyLinear(4)), r"its weight has no shape yet; run model\(x\) once"),
    "torch.compile": (lambda: torch.compile(around(nn.Tanh())), "is compiled: .* compiled._orig_mod"),
    "compiled layer": (lambda: around(torch.compile(nn.Linear(4, 4))), "layer '1' .* is compiled"),
    "TorchScript": (lambda: torch.jit.trace(around(nn.Tanh()), torch.ones(2, 4)), "place the model that it was made"),
    "DataParallel": (lambda: nn.DataParallel(around(nn.Tanh())), "place what it wraps, its .module"),
    "parametrize": (
        lambda: around(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))),
        "remove_parametrizations",
    ),
    "quantised": (
        lambda: torch.ao.quantization.quantize_dynamic(around(nn.Tanh()), {nn.Linear}),
        "quantised has none either, place it as it was",
    ),
    "float16": (lambda: around(nn.Tanh()).half(), r"use float32, model.float\(\)"),
    "bfloat16": (lambda: around(nn.Tanh()).bfloat16(), r"use float32, model.float\(\)"),
    "meta": (lambda: around(nn.Tanh()).to("meta"), "has no values; load them first"),
    "shared": (tied, "layer '2' .* shares a parameter with layer '0'; give each its own"),
    "used twice": (twice, "layer '0' is used twice in one forward pass; give each use a layer of its own"),
    "function": (lambda: torch.tanh, "a chip takes a model, a torch.nn.Module, not builtin_function"),
}


def learn(model: object) -> Chip:
    """One step on a chip, which is then back at a pass of its own."""
    chip = Chip(model, "gaussian-node")  # type: ignore[arg-type]
    of_tokens = isinstance(model, nn.Sequential) and isinstance(model[0], nn.Embedding)
    x = torch.randint(0, 9, (3, 4)) if of_tokens else torch.ones(3, 4)
    ANP(baseline="noisy").estimate(chip, x, lambda output: output.flatten(1).square().sum(1))
    return chip


@pytest.mark.parametrize("name", PLACED)
def test_it_is_placed(name: str) -> None:
    chip = learn(PLACED[name]())
    assert chip.layers.keys() == {n for n, m in chip.model.named_modules() if hasattr(m, "weight")}
    assert all(layer.weight.grad is not None for layer in chip.layers.values())


@pytest.mark.parametrize("name", DIGITAL)
def test_it_runs_digitally(name: str) -> None:
    chip = learn(DIGITAL[name]())
    assert {type(layer) for layer in chip.layers.values()} == {nn.Linear}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_in_one_line(name: str) -> None:
    make, message = REFUSED[name]
    with pytest.raises(UserError, match=message) as caught:
        learn(make())
    assert "\n" not in str(caught.value)


def test_the_page_names_what_is_tried_here() -> None:
    rows = [line.split("|")[2] for line in PAGE.splitlines() if line.startswith("| ") and "---" not in line][1:]
    for row, tried in zip(rows, (PLACED, DIGITAL, REFUSED), strict=True):
        for name in re.findall(r"`([A-Z]\w+)`", row):
            assert name in tried
