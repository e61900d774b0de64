"""What holds of every rule, as checks that take one and raise AssertionError: also one of a user's own.

`cases()` are those of the registry, each with all of its options; tests/rules/test_generic.py runs them. What a rule
declares (`unbiased`, `scale_free`) is checked both ways: a claim has to hold, and what is not claimed must not.

    from support.rule_checks import CHECKS
    for check, options_of in CHECKS.items():
        for rule in options_of(MyRule):
            check(rule)

Networks are tanh in float64 with sigma = 1e-3: the bias by nonlinearity is of relative order sigma^2 = 1e-6, far below
what is resolved. Seeds are fixed; a statistical assertion may raise a false alarm with probability 2e-4.
"""

import dataclasses
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, get_origin, get_type_hints

import numpy as np
import torch
from scipy import stats
from support.checks import (
    COARSE,
    ONE_OVER_F,
    Array,
    flat,
    gradients,
    is_unbiased,
    machine,
    node_profile,
    sample_batch,
    tanh_net,
    weight_profile,
)
from torch import Tensor, nn

from noisylearn import Chip, HardwareProfile, UserError, rules
from noisylearn.backends.conformance.torch_check import with_small_noise
from noisylearn.chips.readings import Plan, Readings
from noisylearn.chips.segments import as_segment
from noisylearn.ground.draws import Draws, Name
from noisylearn.networks import RNN
from noisylearn.profiles import load_profile
from noisylearn.rules import REGISTRY, PerLayer, Rule
from noisylearn.rules.directions import OWN
from noisylearn.rules.variants import combinations, combinations_in_time, unbiased_in, values, variants

SIGMA = 1e-3
DEEP, SHALLOW = (4, 6, 5, 3), (4, 5)
BATCH, COPIES, REPEATS, WEIGHT_DRAWS = 3, 1000, 60, 100
STEPS = 4
LossFn = Callable[[Tensor], Tensor]
Check = Callable[[Rule], None]


def kinds() -> list[type[Rule]]:
    """The rules of the registry, and the one that is made of others."""
    return [*REGISTRY.values(), PerLayer]


def cases() -> Iterator[tuple[Check, Rule]]:
    """Every check with every rule that it is made for."""
    for check, options_of in CHECKS.items():
        for kind in kinds():
            rules = {_alike(check, rule): rule for rule in reversed(options_of(kind))}
            yield from ((check, rule) for rule in reversed(rules.values()))


def _alike(check: Check, rule: Rule) -> str:
    """What tells rules apart in a check: not their draws, where it takes many of its own."""
    many = rule.shares_draws and check in (check_unbiased, check_convolutions)
    return (many_draws(rule)[0] if many else rule).describe()


def net(*sizes: int) -> nn.Sequential:
    """Linear layers "hidden1", ..., "readout" with tanh between them, in float64."""
    modules = list(tanh_net(*sizes))
    names = [f"{'hidden' if i % 2 == 0 else 'tanh'}{1 + i // 2}" for i in range(len(modules) - 1)]
    return nn.Sequential(OrderedDict(zip([*names, "readout"], modules, strict=True)))


def loss_of(targets: Tensor) -> LossFn:
    return lambda output: ((output - targets) ** 2).sum(1) + output[:, 0] * output[:, 1]


def refusal(call: Callable[[], object]) -> str:
    """What a call is refused with; empty if it is not."""
    try:
        call()
    except UserError as refused:
        return str(refused)
    return ""


def injected(rule: Rule, sigma: float = SIGMA) -> HardwareProfile:
    """Noise of the kind that the rule reads out."""
    return weight_profile(sigma) if "injected_weight_noise" in rule.needs() else node_profile(sigma)


def estimate(rule: Rule, model: nn.Module, loss_fn: LossFn, x: Tensor, **options: Any) -> dict[str, Array]:
    """Gradients of one estimate, by parameter."""
    rule.estimate(Chip(model, injected(rule), **options), x, loss_fn)
    return gradients(model)


def many_draws(rule: Rule) -> tuple[Rule, int]:
    """The rule, and how often to repeat the samples of a batch; of noise that all samples share, more draws instead."""
    if rule.shares_draws:
        options: dict[str, Any] = {"draws": WEIGHT_DRAWS}
        return dataclasses.replace(rule, **options), 1
    return rule, COPIES


