"""Models on a chip: passes, refusals, checkpoints, and that the model stays what it was."""

import os
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.checks import (
    COARSE,
    DRIFT,
    ONE_OVER_F,
    PROGRAMMING,
    gradients,
    machine,
    node_profile,
    sample_batch,
    tanh_net,
)
from torch import Tensor, nn

from noisylearn import Chip, UserError, networks
from noisylearn.chips.execution.executor import StackedExecutor
from noisylearn.chips.readings import Plan
from noisylearn.chips.segments import Segment, as_segment
from noisylearn.chips.simulated import (
    CleanBaselineWarning,
    NoiseLevelWarning,
    UncalibratedWarning,
    UnprogrammedWarning,
    ZeroLayerWarning,
)
from noisylearn.effects.base import Effect, Lifetime, Moments, Setting, Site, State
from noisylearn.ground.draws import RecordedDraws, StreamOf
from noisylearn.profiles import load_profile, profile_files
from noisylearn.rules import ANP, BP, NP, REINFORCE
from noisylearn.rules.observation import Observation

PCM = machine(PROGRAMMING, DRIFT, ONE_OVER_F, devices=True)
X = sample_batch(4, 3, 2)[0]
REFUSED_BY_CHECKS = pytest.mark.skipif(
    "NOISYLEARN_CHECK_SHAPES" in os.environ, reason="the checks of shapes refuse it before the chip does"
)


def _plan(layers: int, passes: int = 2, clean_first: bool = False) -> Plan:
    rows = [(True,) * layers] * passes
    return Plan(((False,) * layers if clean_first else rows[0], *rows[1:]))


class Residual(nn.Module):
    """y = out(x + tanh(hidden(x))): a path around the first layer."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(3, 3).double(), nn.Linear(3, 2).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x + torch.tanh(self.hidden(x)))


class TwoHeads(nn.Module):
    """Two layers that both look at the input."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 2).double(), nn.Linear(3, 2).double()

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.left(x)) * self.right(x)


class Concatenated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(3, 4).double(), nn.Linear(7, 2).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.cat([x, torch.tanh(self.hidden(x))], dim=1))


