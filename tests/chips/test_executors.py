"""The seam of executors: another one takes the place of the package's own; passes may be nested, and run in threads.

Budget: 1e-5 for every statistical assertion; seeds are fixed.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from support.checks import moments_agree, node_profile, sample_batch, tanh_net
from torch import Tensor, nn

from noisylearn import Chip, OwnChip, UserError
from noisylearn.chips.interface import Placed
from noisylearn.chips.readings import LayerReading, Plan, Readings
from noisylearn.chips.segments import Segment
from noisylearn.ground.draws import Draws
from noisylearn.networks import RNN
from noisylearn.rules import ANP, NP
from noisylearn.rules.traces import TRACED

X, T = sample_batch(6, 3, 2)
ALARM = 1e-5


class OneAfterTheOther:
    """Runs single samples pass by pass with plain forward hooks, as a bench without a stack would."""

    def __init__(self, model: nn.Module, draws: Draws, others: Mapping[nn.Module, Callable[..., Any]]) -> None:
        self._model, self._draws = model, draws

    def run(self, placed: Placed, segment: Segment, plan: Plan, purpose: str) -> Readings:
        assert not segment.in_time
        seen: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in placed}
        outputs = []
        for p in range(plan.n_passes):
            noisy = dict(zip(placed, plan.perturbed[p], strict=True))
            hooks = [
                layer.layer.register_forward_hook(self._read(name, layer, noisy[name], seen[name]))
                for name, layer in placed.items()
            ]
            outputs.append(self._model(segment.inputs[0]))
            for hook in hooks:
                hook.remove()
        layers = {
            name: LayerReading(layer.layer, *(torch.stack(side) for side in zip(*seen[name], strict=True)))
            for name, layer in placed.items()
        }
        return Readings(torch.stack(outputs), layers, next(reversed(layers)))

    def _read(self, name: str, layer: Any, noisy: bool, seen: list[tuple[Tensor, Tensor]]) -> Callable[..., Tensor]:
        def hook(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
            activity = layer.read(inputs[0][None], 1, "pass")[0]
            if noisy:
                sigma = layer.node_variance**0.5
                activity = activity + sigma * self._draws.normal((name, "own"), tuple(activity.shape))
            seen.append((inputs[0], activity))
            return activity

        return hook


def test_another_executor_is_one_class() -> None:
    model = tanh_net(3, 4, 2)
    own = Chip(model, node_profile(1e-2), executor=OneAfterTheOther)
    clean = Plan(((False, False),) * 2)
    torch.testing.assert_close(own.passes(X, clean).output, Chip(model, node_profile(1e-2)).passes(X, clean).output)
    noisy = own.passes(X.repeat(2000, 1), Plan(((False, False), (True, False)))).layers["0"].activity
    assert moments_agree((noisy[1] - noisy[0]).flatten().numpy(), 0.0, 1e-4, ALARM)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    losses = []
    for _ in range(60):
        losses.append(float(ANP().estimate(own, X, lambda y: (y - T).square().sum(1))))
        optimizer.step()
        own.program()
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("plan", [Plan(((False, False),)), Plan(((True, True),) * 3)], ids=["one pass", "three"])
def test_a_pass_inside_a_pass(plan: Plan) -> None:
    """A hook that looks at another chip of the same model, in the middle of a pass of this one."""
    model, found = tanh_net(3, 4, 2), []
    alone = [Chip(model, node_profile(1e-2), seed=seed).passes(X, plan).output for seed in (0, 1)]
    outer, inner = (Chip(model, node_profile(1e-2), seed=seed) for seed in (0, 1))

    def look(*_: Any) -> None:
        if not found:
            found.append(None)  # the inner pass comes by here as well
            found.append(inner.passes(X, plan).output)

    handle = model[1].register_forward_hook(look)
    output = outer.passes(X, plan).output
    handle.remove()
    assert torch.equal(output, alone[0])
    assert torch.equal(found[1], alone[1])
    assert "forward" not in vars(model[0])


def test_a_pass_that_fails_leaves_the_model_as_it_was() -> None:
    model = tanh_net(3, 4, 2)
    chip = Chip(model, node_profile(1e-2))
    handle = model[1].register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        chip.passes(X, Plan(((True, True),) * 2))
    handle.remove()
    assert not any("forward" in vars(module) for module in model)
    assert chip.passes(X, Plan(((True, True),) * 2)).output.shape == (2, 6, 2)


def test_a_forward_of_the_users_own_is_back_after_a_pass() -> None:
    model = tanh_net(3, 4, 2)
    own = model[0].forward
    model[0].forward = own
    Chip(model, node_profile(1e-2))(X)
    assert vars(model[0])["forward"] is own


def test_chips_of_one_model_in_several_threads() -> None:
    model, plan = tanh_net(3, 4, 2), Plan(((True, True),) * 2)
    expected = {seed: Chip(model, node_profile(1e-2), seed=seed).passes(X, plan).output for seed in range(4)}
    found: dict[int, list[Tensor]] = {seed: [] for seed in range(4)}

    def read(seed: int) -> None:
        for _ in range(40):
            found[seed].append(Chip(model, node_profile(1e-2), seed=seed).passes(X, plan).output)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, outputs in found.items():
        assert len(outputs) == 40, "a thread failed"
        assert all(torch.equal(output, expected[seed]) for output in outputs)
    assert not any("forward" in vars(module) for module in model)


class Bench:
    """Hardware with a network in time: its own arithmetic, and noise that somebody else recorded."""

    def __init__(self, noise: dict[str, Tensor]) -> None:
        self.noise, self.calls = noise, 0  # by layer: (passes, steps, batch, units)

    def program(self, state: Mapping[str, Tensor]) -> None:
        self.weights = {name: value.clone() for name, value in state.items()}

    def forward(self, x: Tensor) -> Any:
        raise AssertionError("a network in time goes step by step")

    def step(self, x: Tensor, state: Any) -> Any:
        n_passes = len(self.noise["readout"])
        t, p = divmod(self.calls, n_passes)
        self.calls += 1
        before = x.new_zeros(len(x), 4) if state is None else state
        entered = torch.cat([x, before], 1)
        a = entered @ self.weights["hidden1.weight"].T + self.noise["hidden1"][p, t]
        hidden = torch.tanh(a)
        y = hidden @ self.weights["readout.weight"].T + self.noise["readout"][p, t]
        return y, {"hidden1": (entered, a), "readout": (hidden, y)}, hidden


@pytest.mark.parametrize("rule", [ANP(baseline="noisy"), ANP(baseline="mean", draws=2, credit="reward-to-go")])
def test_hardware_of_ones_own_runs_sequences(rule: ANP) -> None:
    """The same noise on a simulated chip and on hardware gives the same estimate."""
    generator = torch.Generator().manual_seed(0)
    x, target = (torch.randn(5, 3, n, generator=generator, dtype=torch.float64) for n in (3, 2))
    models = [RNN(3, 4, 2, seed=1).double() for _ in range(2)]
    chip = Chip(models[0], node_profile(1e-2), seed=2)
    recorded = Chip(models[0], node_profile(1e-2), seed=2).passes(Segment(x, in_time=True), rule.plan(2))
    noise = {name: read.noise.unflatten(1, (5, 3)) for name, read in recorded.layers.items()}
    bench = OwnChip(models[1], Bench(noise))

    def squared(output: Tensor, wanted: Tensor) -> Tensor:
        return (output - wanted).square().sum(1)

    losses = [rule.run(one, x, target, squared) for one in (chip, bench)]
    torch.testing.assert_close(losses[0], losses[1])
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    bench.hardware.calls = 0
    torch.testing.assert_close(bench.follow(x).flatten(0, 1), _first_pass(models[1], x, noise))


def _first_pass(model: RNN, x: Tensor, noise: dict[str, Tensor]) -> Tensor:
    """`follow` runs one pass: its calls use the noise of passes and steps in order."""
    bench, state, outputs = Bench(noise), None, []
    bench.program(model.state_dict())
    for step in x:
        y, _, state = bench.step(step, state)
        outputs.append(y)
    return torch.cat(outputs).detach()


def test_hardware_without_steps_says_what_it_lacks() -> None:
    class Still:
        def forward(self, x: Tensor) -> Any: ...
        def program(self, state: Mapping[str, Tensor]) -> None: ...

    chip = OwnChip(RNN(3, 4, 2), Still(), name="bench 3")
    with pytest.raises(UserError, match=r"chip 'bench 3': Still has no method step\(x, state\)"):
        ANP(baseline="noisy").run(chip, torch.ones(2, 1, 3), torch.ones(2, 1, 2), lambda y, t: (y - t).sum(1))
    with pytest.raises(UserError, match="a clean pass"):
        NP().run(chip, torch.ones(2, 1, 3), torch.ones(2, 1, 2), lambda y, t: (y - t).sum(1))


CLEAN_FIRST, BOTH_NOISY, SILENT = (((False, False), (True, True)), ((True, True),) * 2, ((False, False),))


@pytest.mark.parametrize("perturbed", [CLEAN_FIRST, BOTH_NOISY, SILENT])
@pytest.mark.parametrize(("units", "bias"), [(16, False), (16, True), (7, False)])
def test_a_layer_that_takes_all_steps_gives_the_bits_of_calls_of_the_network(
    perturbed: tuple[tuple[bool, ...], ...], units: int, bias: bool
) -> None:
    """A hook makes the network be called for every step. Seven units are not aligned in memory."""
    called: list[int] = []
    chips = [Chip(RNN(3, units, 2, bias=bias), node_profile(0.03), seed=1) for _ in range(2)]
    chips[1].model.activation.register_forward_hook(lambda *_: called.append(1))  # type: ignore[union-attr]
    x = torch.randn(10, 4, 3, generator=torch.Generator().manual_seed(1))
    starts = [Segment(x[:6], in_time=True)] * 2
    for _ in range(2):
        found, expected = (chip.passes(start, Plan(perturbed)) for chip, start in zip(chips, starts, strict=True))
        assert torch.equal(found.output, expected.output)
        for name, layer in expected.layers.items():
            for one, other in ((getattr(found.layers[name], key), getattr(layer, key)) for key in TRACED):
                assert one is other is None or torch.equal(one, other)
        starts = [Segment(x[6:], True, readings.end) for readings in (found, expected)]
    assert len(called) == 10, "the hook did not run at every step"


@pytest.mark.parametrize(
    "make", [lambda: RNN(3, 16, 2), lambda: RNN(3, (16, 16), 2), lambda: tanh_net(3, 16, 2).float()]
)
def test_readings_are_apart_from_each_other_and_from_those_of_the_next_passes(make: Callable[[], nn.Module]) -> None:
    model, x = make(), torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(1))
    chip, given = Chip(model, node_profile(0.03), seed=1), Segment(x, True) if isinstance(model, RNN) else x[0]
    plan = Plan(((True,) * len(chip.layers),) * 2)
    kept = chip.passes(given, plan)
    tensors = [kept.output, *(getattr(layer, key) for layer in kept.layers.values() for key in TRACED)]
    before = [tensor.clone() for tensor in tensors]
    for layer in kept.layers.values():
        torch.testing.assert_close(layer.activity - layer.noise, _product(layer), rtol=1e-4, atol=1e-6)
    chip.passes(given, plan)
    assert all(torch.equal(one, other) for one, other in zip(before, tensors, strict=True))


def test_noise_that_fits_no_rows_of_a_layer_is_refused() -> None:
    """With a batch of one it would broadcast."""
    layer = nn.Linear(4, 5)
    model = nn.Sequential(nn.Unflatten(1, (2, 4)), nn.Flatten(0, 1), layer, nn.Unflatten(0, (-1, 2)), nn.Flatten(1))
    with pytest.raises(UserError, match="does not take an input of shape"):
        Chip(model, node_profile(0.03)).passes(torch.randn(1, 8), Plan(((True,),) * 2))


def test_noise_is_zero_in_a_pass_without_and_read_when_it_is_asked_for() -> None:
    chip, x = Chip(tanh_net(3, 16, 2), node_profile(0.03), seed=1), torch.randn(4, 3, dtype=torch.float64)
    layers = chip.passes(x, Plan(CLEAN_FIRST)).layers
    for layer in layers.values():
        assert layer.noise is not None
        assert layer.noise is layer.noise
        assert not layer.noise[0].any()
        torch.testing.assert_close(layer.activity - layer.noise, _product(layer))
    chip = Chip(tanh_net(3, 16, 2), "pcm-nandakumar-2019")
    assert all(layer.noise is None for layer in chip.passes(x, Plan(BOTH_NOISY)).layers.values())


def _product(layer: LayerReading) -> Tensor:
    return nn.functional.linear(layer.input, layer.layer.weight, layer.layer.bias).expand_as(layer.activity).detach()