def updates(rule: Rule, model: nn.Module, x: Tensor, t: Tensor) -> tuple[dict[str, Array], list[dict[str, Array]]]:
    """Gradients by torch's own autograd, and REPEATS independent estimates, each the mean of many draws."""
    model.zero_grad()
    loss_of(t)(model(x)).mean().backward()
    exact = gradients(model)
    rule, copies = many_draws(with_small_noise(rule))
    chip, x, t = Chip(model, injected(rule), seed=5), x.repeat(copies, *[1] * (x.dim() - 1)), t.repeat(copies, 1)
    found = []
    for _ in range(REPEATS):
        rule.estimate(chip, x, loss_of(t))
        found.append(gradients(model))
    return exact, found


def resolution(rule: Rule) -> float:
    """Noise that a batch shares cannot have many draws in a test; 40 % still tells a factor of two."""
    return 0.4 if rule.shares_draws else 0.1


def biased_layers(rule: Rule, sizes: tuple[int, ...]) -> list[str]:
    """The layers whose mean estimate is not the gradient."""
    model = net(*sizes)
    exact, found = updates(rule, model, *sample_batch(BATCH, sizes[0], sizes[-1]))
    layers = [name for name, _ in model.named_children() if hasattr(_, "weight")]
    samples = {layer: np.stack([flat(one, layer) for one in found]) for layer in layers}
    return [n for n in layers if not is_unbiased(samples[n], flat(exact, n), resolution=resolution(rule))]


def check_unbiased(rule: Rule) -> None:
    """The mean estimate is the gradient in the networks that the rule declares, and in no others."""
    claim = unbiased_in(rule)
    if biased := biased_layers(rule, SHALLOW):
        assert claim == "none", f"declared unbiased in {claim}, but is biased in one layer: {biased}"
    else:
        assert claim != "none", "is unbiased in one layer: declare it"
    if biased := biased_layers(rule, DEEP):
        assert claim != "deep", f"declared unbiased in deep networks, but is biased in {biased}"
    else:
        assert claim == "deep", f"declared unbiased in {claim}, but is unbiased in a deep network: declare it"


def check_scale_free(rule: Rule) -> None:
    """Noise twice as large as the profile says: the same estimate where the rule declares so, and another elsewhere.

    In a linear network with a linear loss everything that is measured grows with the noise alike.
    """

    class Loud(Draws):
        def normal(self, name: Name, shape: tuple[int, ...], passes: Sequence[int] | None = None) -> Tensor:
            return (1 if name[0] == OWN else 2) * super().normal(name, shape, passes)

    model = nn.Sequential(OrderedDict(hidden1=nn.Linear(3, 4), readout=nn.Linear(4, 2))).double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.linspace(-1, 1, p.numel()).reshape(p.shape))
    x = sample_batch(BATCH, 3, 2)[0]
    stated, loud = (estimate(rule, model, lambda y: y.sum(1), x, draws=draws(3)) for draws in (Draws, Loud))
    same = all(np.allclose(loud[n], stated[n], rtol=0, atol=0.03 * np.abs(stated[n]).max()) for n in stated)
    declared = all(part.scale_free for part in rule.parts())
    assert same == declared, f"scale_free = {declared}, but the estimate is {'the same' if same else 'another'}"


def check_zero_where_nothing_moves(rule: Rule) -> None:
    """Zero, and not nan: where the loss does not depend on the output, and where noise perturbs nothing."""
    model, (x, t) = net(3, 4, 2), sample_batch(BATCH, 3, 2)
    assert all((g == 0).all() for g in estimate(rule, model, lambda y: 0 * y.sum(1), x).values())
    silent = machine(ONE_OVER_F, devices=True)  # weights of zero have no read noise
    if rule.missing(silent) or not all(part.perturbs for part in rule.parts()):
        return
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    rule.estimate(Chip(model, silent), x, loss_of(t))
    if "error" in rule.needs():  # the readout learns without noise
        assert all(np.isfinite(g).all() for g in gradients(model).values())
    else:
        assert all((g == 0).all() for g in gradients(model).values())


class SameForAllSamples(Draws):
    """Node noise, and what a rule draws for itself at nodes, that is the same for every sample of a batch."""

    def normal(self, name: Name, shape: tuple[int, ...], passes: Sequence[int] | None = None) -> Tensor:
        if name[0] == OWN and shape[0] in (1, BATCH):
            return super().normal(name, (1, *shape[1:])).expand(shape)
        if "gaussian-node" not in name:
            return super().normal(name, shape, passes)
        n_passes, _, *rest = shape
        return super().normal(name, (n_passes, 1, *rest), passes).expand(shape)