class ChannelAsSkip(nn.Module):
    """A path around the first layer whose shape would broadcast: the mean of each sample."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(3, 3).double(), nn.Linear(3, 2).double()

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.hidden(x))
        return self.out(h + x.mean(1, keepdim=True))


def _plain(*sizes: int) -> nn.Module:
    return tanh_net(*sizes)


def _conv() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv1d(1, 2, 2), nn.Tanh(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(2, 2)).double()


def _reshaped(model: nn.Module, x: Tensor) -> Tensor:
    return x.unsqueeze(1) if isinstance(next(iter(model.children())), nn.Conv1d) else x


MODELS: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: _plain(3, 4, 2),
    "residual": Residual,
    "two heads": TwoHeads,
    "concatenated": Concatenated,
    "broadcast skip": ChannelAsSkip,
    "conv": _conv,
    "single layer": lambda: nn.Linear(3, 2).double(),
}


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize("batch", [1, 2, 4])
def test_every_pass_is_the_models_own_forward_with_its_noise(name: str, batch: int) -> None:
    """Pass by pass through plain torch, with the recorded noise added by hooks of our own."""
    torch.manual_seed(0)
    model, draws = MODELS[name](), RecordedDraws(3)
    x = _reshaped(model, X[:batch]) if name == "conv" else X[:batch]
    chip = Chip(model, node_profile(0.03), draws=draws)
    n = len(chip.layers)
    readings = chip.passes(x, _plan(n, 3, clean_first=True))
    for p in range(3):
        seen: dict[str, tuple[Tensor, Tensor]] = {}

        def add(module: nn.Module, args: Any, output: Tensor, p: int = p, seen: dict[str, Any] = seen) -> Tensor:
            layer = next(k for k, v in chip.layers.items() if v is module)
            z = draws.record[(layer, "gaussian-node", "pass", "read")][0]
            seen[layer] = args[0], output + 0.03 * z[p - 1].double() if p else output
            return seen[layer][1]

        handles = [layer.register_forward_hook(add) for layer in chip.layers.values()]
        expected = model(x).detach()
        for handle in handles:
            handle.remove()
        torch.testing.assert_close(readings.output[p], expected, rtol=1e-10, atol=1e-12)
        for layer, (inputs, activity) in seen.items():
            reading = readings.layers[layer]
            torch.testing.assert_close(reading.activity[p], activity.detach(), rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(
                reading.input[min(p, len(reading.input) - 1)], inputs.detach(), rtol=1e-10, atol=1e-12
            )


@pytest.mark.parametrize("name", list(MODELS))
def test_the_kind_of_stacking_does_not_depend_on_the_first_batch(name: str) -> None:
    """A first look with one sample must not decide wrongly for larger batches."""
    torch.manual_seed(0)
    model = MODELS[name]()
    x = _reshaped(model, X) if name == "conv" else X
    chip = Chip(model, node_profile(1e-3))
    chip.passes(x[:1], _plan(len(chip.layers)))
    torch.testing.assert_close(chip(x), model(x).detach())
    plan = _plan(len(chip.layers), 3, clean_first=True)
    torch.testing.assert_close(chip.passes(x, plan).output[0], model(x).detach())


@given(sizes=st.lists(st.integers(1, 5), min_size=2, max_size=4), batch=st.integers(1, 4), passes=st.integers(1, 4))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_forked_passes_equal_stacked_passes(sizes: list[int], batch: int, passes: int) -> None:
    outputs = []
    for forks in (True, False):
        model = tanh_net(*sizes)
        chip = Chip(model, PCM, seed=1)
        chip._executor._forks = forks
        x = torch.linspace(-1, 1, batch * sizes[0], dtype=torch.float64).reshape(batch, sizes[0])
        readings = chip.passes(x, _plan(len(chip.layers), passes))
        outputs.append([readings.output, *(r.activity for r in readings.layers.values())])
    for forked, stacked in zip(*outputs, strict=True):
        torch.testing.assert_close(forked, stacked, rtol=1e-9, atol=1e-12)


class _Impure(nn.Module):
    """Two layers with something in the forward that passes cannot be compared through."""

    def __init__(self, impurity: str) -> None:
        super().__init__()
        self.first, self.last, self.impurity = nn.Linear(4, 5), nn.Linear(5, 2), impurity
        self.calls = 0

    def forward(self, x: torch.Tensor, state: Any = None) -> Any:
        self.calls += 1
        h = self.first(x)
        if self.impurity == "dropout":
            h = nn.functional.dropout(h, 0.5)
        elif self.impurity == "state":
            h = h + self.calls
        else:
            h = h - h.mean(0)
        y = self.last(h)
        return (y, state) if self.in_time else y

    in_time = False


@pytest.mark.parametrize("in_time", [False, True])
@pytest.mark.parametrize(("impurity", "reason"), [
    ("dropout", "draws random numbers"), ("state", "keeps a state"), ("batch mean", "mixes the samples"),
])  # fmt: skip
def test_a_forward_through_which_passes_cannot_be_compared_is_refused(
    impurity: str, reason: str, in_time: bool
) -> None:
    model = _Impure(impurity)
    model.in_time = in_time
    chip = Chip(model, "gaussian-node", seed=0)
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    with pytest.raises(UserError, match=reason):
        chip.passes(Segment(x.unsqueeze(0), in_time=True) if in_time else x, _plan(2, 2))


def test_a_model_that_forks_computes_its_first_product_once() -> None:
    for name, forks in (("plain", True), ("conv", True), ("residual", False), ("concatenated", False)):
        model = MODELS[name]()
        chip = Chip(model, node_profile(1e-3))
        x = _reshaped(model, X) if name == "conv" else X
        readings = chip.passes(x, _plan(len(chip.layers), 3))
        assert (next(iter(readings.layers.values())).input.shape[0] == 1) == forks, name


def test_a_model_that_checks_its_shapes_is_stacked() -> None:
    class Checks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden, self.out = nn.Linear(3, 3).double(), nn.Linear(3, 2).double()

        def forward(self, x: Tensor) -> Tensor:
            h = torch.tanh(self.hidden(x))
            assert h.shape[0] == x.shape[0]
            return self.out(h)

    model = Checks()
    torch.testing.assert_close(Chip(model, node_profile(1e-3))(X), model(X).detach())
    assert Chip(model, node_profile(1e-3)).passes(X, _plan(2, 3)).output.shape == (3, 4, 2)


def test_learning_on_a_residual_model_follows_the_gradient() -> None:
    """Mean of 3 x 4000 NP draws against backprop; cosine above 0.98."""
    torch.manual_seed(0)
    model, x = Residual(), X[:3].repeat(4000, 1)

    def loss_fn(y: Tensor) -> Tensor:
        return (y**2).sum(1)

    BP().estimate(Chip(model), X[:3], loss_fn)
    exact = np.concatenate([g.ravel() for g in gradients(model).values()])
    NP().estimate(Chip(model, node_profile(1e-3)), x, loss_fn)
    found = np.concatenate([g.ravel() for g in gradients(model).values()])
    assert found @ exact / np.linalg.norm(found) / np.linalg.norm(exact) > 0.98


# ---- what cannot be placed ----


class Owner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain, self.inner = nn.Parameter(torch.ones(1)), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * self.inner(x)


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


REFUSED = {
    "LSTM": nn.LSTM(3, 2),
    "GRU": nn.GRU(3, 2),
    "RNN": nn.RNN(3, 2),
    "LSTMCell": nn.LSTMCell(3, 2),
    "MultiheadAttention": nn.MultiheadAttention(4, 2),
    "BatchNorm1d": nn.BatchNorm1d(3),
    "BatchNorm2d": nn.BatchNorm2d(3, affine=False),
    "Dropout": nn.Dropout(0.5),
    "RReLU": nn.RReLU(),
    "AlphaDropout": nn.AlphaDropout(0.1),
    "Embedding": nn.Embedding(3, 2),
    "LayerNorm": nn.LayerNorm(3),
    "PReLU": nn.PReLU(),
    "Bilinear": nn.Bilinear(3, 3, 2),
    "ConvTranspose2d": nn.ConvTranspose2d(1, 1, 2),
}


@pytest.mark.parametrize("kind", list(REFUSED))
def test_modules_that_cannot_be_placed_are_refused_by_name(kind: str) -> None:
    model = nn.Sequential(OrderedDict(first=nn.Linear(3, 3), culprit=REFUSED[kind], last=nn.Linear(3, 2)))
    with pytest.raises(UserError) as refused:
        Chip(model)
    assert f"layer 'culprit' ({kind})" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_else_is_refused_at_placement() -> None:
    with pytest.raises(UserError, match=r"layer 'model' \(Owner\) owns parameters \(gain\)"):
        Chip(Owner())
    with pytest.raises(UserError, match=r"layer 'second' \(Linear\) shares a parameter with layer 'first'"):
        Chip(Shared())
    with pytest.raises(UserError, match="no Linear or Conv layer"):
        Chip(nn.Sequential(nn.Tanh()))
    assert Chip(nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.0), nn.LayerNorm(2, elementwise_affine=False)))


class Pretrained(nn.Module):
    """A residual network with normalisation, dropout and a scale, as it comes out of a training."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.depthwise, self.pointwise = nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.Conv2d(4, 4, 1)
        self.norm2, self.prelu, self.dropout = nn.BatchNorm2d(4), nn.PReLU(), nn.Dropout(0.3)
        self.layer_norm, self.readout = nn.LayerNorm(4), nn.Linear(4, 3)
        self.double()
        for _ in range(3):
            self(torch.randn(20, 1, 5, 5, dtype=torch.float64))  # moves the running statistics
        self.eval()
        for module in (self.norm, self.norm2, self.prelu, self.layer_norm):
            module.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = x + self.prelu(self.norm2(self.pointwise(self.depthwise(x))))
        y: Tensor = self.readout(self.layer_norm(self.dropout(x).mean((2, 3))))
        return y