def check_batch_mean(rule: Rule) -> None:
    """The estimate of a batch is the mean of those of its samples with the same noise, unless the rule pools them."""
    if any(part.pools for part in rule.parts()):
        return
    x, t = sample_batch(BATCH, 3, 2)
    batch = estimate(rule, net(3, 4, 2), loss_of(t), x, draws=SameForAllSamples(3))
    alone = [estimate(rule, net(3, 4, 2), loss_of(t[[s]]), x[[s]], draws=SameForAllSamples(3)) for s in range(BATCH)]
    for name, found in batch.items():
        np.testing.assert_allclose(found, np.mean([one[name] for one in alone], 0), rtol=1e-6, atol=1e-9, err_msg=name)


def check_frozen_parameters(rule: Rule) -> None:
    """Frozen parameters get no gradient, all others do."""
    model, (x, t) = net(3, 4, 2), sample_batch(BATCH, 3, 2)
    model.hidden1.weight.requires_grad_(False)
    assert set(estimate(rule, model, loss_of(t), x)) == {"hidden1.bias", "readout.weight", "readout.bias"}


def check_convolutions(rule: Rule) -> None:
    """In a convolutional network the mean estimate is the gradient, or closer to it than 45 degrees."""
    torch.manual_seed(0)
    model = nn.Sequential(
        OrderedDict(conv1=nn.Conv2d(1, 2, 2, stride=2), tanh=nn.Tanh(), flat=nn.Flatten(), readout=nn.Linear(8, 2))
    ).double()
    x = torch.randn(BATCH, 1, 4, 4, dtype=torch.float64)
    exact, found = updates(rule, model, x, sample_batch(BATCH, 1, 2)[1])
    for layer in ("conv1", "readout"):
        samples, expected = np.stack([flat(one, layer) for one in found]), flat(exact, layer)
        if unbiased_in(rule) == "deep":
            assert is_unbiased(samples, expected, resolution=max(0.2, resolution(rule))), f"layer {layer}"
        else:
            assert _cosine(samples.mean(0), expected) > math.sqrt(0.5), f"layer {layer}"


def check_along_sequences(rule: Rule) -> None:
    """Along sequences the mean estimate is the gradient that its credit says, or closer to it than 60 degrees.

    The gradient that crosses from one step to the one before is kept as a share: none with local credit, all with the
    losses of the whole sequence, a decay each time with a trace; autograd goes back to where the state was cut off.
    """
    model, (kept, cut) = RNN(2, 5, 3, seed=1).double(), _gradient_through_time(rule)
    generator = torch.Generator().manual_seed(3)
    inputs, targets = (torch.randn(STEPS, 1, n, generator=generator, dtype=torch.float64) for n in (2, 3))
    exact = _through_time(model, inputs, targets, kept, cut)
    other = _through_time(model, inputs, targets, 0.0 if kept > 0.5 and cut != 1 else 1.0, None)
    found = _runs(rule, model, inputs, targets)
    if unbiased_in(rule) != "deep":
        assert _cosine(found.mean(0), exact) > 0.5
        return
    if np.ptp(found, 0).max() <= 1e-6 * np.abs(exact).max():  # without noise
        np.testing.assert_allclose(found[0], exact, rtol=0, atol=1e-6 * np.abs(exact).max())
        return
    assert is_unbiased(found, exact, resolution=resolution(rule))
    way = other - exact  # where the two can be told apart best
    along = (found - exact) @ way / (way @ way)
    error = stats.t.ppf(1 - 1e-4, REPEATS - 1) * along.std(ddof=1) / math.sqrt(REPEATS)
    assert abs(along.mean() - 1) > error, "too few draws to tell one credit from another"
    assert abs(along.mean()) <= error, "another credit than it says"


def _gradient_through_time(rule: Rule) -> tuple[float, int | None]:
    """(share that every step back keeps, steps after which the state is cut off its past)."""
    time = rule.in_time()
    if rule.backward_passes():
        return 1.0, (time.truncate or 1) if time.update == "online" else time.truncate
    return {"local": 0.0, "trace": time.decay}.get(time.credit, 1.0), None


def _through_time(model: RNN, inputs: Tensor, targets: Tensor, kept: float, cut: int | None) -> Array:
    """Gradient of the mean loss over the steps by a plain loop and autograd."""
    x, total = torch.zeros(1, 5, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    W, readout = model.hidden1.weight, model.readout.weight
    for t in range(len(inputs)):
        share = 0.0 if cut is not None and t % cut == 0 else kept
        x = share * x + (1 - share) * x.detach()
        x = torch.tanh(torch.cat([inputs[t], x], 1) @ W.T)
        total = total + loss_of(targets[t])(x @ readout.T).mean() / len(inputs)
    return torch.cat([g.flatten() for g in torch.autograd.grad(total, [W, readout])]).numpy()


def _runs(rule: Rule, model: RNN, inputs: Tensor, targets: Tensor) -> Array:
    """Estimates (repeats, entries) of the gradient of the mean loss; of online updates from how far weights moved."""
    rule, copies = many_draws(with_small_noise(rule))
    rate, online = 1e-8, rule.in_time().update == "online"
    chip, start = Chip(model, injected(rule, 1e-4), seed=2), [p.detach().clone() for p in model.parameters()]
    optimizer, found = torch.optim.SGD(model.parameters(), lr=rate), []

    def step_loss(output: Tensor, target: Tensor) -> Tensor:
        return loss_of(target)(output)

    for _ in range(REPEATS):
        rule.run(chip, inputs.repeat(1, copies, 1), targets.repeat(1, copies, 1), step_loss, optimizer)
        moved = [(b - p.detach()) / (rate * STEPS) for p, b in zip(model.parameters(), start, strict=True)]
        found.append(
            torch.cat([part.flatten() for part in (moved if online else [p.grad for p in model.parameters()])])
        )
        with torch.no_grad():
            for p, b in zip(model.parameters(), start, strict=True):
                p.copy_(b)
        chip.program()
    return torch.stack(found).numpy()


def check_describes_itself(rule: Rule) -> None:
    """What `describe` writes is the rule."""
    assert eval(rule.describe(), vars(rules) | {type(rule).__name__: type(rule)}) == rule


class CountedPasses(Chip):
    """A chip that counts the passes on it or its digital model; one through what was read is a derivative of those."""

    counted = 0

    def passes(self, x: Any, plan: Plan, purpose: str = "pass") -> Readings:
        self.counted += plan.n_passes
        return super().passes(x, plan, purpose)

    def digital_pass(self, x: Any, on_devices: bool = False, through: Any = None) -> Readings:
        self.counted += as_segment(x).batch // BATCH if through is None else 0
        return super().digital_pass(x, on_devices, through)


def check_counts_its_passes(rule: Rule) -> None:
    """As many passes as it says, once it has begun."""
    (x, t), chip = sample_batch(BATCH, 3, 2), CountedPasses(net(3, 4, 2), injected(rule))
    rule.estimate(chip, x, loss_of(t))
    chip.counted = 0
    rule.estimate(chip, x, loss_of(t))
    assert chip.counted == rule.forward_passes(2)


def check_refuses_options(rule: Rule) -> None:
    """An unknown word is refused in one line that shows it."""
    hints = get_type_hints(type(rule))
    for field in dataclasses.fields(rule):
        if get_origin(hints[field.name]) is not Literal:
            continue
        said = refusal(lambda name=field.name: dataclasses.replace(rule, **{name: "no-such-word"}))
        assert "no-such-word" in said, f"{field.name}='no-such-word' was accepted"
        assert "\n" not in said


def check_on_profile(rule: Rule, name: str) -> None:
    """It runs on a packaged profile, or is refused with the reason and what works there."""
    model, profile = net(3, 4, 2).float(), load_profile(name)
    x, t = (part.float() for part in sample_batch(BATCH, 3, 2))
    lacking = rule.missing(profile)
    if not lacking:
        loss = rule.estimate(Chip(model, profile), x, loss_of(t))
        assert torch.isfinite(loss)
        assert set(gradients(model)) == {n for n, _ in model.named_parameters()}
        assert all(np.isfinite(g).all() for g in gradients(model).values())
        assert name in COARSE or any(np.abs(g).max() > 0 for g in gradients(model).values())
        return
    message = refusal(lambda: rule.estimate(Chip(model, profile), x, loss_of(t)))
    assert "\n" not in message
    assert name in message
    assert lacking[0] in message
    assert gradients(model) == {}, "a refused rule must leave the gradients alone"
    names, code = message.split("rules that work there: ")[1].split("; in Python ")
    working = eval(f"[{code}]", vars(rules))  # what a user would write
    assert [remedy.name for remedy in working] == names.split(", ")
    for remedy in working:
        remedy.estimate(Chip(model, profile), x, loss_of(t))


def _cosine(one: Array, other: Array) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def _default(kind: type[Rule]) -> list[Rule]:
    return [kind(**{name: of_name[0] for name, of_name in values(kind).items()})]


CHECKS: dict[Check, Callable[[type[Rule]], list[Rule]]] = {
    check_unbiased: combinations,
    check_scale_free: variants,
    check_zero_where_nothing_moves: combinations,
    check_batch_mean: combinations,
    check_frozen_parameters: variants,
    check_convolutions: variants,
    check_along_sequences: combinations_in_time,
    check_describes_itself: combinations,
    check_counts_its_passes: combinations,
    check_refuses_options: _default,
}