def test_what_needs_no_update_runs_digitally() -> None:
    """Normalisation in evaluation mode, dropout, frozen parameters: outputs of the model, gradients of autograd."""
    model, x = Pretrained(), torch.randn(6, 1, 5, 5, dtype=torch.float64)
    chip = Chip(model)
    assert set(chip.layers) == {"stem", "depthwise", "pointwise", "readout"}
    torch.testing.assert_close(chip(x), model(x).detach())
    noisy = Chip(model, node_profile(1e-4))
    passes = noisy.passes(x, _plan(4, 3))
    assert passes.output.shape == (3, 6, 3)
    torch.testing.assert_close(passes.output[0], model(x).detach(), atol=1e-2, rtol=0)
    model.readout.bias.requires_grad_(False)
    BP().estimate(chip, x, lambda y: y.square().sum(1))
    found = gradients(model)
    model.zero_grad()
    model(x).square().sum(1).mean().backward()
    assert found.keys() == gradients(model).keys()
    for name, expected in gradients(model).items():
        np.testing.assert_allclose(found[name], expected, atol=1e-12, err_msg=name)


def test_a_module_put_back_into_training_is_named_on_the_next_pass() -> None:
    model, x = Pretrained(), torch.randn(6, 1, 5, 5, dtype=torch.float64)
    chip = Chip(model)
    assert chip(x).shape == (6, 3)
    model.train()
    with pytest.raises(UserError, match=r"layer 'norm' \(BatchNorm2d\) mixes the samples.*model.eval\(\)"):
        chip(x)
    with pytest.raises(UserError, match="evaluation mode"):
        Chip(model)
    model.eval()
    assert chip(x).shape == (6, 3)
    with pytest.raises(UserError, match="mixes the samples"):
        Chip(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, affine=False, track_running_stats=False)).eval())
    for module in model.modules():
        module.requires_grad_(True)
    with pytest.raises(UserError, match=r"layer 'norm' \(BatchNorm2d\) owns parameters.*requires_grad_\(False\)"):
        Chip(model)


def test_an_embedding_that_is_frozen_takes_whole_numbers() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.Linear(12, 2))
    model[0].requires_grad_(False)
    x, chip = torch.tensor([[0, 1, 2], [4, 3, 1]]), Chip(model, "gaussian-node")
    torch.testing.assert_close(chip.passes(x, _plan(1, 2)).output[0], model(x).detach(), atol=0.2, rtol=0)
    with pytest.raises(UserError, match="does not take an input of shape"):
        chip(x.float())


@pytest.mark.parametrize("rule", [NP(), BP()], ids=lambda rule: rule.name)
def test_a_network_that_is_all_frozen_has_nothing_to_learn(rule: Any) -> None:
    model = _plain(3, 4, 2).requires_grad_(False)
    with pytest.raises(UserError, match=r"all weights of the chip are frozen.*requires_grad_\(True\)"):
        rule.estimate(Chip(model, node_profile(1e-3)), X, lambda y: y.square().sum(1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("profile", ["ideal", "gaussian-node", "pcm-nandakumar-2019", "ecram-mo-kim-2019"])
def test_half_precision_is_refused_where_a_network_is_placed(dtype: torch.dtype, profile: str) -> None:
    model = nn.Sequential(OrderedDict(first=nn.Linear(3, 3), last=nn.Linear(3, 2))).to(dtype)
    with pytest.raises(UserError, match=r"layer 'first' \(Linear\): its weight is b?float16.*model.float\(\)"):
        Chip(model, profile)


def test_autocast_is_refused() -> None:
    chip = Chip(_plain(3, 4, 2).float(), "gaussian-node")
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(UserError, match="autocast is on"):
        NP().estimate(chip, X.float(), lambda y: y.square().sum(1))


def test_weights_without_values_are_refused() -> None:
    with pytest.raises(UserError, match=r"layer '0' \(LazyLinear\).*run model\(x\) once"):
        Chip(nn.Sequential(nn.LazyLinear(3)))
    with pytest.raises(UserError, match=r"layer '0' \(Linear\).*meta device"):
        Chip(nn.Sequential(nn.Linear(3, 2, device="meta")))


IMAGES = torch.rand(4, 1, 6, 6)
NOT_TAKEN = {
    "flattened": IMAGES.flatten(1), "unbatched": IMAGES[0], "bytes": (IMAGES * 255).byte(),
    "integers": (IMAGES * 9).int(), "booleans": IMAGES > 0.5, "two channels": IMAGES.expand(4, 2, 6, 6),
    "double": IMAGES.double(),
}  # fmt: skip


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("kind", NOT_TAKEN)
@pytest.mark.parametrize("profile", ["gaussian-node", "pcm-nandakumar-2019", "isaac-2016"])
def test_inputs_are_checked_on_every_call(kind: str, first: bool, profile: str) -> None:
    """The same message whether or not the chip has seen a good input before."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
    chip = Chip(model, profile)
    chip.calibrate(IMAGES)
    if not first:
        assert chip(IMAGES).shape == (4, 3)
    calls = [chip, lambda x: chip.passes(x, _plan(2, 2)), chip.digital_pass]
    for run in [*calls, *([chip.calibrate] if profile == "isaac-2016" else [])]:
        with pytest.raises(UserError, match=r"(input of|does not take an input of shape)") as refused:
            run(NOT_TAKEN[kind])
        assert "\n" not in str(refused.value)
    assert chip(IMAGES).shape == (4, 3)


@pytest.mark.parametrize("rule", [NP(), BP(), REINFORCE()], ids=lambda rule: rule.name)
def test_inputs_keep_no_graph_and_may_come_from_inference_mode(rule: Any) -> None:
    chip, loss = Chip(_plain(3, 4, 2), node_profile(1e-3)), lambda y: y.square().sum(1)
    x = X.clone().requires_grad_()
    rule.estimate(chip, x, loss)
    assert x.grad is None
    assert all(p.grad is not None and p.grad.grad_fn is None for p in chip.model.parameters())
    with torch.inference_mode():
        made = X.clone()
        with pytest.raises(UserError, match="inference_mode is on"):
            rule.estimate(chip, made, loss)
    assert torch.isfinite(rule.estimate(chip, made, loss))


def test_a_layer_used_twice_or_never_is_refused_when_run() -> None:
    layer = nn.Linear(3, 3)
    with pytest.raises(UserError, match="layer '0' is used twice"):
        Chip(nn.Sequential(layer, nn.Tanh(), layer), node_profile(1e-3))(torch.ones(2, 3))

    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.spare = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)

    with pytest.raises(UserError, match="layer 'spare' was not used"):
        Chip(Unused(), node_profile(1e-3))(torch.ones(2, 3))


@pytest.mark.parametrize(
    "loss_fn", [lambda y: y.sum(), lambda y: y, lambda y: y.mean(0), lambda y: y.sum(1, keepdim=True)]
)
@pytest.mark.parametrize("rule", [ANP(), NP(), BP()], ids=lambda rule: rule.describe())
def test_a_loss_that_is_not_one_number_per_sample_is_refused(rule: Any, loss_fn: Any) -> None:
    with pytest.raises(UserError, match=r"shape \(batch,\)"):
        rule.estimate(Chip(_plain(3, 4, 2), node_profile(1e-3)), X, loss_fn)


@pytest.mark.parametrize("x", [
    torch.ones(0, 3).double(), torch.ones(3).double(), pytest.param(torch.tensor(1.0), marks=REFUSED_BY_CHECKS),
])  # fmt: skip
def test_an_empty_batch_or_a_lone_sample_is_refused(x: Tensor) -> None:
    for run in (lambda c: c(x), lambda c: ANP().estimate(c, x, lambda y: y.sum(1))):
        with pytest.raises(UserError, match="give samples as"):
            run(Chip(_plain(3, 4, 2), node_profile(1e-3)))


@pytest.mark.parametrize(("x", "reason"), [
    pytest.param(np.zeros((4, 3)), "type ndarray: give a tensor", marks=REFUSED_BY_CHECKS),
    (torch.zeros(4, 3), "input of torch.float32 for a model of"),
])  # fmt: skip
def test_inputs_of_another_type_are_named(x: Any, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        Chip(_plain(3, 4, 2), node_profile(1e-3))(x)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_converters_are_not_calibrated_on_nothing(value: float) -> None:
    chip = Chip(_plain(3, 4, 2).float(), "isaac-2016")
    with pytest.raises(UserError, match="set no range; give typical inputs"):
        chip.calibrate(torch.full((4, 3), value))


def test_a_network_in_time_is_told_apart_from_one_of_samples() -> None:
    with pytest.raises(UserError, match=r"a network in time goes along sequences: rule\.run"):
        Chip(_Timed(), "gaussian-node")(torch.zeros(4, 3))


class _Timed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: Tensor, state: Any) -> Any:
        return self.layer(x), state


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_time_does_not_run_backwards(seconds: float) -> None:
    with pytest.raises(UserError, match="time runs forward"):
        Chip(_plain(3, 4, 2), PCM).advance(seconds)


# ---- the model stays a plain module ----


def _hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_no_hooks_and_no_changes_stay_behind() -> None:
    model, kept = _plain(3, 4, 2), _plain(3, 4, 2).state_dict()
    chip = Chip(model, PCM)
    chip(X)
    ANP(baseline="noisy").estimate(chip, X, lambda y: y.sum(1))
    chip.advance(10.0)
    chip.program()
    assert _hooks(model) == 0
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
    assert isinstance(model[0].weight, nn.Parameter)
    assert all(p.requires_grad for p in model.parameters())
    torch.testing.assert_close(model(X), _plain(3, 4, 2)(X))


def test_no_hooks_stay_behind_when_forward_raises() -> None:
    class Fragile(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.broken = nn.Linear(3, 3), nn.Linear(3, 2), False

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)
            if self.broken:
                raise ZeroDivisionError("midway")
            return self.b(y)

    model = Fragile()
    before = model.a.weight
    for warm in (False, True):
        chip = Chip(model, node_profile(1e-3))
        model.broken = False
        if warm:
            chip(torch.ones(2, 3))
        model.broken = True
        with pytest.raises(ZeroDivisionError):
            chip(torch.ones(2, 3))
        assert _hooks(model) == 0
        assert model.a.weight is before


def test_hooks_of_the_user_stay_and_run() -> None:
    model, calls = _plain(3, 4, 2), []
    model[1].register_forward_hook(lambda *_: calls.append(1))
    Chip(model, node_profile(1e-3))(X)
    assert calls
    assert _hooks(model) == 1


# ---- lifetimes, seeds, checkpoints ----


def _numbers(chip: Chip, steps: int) -> list[Tensor]:
    """Trainer-like use: passes, looks, time, programming; every number that comes out."""
    found = []
    for i in range(steps):
        readings = chip.passes(X, _plan(len(chip.layers), 3))
        found += [readings.output, *(r.activity for r in readings.layers.values())]
        chip.advance(0.5 * i)
        found += [chip(X), *chip.weights().values()]
        if i % 2:
            with torch.no_grad():
                for p in chip.model.parameters():
                    p.mul_(0.9)
            chip.program()
    return found


def _equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", [*profile_files(), "full pcm"])
def test_the_same_seed_gives_the_same_numbers(name: str) -> None:
    profile = PCM if name == "full pcm" else load_profile(name)
    runs = [_numbers(Chip(_plain(3, 4, 2), profile, seed=seed), 4) for seed in (0, 0, 1)]
    assert _equal(runs[0], runs[1])
    if profile.is_noisy and name not in COARSE:
        assert not _equal(runs[0], runs[2])


@pytest.mark.parametrize("name", [*profile_files(), "full pcm"])
@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_a_saved_chip_continues_bit_for_bit(name: str, at: int) -> None:
    profile = PCM if name == "full pcm" else load_profile(name)
    model = _plain(3, 4, 2)
    chip = Chip(model, profile, seed=2)
    _numbers(chip, at)
    state = {part: {k: v.clone() for k, v in held.items()} for part, held in chip.state().items()}
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    ahead = _numbers(chip, 4)
    other = _plain(3, 4, 2)
    other.load_state_dict(weights)
    again = Chip(other, profile, seed=77)
    _numbers(again, 1)
    other.load_state_dict(weights)
    again.load_state(state)
    assert _equal(_numbers(again, 4), ahead)


def test_saving_does_not_disturb() -> None:
    first, second = (Chip(_plain(3, 4, 2), PCM, seed=2) for _ in range(2))
    _numbers(first, 1)
    first.state()
    _numbers(second, 1)
    assert _equal(_numbers(first, 2), _numbers(second, 2))


def test_programming_takes_up_new_weights_and_passes_do_not() -> None:
    model = _plain(3, 4, 2)
    chip = Chip(model, machine(PROGRAMMING, devices=True))
    before, held = chip(X), chip.weights()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(2.0)
    assert torch.equal(chip(X), before), "the devices hold the weights of the last programming"
    chip.program()
    assert not torch.equal(chip.weights()["0"], held["0"])
    assert not torch.equal(chip(X), before)


@pytest.mark.parametrize("scale", ["column", "layer"])
def test_mapping_and_back_is_exact_without_effects(scale: str) -> None:
    model = _plain(3, 4, 2)
    with torch.no_grad():
        model[0].weight[1].zero_()
    chip = Chip(model, machine(devices=True, scale=scale))
    for name, weight in chip.weights().items():
        torch.testing.assert_close(weight, chip.layers[name].weight.detach())
    held = chip.state()["layer/0"]["written"]
    assert held.shape == (2, 4, 3)
    assert (held >= 0).all()
    assert (held.min(0).values == 0).all()
    top = held.flatten(2).amax((0, 2)) if scale == "column" else held.amax().reshape(1)
    torch.testing.assert_close(top[top > 0], torch.full_like(top[top > 0], 25.0))
    torch.testing.assert_close(chip(X), model(X).detach())


def test_looks_are_clean_where_noise_can_be_switched_off() -> None:
    model = _plain(3, 4, 2)
    chip = Chip(model, node_profile(1e-2))
    torch.testing.assert_close(chip(X), model(X).detach())
    readings = chip.passes(X, _plan(2, 2, clean_first=True))
    assert torch.equal(readings.output[0], chip(X))
    assert not torch.equal(readings.output[1], readings.output[0])


def test_no_pass_is_clean_and_nothing_is_shown_where_the_machine_cannot() -> None:
    chip = Chip(_plain(3, 4, 2), machine(ONE_OVER_F, 'kind = "gaussian-node"\nsigma = 1e-2', devices=True))
    readings = chip.passes(X, _plan(2, 2, clean_first=True))
    assert all(r.noise is None and r.weight_noise == [] for r in readings.layers.values())
    chip = Chip(_plain(3, 4, 2), machine('kind = "gaussian-node"\nsigma = 1e-2'))
    readings = chip.passes(X, _plan(2, 2, clean_first=True))
    clean = _plain(3, 4, 2)(X).detach()
    assert (readings.output[0] - clean).abs().min() > 0, "the plan asks for a clean pass, the machine has none"
    assert not torch.equal(chip(X), chip(X))


def test_weights_that_are_all_zero_have_no_noise_and_learn_nothing() -> None:
    """A consequence of scaling by the largest weight that users must know: never start a layer at zero on devices."""
    model = _plain(3, 4, 2)
    with torch.no_grad():
        model[2].weight.zero_()
    with pytest.warns(ZeroLayerWarning, match="layer '2'"):
        chip = Chip(model, PCM)
    ANP(baseline="noisy").estimate(chip, X, lambda y: ((y - 1) ** 2).sum(1))
    assert all((g == 0).all() for g in gradients(model).values())


def test_bp_on_the_chip_takes_its_forward_from_the_devices() -> None:
    """Gradient of the loss at the weights that were read, as if the noise were constant; programming noise only."""
    model, t = _plain(3, 4, 2), torch.ones(4, 2, dtype=torch.float64)
    chip = Chip(model, machine(PROGRAMMING, devices=True), seed=1)

    def loss_fn(y: Tensor) -> Tensor:
        return ((y - t) ** 2).sum(1)

    read = chip.weights()
    twin = _plain(3, 4, 2)
    with torch.no_grad():
        twin[0].weight.copy_(read["0"])
        twin[2].weight.copy_(read["2"])
    loss_fn(twin(X)).mean().backward()
    loss = BP(forward="chip").estimate(chip, X, loss_fn)
    assert float(loss) == pytest.approx(float(loss_fn(twin(X)).mean().detach()))
    for name, value in gradients(twin).items():
        np.testing.assert_allclose(gradients(model)[name], value, rtol=1e-9)
    BP().estimate(chip, X, loss_fn)
    plain = _plain(3, 4, 2)
    loss_fn(plain(X)).mean().backward()
    for name, value in gradients(plain).items():
        np.testing.assert_allclose(gradients(model)[name], value, rtol=1e-9)


def test_an_observation_runs_every_plan_once() -> None:
    chip = Chip(_plain(3, 4, 2), node_profile(1e-3))
    seen = Observation(chip, as_segment(X), lambda y: y.sum(1))
    assert seen.of(_plan(2))[0] is seen.of(_plan(2))[0]
    assert seen.of_any()[0] is seen.of(_plan(2))[0]


def test_float32_and_float64_models_and_readymade_networks_run() -> None:
    x = torch.rand(2, 1, 16, 16)
    for model in (networks.mlp(256, [8], 3), networks.convnet((1, 16, 16), 3)):
        for profile in (PCM, node_profile(1e-3)):
            loss = ANP(baseline="noisy").estimate(Chip(model, profile), x, lambda y: (y**2).sum(1))
            assert torch.isfinite(loss)
            assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    for chip in (Chip(_plain(3, 4, 2), PCM), Chip(_plain(3, 4, 2), node_profile(1e-3))):
        assert chip(X).dtype == torch.float64


def test_the_probe_draws_nothing() -> None:
    draws = RecordedDraws(0)
    chip = Chip(_plain(3, 4, 2), node_profile(1e-3), draws=draws)
    assert isinstance(chip._executor, StackedExecutor)
    chip(X)
    assert draws.record == {}


@pytest.mark.parametrize(("sigma", "reason"), [(1e-4, "rounding"), (0.1, "nonlinearity")])
def test_injected_noise_too_small_or_too_large_is_warned_of(sigma: float, reason: str) -> None:
    with pytest.warns(NoiseLevelWarning, match=reason):
        Chip(_plain(3, 4, 2), machine(f'kind = "gaussian-node"\nsigma = {sigma}'))


def test_node_and_weight_noise_are_told_apart() -> None:
    """With both injected, NP divides by the variance of the nodes alone and WP by that of the weights alone."""
    chip = Chip(
        _plain(3, 4, 2), machine('kind = "gaussian-node"\nsigma = 1e-2', 'kind = "gaussian-weight"\nsigma = 0.02')
    )
    for reading in chip.passes(X, _plan(2, 2)).layers.values():
        assert (reading.node_variance, reading.weight_variance) == pytest.approx((1e-4, 4e-4))


class Mismatch(Effect):
    """Half of the devices conduct twice as much as they should, for ever."""

    site: ClassVar[Site] = "weight"
    lifetime: ClassVar[Lifetime] = "device"

    kind: Literal["mismatch"] = "mismatch"

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        if "gain" not in state:
            state["gain"] = 1 + (draw.uniform("device", tuple(value.shape)) < 0.5).to(value.dtype)
        return value * state["gain"]


def test_what_a_device_is_survives_programming_and_checkpoints() -> None:
    profile = load_profile(PCM)
    effects = (Mismatch(status="assumed", source="this-profile"),)
    calibration = profile.calibration.model_copy(update={"effects": effects})
    chip = Chip(_plain(3, 4, 2), profile.model_copy(update={"calibration": calibration}))
    first = chip.weights()
    assert any(not torch.allclose(first[name], layer.weight) for name, layer in chip.layers.items())
    chip.program()
    assert all(torch.equal(chip.weights()[name], weight) for name, weight in first.items())
    other = Chip(_plain(3, 4, 2), chip.profile, seed=1)
    other.load_state(chip.state())
    other.program()
    assert all(torch.equal(other.weights()[name], weight) for name, weight in first.items())


class Uneven(Effect):
    """Read noise of a size of its own at every unit, drawn once."""

    site: ClassVar[Site] = "node"
    lifetime: ClassVar[Lifetime] = "read"

    kind: Literal["uneven"] = "uneven"

    def fabricate(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> None:
        state["sigma"] = draw.uniform("device", tuple(value.shape))

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        return value + state["sigma"] * draw.normal("read", tuple(value.shape))

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        return Moments(value, torch.full_like(value, 1e-3))


def test_noise_of_reads_may_have_what_is_drawn_once() -> None:
    profile = machine('kind = "gaussian-node"\nsigma = 1e-2')
    effects = (Uneven(status="assumed", source="this-profile"),)
    calibration = profile.calibration.model_copy(update={"effects": effects})
    chip = Chip(_plain(3, 4, 2), profile.model_copy(update={"calibration": calibration}))
    first, second = (chip.passes(X, _plan(2, 2)).layers.values() for _ in range(2))
    assert not any(torch.equal(one.activity, other.activity) for one, other in zip(first, second, strict=True))


def test_an_input_the_model_does_not_take_is_one_clear_error() -> None:
    with pytest.raises(UserError, match=r"does not take an input of shape \(4, 5\)"):
        Chip(_plain(3, 4, 2))(torch.ones(4, 5, dtype=torch.float64))


def test_injected_noise_with_a_mean_is_warned_of_where_a_clean_pass_lacks_it() -> None:
    text = 'kind = "lfsr-node"\nexponent = 1\nmantissa = 3\nlsb = 0.002'
    with pytest.warns(CleanBaselineWarning, match="use baseline='noisy'"):
        Chip(tanh_net(3, 2), machine(text, observable=("clean_pass",)))
    with warnings.catch_warnings():
        warnings.simplefilter("error", CleanBaselineWarning)
        Chip(tanh_net(3, 2), machine(text))
        Chip(tanh_net(3, 2), machine(text.replace("mantissa = 3", "mantissa = 0"), observable=("clean_pass",)))


def test_converters_that_were_not_calibrated_are_warned_of_once() -> None:
    model, x = networks.mlp(3, [4], 2), torch.randn(5, 3)
    chip = Chip(model, "isaac-2016")
    with pytest.warns(UncalibratedWarning, match=r"chip\.calibrate"):
        chip(x)
    calibrated, resumed = Chip(model, "isaac-2016"), Chip(model, "isaac-2016")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UncalibratedWarning)
        chip(x)
        calibrated.calibrate(x)
        calibrated(x)
        resumed.load_state(calibrated.state())
        resumed.passes(x, _plan(2))


@pytest.mark.parametrize("profile", ["gaussian-node", PCM, "ecram-mo-kim-2019"])
def test_learning_with_weights_that_are_not_on_the_devices_is_warned_of(profile: str) -> None:
    """Once; not where they were written, nor after a state was loaded, nor by looks at the chip."""
    model = networks.mlp(8, (4,), 3, seed=0)
    chip, x, rule = Chip(model, profile, seed=0), torch.randn(5, 8), ANP(baseline="noisy")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

    def learn() -> None:
        rule.estimate(chip, x, lambda output: output.square().sum(1))
        optimizer.step()

    with warnings.catch_warnings():
        warnings.simplefilter("error", UnprogrammedWarning)
        for _ in range(3):
            learn()
            chip.program()
        state, weights = chip.state(), model.state_dict()
        other = Chip(networks.mlp(8, (4,), 3, seed=1), profile, seed=0)
        other.load_state(state)
        other.model.load_state_dict(weights)
        rule.estimate(other, x, lambda output: output.square().sum(1))
        learn()
        chip(x)
    with pytest.warns(UnprogrammedWarning, match=r"call chip.program\(\) after every optimizer step"):
        learn()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnprogrammedWarning)
        learn()


def test_what_is_no_chip_and_what_is_no_loss() -> None:
    """Mistakes of a first program: one line each."""
    model, x = networks.mlp(8, (4,), 3, seed=0), torch.randn(5, 8)
    with pytest.raises(UserError, match=r"learns on a chip, not on a model: place it with nl.Chip\(model, profile\)"):
        ANP(baseline="noisy").estimate(model, x, lambda output: output.square().sum(1))
    for loss in (nn.functional.cross_entropy, nn.CrossEntropyLoss(reduction="none"), lambda y, t: y):
        with pytest.raises(UserError, match=r"the loss cannot be called with the outputs alone .*lambda y: loss"):
            ANP(baseline="noisy").estimate(Chip(model, "gaussian-node"), x, loss)
    with pytest.raises(UserError, match="the loss is the class MSELoss: give a function, outputs -> loss"):
        ANP(baseline="noisy").estimate(Chip(model, "gaussian-node"), x, nn.MSELoss)
    with pytest.raises(UserError, match="the loss is a function, outputs -> loss of every sample"):
        ANP(baseline="noisy").estimate(Chip(model, "gaussian-node"), x, model(x).square().sum(1))
    with pytest.raises(UserError, match="seed a: give a whole number"):
        Chip(model, "gaussian-node", seed="a")
