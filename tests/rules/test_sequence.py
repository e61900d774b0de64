"""Rules through time: against autograd, brute force, a hand-written computation, and Monte Carlo.

Budget: 1e-5 for every statistical assertion; seeds are fixed.
"""

import math
from collections.abc import Sequence
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.checks import machine, mean_agrees
from torch import Tensor, nn

from noisylearn import Chip, UserError
from noisylearn.chips.readings import Plan
from noisylearn.chips.segments import START, Segment
from noisylearn.ground.draws import Draws, RecordedDraws
from noisylearn.networks import RNN
from noisylearn.networks.decorrelation import decorrelations
from noisylearn.profiles import HardwareProfile
from noisylearn.rules import ANP, BP, BPTT, INP, NP, REINFORCE, WP, Delta, PerLayer
from noisylearn.rules.base import Rule
from noisylearn.rules.in_time import Credit, InTime
from noisylearn.rules.sequences import Sequences

pytestmark = pytest.mark.filterwarnings("ignore::noisylearn.chips.simulated.NoiseLevelWarning")  # float64 throughout
ALARM = 1e-5
T, B, N_IN, H, N_OUT = 7, 4, 2, 5, 3
QUIET = 'kind = "gaussian-node"\nsigma = 1e-4'
SHOWS = ("clean_pass", "injected_noise")


def squared(output: Tensor, target: Tensor) -> Tensor:
    return (output - target).square().sum(1)


def net(**options: object) -> RNN:
    return RNN(N_IN, H, N_OUT, seed=1, **options).double()


def sequences(steps: int = T, batch: int = B) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return tuple(torch.randn(steps, batch, n, generator=generator, dtype=torch.float64) for n in (N_IN, N_OUT))


def flat_gradient(model: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def by_hand(model: RNN, inputs: Tensor, targets: Tensor, weights: Tensor, cut: int | None = None) -> Tensor:
    """Gradient of sum_t,b weights l by a plain loop and autograd, the state cut every `cut` steps."""
    x, total = torch.zeros(inputs.shape[1], H, dtype=torch.float64), 0.0
    W, readout = model.hidden1.weight, model.readout.weight
    for t in range(len(inputs)):
        if cut is not None and t % cut == 0:
            x = x.detach()
        x = torch.tanh(inputs[t] @ W[:, :N_IN].T + x @ W[:, N_IN:].T)
        total = total + (squared(x @ readout.T, targets[t]) * weights[t]).sum()
    return torch.cat([g.flatten() for g in torch.autograd.grad(total, [W, readout])])


@pytest.mark.parametrize("cut", [None, 1, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_backprop_through_time_is_real(cut: int | None, masked: bool) -> None:
    model, (inputs, targets) = net(), sequences()
    mask = torch.ones(T, B, dtype=torch.float64)
    if masked:
        mask[:3, 0], mask[5:, 1], mask[-1, 2] = 0.0, 0.0, 0.0
    losses = BPTT(truncate=cut).run(Chip(model), inputs, targets, squared, mask=mask if masked else None)
    torch.testing.assert_close(flat_gradient(model), by_hand(model, inputs, targets, mask / mask.sum(), cut))
    assert losses.shape == (T,)


def test_the_last_output_depends_on_the_first_input() -> None:
    model, (inputs, _) = net(), sequences()
    inputs.requires_grad_()
    end, chip = START, Chip(model)
    for x in inputs:
        readings = chip.digital_pass(Segment(x[None], True, end))
        end = readings.end
    (gradient,) = torch.autograd.grad(readings.output.sum(), inputs)
    assert (gradient[0].abs() > 1e-9).all()


def test_losses_of_steps_are_means_over_the_samples_that_count() -> None:
    model, (inputs, targets) = net(), sequences()
    mask = torch.ones(T, B)
    mask[2, :3], mask[4] = 0.0, 0.0
    losses = ANP(baseline="clean").run(
        Chip(model, machine(QUIET, observable=SHOWS)), inputs, targets, squared, mask=mask
    )
    x = torch.zeros(B, H, dtype=torch.float64)
    for t in range(T):
        output, (x,) = model(inputs[t], (x,))
        found = squared(output, targets[t]).detach()
        expected = found.mean() if t not in (2, 4) else found[3] if t == 2 else torch.tensor(0.0)
        assert float(losses[t]) == pytest.approx(float(expected))


class StepwiseDraws(Draws):
    """The same numbers whether they are asked for step by step or for several steps, as more of a batch, at once."""

    def normal(self, name: tuple[str, ...], shape: tuple[int, ...], passes: Sequence[int] | None = None) -> Tensor:
        n_passes, samples, *rest = shape
        one_step = (n_passes, B, *rest)
        return torch.cat([super(StepwiseDraws, self).normal(name, one_step, passes) for _ in range(samples // B)], 1)


@pytest.mark.parametrize("credit", ["local", "sequence", "reward-to-go", "trace"])
def test_credit_is_what_its_sum_says(credit: str) -> None:
    losses = torch.rand(2, 6, 3, dtype=torch.float64)
    found = InTime(credit=credit, decay=0.7).credited(losses)
    for t in range(6):
        expected = {
            "local": losses[:, t],
            "sequence": losses.sum(1),
            "reward-to-go": losses[:, t:].sum(1),
            "trace": sum(0.7 ** (s - t) * losses[:, s] for s in range(t, 6)),
        }[credit]
        torch.testing.assert_close(found[:, t], expected)


def np_estimate(
    model: RNN, inputs: Tensor, targets: Tensor, noise: dict[str, tuple[Tensor, ...]], rule: Rule
) -> Tensor:
    """NP and ANP written out in numpy, with the noise that was drawn: one clean and one noisy trajectory."""
    W, readout = model.hidden1.weight.detach().numpy(), model.readout.weight.detach().numpy()
    u, y = inputs.numpy(), targets.numpy()
    clean = dirty = np.zeros((B, H))
    rows = []
    for t in range(T):
        pre, pre_dirty = np.concatenate([u[t], clean], 1), np.concatenate([u[t], dirty], 1)
        xi, nu = noise["hidden1"][t].numpy()[0], noise["readout"][t].numpy()[0]
        a, a_dirty = pre @ W.T, pre_dirty @ W.T + xi
        clean, dirty = np.tanh(a), np.tanh(a_dirty)
        b, b_dirty = clean @ readout.T, dirty @ readout.T + nu
        dl = ((b_dirty - y[t]) ** 2).sum(1) - ((b - y[t]) ** 2).sum(1)
        rows.append((pre, clean, a_dirty - a, b_dirty - b, xi, nu, dl))
    gradient = [np.zeros_like(W), np.zeros_like(readout)]
    for t, (pre, hidden, da, db, xi, nu, _) in enumerate(rows):
        credit = {
            "local": rows[t][6],
            "sequence": sum(r[6] for r in rows),
            "reward-to-go": sum(r[6] for r in rows[t:]),
            "trace": sum(0.9 ** (s - t) * rows[s][6] for s in range(t, T)),
        }[rule.credit]
        if rule.name == "np":
            posts, scale = (xi, nu), 1 / 1e-8
        else:
            posts, scale = (da, db), (H + N_OUT) / ((da**2).sum(1) + (db**2).sum(1))
        for into, post, before in zip(gradient, posts, (pre, hidden), strict=True):
            into += np.einsum("b,bn,bm->nm", credit * scale, post, before) / (B * T)
    return torch.cat([torch.from_numpy(g).flatten() for g in gradient])


@pytest.mark.parametrize("credit", ["local", "sequence", "reward-to-go", "trace"])
@pytest.mark.parametrize("kind", [NP, ANP])
def test_estimates_equal_a_computation_by_hand_from_the_same_draws(kind: type[Rule], credit: str) -> None:
    model, (inputs, targets) = net(), sequences()
    draws = RecordedDraws(0)
    rule = kind(credit=credit)
    rule.run(Chip(model, machine(QUIET, observable=SHOWS), draws=draws), inputs, targets, squared)
    noise = {
        name: (1e-4 * drawn[0].double()).split(B, 1)  # drawn for all steps at once
        for key, drawn in draws.record.items()
        for name in ("hidden1", "readout")
        if key[0] == name
    }
    expected = np_estimate(model, inputs, targets, noise, rule)
    torch.testing.assert_close(flat_gradient(model), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("rule", "cut"),
    [
        (NP(), 1),
        (NP(credit="sequence"), None),
        (NP(credit="reward-to-go"), None),
        (NP(baseline="noisy", credit="reward-to-go"), None),
    ],
    ids=lambda v: v.describe() if isinstance(v, Rule) else str(v),
)
def test_which_gradient_node_perturbation_estimates(rule: Rule, cut: int | None) -> None:
    """Local credit: the gradient of one step, exactly; whole sequences and what is to come: the full gradient."""
    model, (inputs, targets) = net(), sequences(6, 1)
    exact = by_hand(model, inputs, targets, torch.full((6, 1), 1 / 6, dtype=torch.float64), cut)
    other = by_hand(model, inputs, targets, torch.full((6, 1), 1 / 6, dtype=torch.float64), None if cut else 1)
    chip = Chip(model, machine(QUIET, observable=SHOWS), seed=2)
    estimates = []
    for _ in range(60):
        rule.run(chip, inputs.expand(6, 1000, N_IN), targets.expand(6, 1000, N_OUT), squared)
        estimates.append(flat_gradient(model).clone())
    found = torch.stack(estimates).numpy()
    assert mean_agrees(found, exact.numpy(), ALARM)
    assert not mean_agrees(found, other.numpy(), ALARM), "a test that could not tell the two apart"


def test_activity_based_perturbation_points_along_the_truncated_gradient() -> None:
    """[science] ANP with local credit: closer to the gradient of one step than to the full one, and good at both."""
    model, (inputs, targets) = RNN(2, 20, 3, seed=1).double(), sequences(15, 1)
    with torch.no_grad():
        model.hidden1.weight[:, 2:] *= 1.3
    cosines = []
    for cut in (1, None):
        BPTT(truncate=cut).run(Chip(model), inputs, targets, squared)
        cosines.append(flat_gradient(model).clone())
    chip, found = Chip(model, machine(QUIET, observable=SHOWS), seed=2), 0.0
    for _ in range(20):
        ANP(baseline="noisy").run(chip, inputs.expand(15, 2000, 2), targets.expand(15, 2000, 3), squared)
        found = found + flat_gradient(model)
    one, full = (float(F.cosine_similarity(found, exact, dim=0)) for exact in cosines)
    assert one > 0.85
    assert one > full + 0.03 > 0.6


RULES = [NP(), ANP(), ANP(baseline="noisy", draws=2), INP(), PerLayer(rules={"readout": Delta(), "*": ANP()})]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.describe())
def test_online_equals_sequence_where_weights_hardly_move(rule: Rule) -> None:
    """Same draws step by step; online updates are a sum over the steps, a sequence's is their mean."""
    inputs, targets = sequences()
    moved = {}
    for update, rate in (("online", 1e-7), ("sequence", 1e-7 * T)):
        options = {f: getattr(rule, f) for f in ("baseline", "draws") if hasattr(rule, f)}
        timed = (
            type(rule)(update=update, **options)
            if not isinstance(rule, PerLayer)
            else PerLayer(rules={"readout": Delta(), "*": ANP(update=update)})
        )
        model = net()
        start = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
        chip = Chip(model, machine(QUIET, observable=SHOWS), draws=StepwiseDraws(2))
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        timed.run(chip, inputs, targets, squared, optimizer)
        if update == "sequence":
            optimizer.step()
        moved[update] = torch.cat([p.detach().flatten() for p in model.parameters()]) - start
    torch.testing.assert_close(moved["online"], moved["sequence"], rtol=1e-3, atol=1e-13)


def test_weight_perturbation_online_equals_sequence_where_weights_hardly_move() -> None:
    inputs, targets = sequences()
    moved = {}
    for credit in ("local", "trace"):
        for update, rate in (("online", 1e-7), ("sequence", 1e-7 * T)):
            model = net()
            start = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
            noise = 'kind = "gaussian-weight"\nsigma = 1e-4'
            chip = Chip(model, machine(noise, observable=("clean_pass", "injected_weight_noise")), seed=2)
            optimizer = torch.optim.SGD(model.parameters(), lr=rate)
            WP(update=update, credit=credit).run(chip, inputs, targets, squared, optimizer)
            if update == "sequence":
                optimizer.step()
            moved[update] = torch.cat([p.detach().flatten() for p in model.parameters()]) - start
        torch.testing.assert_close(moved["online"], moved["sequence"], rtol=1e-3, atol=1e-13)


def test_a_trace_online_equals_a_trace_over_the_sequence() -> None:
    """decay 0.5 forgets within 11 steps, so 9 steps are all kept; without learning both are the same sum."""
    inputs, targets = sequences(9)
    found = {}
    for update in ("online", "sequence"):
        model = net()
        chip = Chip(model, machine(QUIET, observable=SHOWS), draws=StepwiseDraws(2))
        start = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-7 * (9 if update == "sequence" else 1))
        NP(credit="trace", decay=0.5, update=update).run(chip, inputs, targets, squared, optimizer)
        if update == "sequence":
            optimizer.step()
        found[update] = torch.cat([p.detach().flatten() for p in model.parameters()]) - start
    torch.testing.assert_close(found["online"], found["sequence"], rtol=1e-3, atol=1e-13)


def test_truncated_backprop_online_steps_after_every_stretch() -> None:
    model, (inputs, targets) = net(), sequences(6)
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    BPTT(truncate=2, update="online").run(Chip(model), inputs, targets, squared, optimizer)
    W, readout = (p.clone().requires_grad_() for p in before)
    x = torch.zeros(B, H, dtype=torch.float64)
    for start in (0, 2, 4):
        x, total = x.detach(), 0.0
        for t in (start, start + 1):
            x = torch.tanh(torch.cat([inputs[t], x], 1) @ W.T)
            total = total + squared(x @ readout.T, targets[t]).mean()
        grads = torch.autograd.grad(total, [W, readout])
        W, readout = ((p - 0.1 * g).detach().requires_grad_() for p, g in zip((W, readout), grads, strict=True))
    torch.testing.assert_close(model.hidden1.weight, W)
    torch.testing.assert_close(model.readout.weight, readout)


def test_the_two_passes_of_a_noisy_chip_are_two_trajectories() -> None:
    """Each with noise of its own at every step, and with the state that its own noise left."""
    model, (inputs, targets) = net(), sequences()
    draws, seen = RecordedDraws(0), []
    chip = Chip(model, machine('kind = "gaussian-node"\nsigma = 0.05', observable=SHOWS), draws=draws)

    def watching(output: Tensor, target: Tensor) -> Tensor:
        seen.append(output)
        return squared(output, target)

    ANP(baseline="noisy").run(chip, inputs, targets, watching)
    (xi,), (nu,) = (
        [0.05 * drawn[0].double() for key, drawn in draws.record.items() if key[0] == name]
        for name in ("hidden1", "readout")
    )
    for p in range(2):
        x = torch.zeros(B, H, dtype=torch.float64)
        for t, (output, step) in enumerate(zip(seen[p].split(B), inputs, strict=True)):
            x = torch.tanh(model.hidden1(torch.cat([step, x], 1)) + xi[p, t * B : (t + 1) * B])
            torch.testing.assert_close(output, model.readout(x) + nu[p, t * B : (t + 1) * B])
    assert (seen[0] - seen[1]).abs().mean() > 0.01


def test_layers_and_their_decorrelations() -> None:
    """Two hidden layers: x*_t of each feeds the next one and its own next step; R decorrelates the hidden states."""
    model = RNN(2, (4, 3), 2, decorrelation_rate=0.1, seed=0).double()
    assert [tuple(p.shape) for p in model.parameters()] == [(4, 6), (3, 7), (2, 3)]
    with torch.no_grad():
        model.decorrelation1.matrix.add_(0.1 * torch.randn(4, 4))
        model.decorrelation2.matrix.add_(0.1 * torch.randn(3, 3))
    D1, D2 = model.decorrelation1.matrix.clone(), model.decorrelation2.matrix.clone()
    inputs, targets = torch.randn(5, 6, 2).double(), torch.randn(5, 6, 2).double()
    a, b = torch.zeros(6, 4).double(), torch.zeros(6, 3).double()
    seen = [], []
    for u in inputs:
        a = torch.tanh(torch.cat([u, a], 1) @ model.hidden1.weight.T) @ D1.T
        b = torch.tanh(torch.cat([a, b], 1) @ model.hidden2.weight.T) @ D2.T
        seen[0].append(a.detach())
        seen[1].append(b.detach())
    _, state = model(inputs[0])
    for u in inputs[1:]:
        output, state = model(u, state)
    torch.testing.assert_close(output, b @ model.readout.weight.T)
    BP().run(Chip(model), inputs, targets, squared)
    for D, found, samples in ((D1, model.decorrelation1, seen[0]), (D2, model.decorrelation2, seen[1])):
        x = torch.cat(samples)
        covariance = x.T @ x / len(x)
        expected = D - 0.1 * (covariance - covariance.diag().diag()) @ D
        torch.testing.assert_close(found.matrix, expected)


@pytest.mark.parametrize("rule", [ANP(baseline="noisy"), NP(draws=2), INP(), BPTT()], ids=lambda rule: rule.name)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_a_readout_for_all_steps_at_once_is_that_of_every_step(rule: Rule, bias: bool, rate: float) -> None:
    """Somebody who watches the network makes it go step by step: the plain loop."""
    found = []
    for watched in (False, True):
        model, (inputs, targets) = net(bias=bias, decorrelation_rate=rate), sequences()
        watch = mock.Mock(return_value=None)
        if watched:
            model.register_forward_hook(watch)
        losses = rule.run(Chip(model, machine(QUIET, observable=SHOWS), seed=0), inputs, targets, squared)
        assert watch.call_count == (T if watched else 0)
        found.append((losses, flat_gradient(model), [d.matrix for d in decorrelations(model).values()]))
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-7 if rule.perturbs else 1e-14)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
def test_backward_hooks_on_the_network_see_every_step() -> None:
    model, (inputs, targets), watch = net(), sequences(), mock.Mock(return_value=None)
    model.register_full_backward_hook(watch)
    BPTT().run(Chip(model), inputs, targets, squared)
    assert watch.call_count == T


def test_a_hidden_step_that_gives_no_tensor_is_named() -> None:
    class Odd(RNN):
        def hidden(self, x: Tensor, state: Any = None) -> tuple[Any, Any]:
            return (x.new_zeros(len(x), H), x), state

        def read(self, hidden: Any) -> Tensor:
            return super().read(hidden[0])

    with pytest.raises(UserError, match=r"Odd .*hidden_t one tensor"):
        Chip(Odd(N_IN, H, N_OUT).double()).passes(Segment(sequences()[0], in_time=True), Plan(((False, False),)))


def test_a_network_with_a_forward_of_its_own_is_run_by_it() -> None:
    class Doubled(RNN):
        def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
            output, state = super().forward(x, state)
            return 2 * output, state

    inputs, _ = sequences()
    once, twice = (kind(N_IN, H, N_OUT, seed=1).double() for kind in (RNN, Doubled))
    segment, plan = Segment(inputs, in_time=True), Plan(((False, False),))
    outputs = [Chip(model).passes(segment, plan).output for model in (once, twice)]
    torch.testing.assert_close(2 * outputs[0], outputs[1])


def test_weight_noise_is_fresh_at_every_step_of_a_readout() -> None:
    """It is the same for all samples of a step, so that steps cannot be taken as more of a batch."""
    model = net()
    torch.nn.init.zeros_(model.hidden1.weight[:, N_IN:])
    chip = Chip(model, machine('kind = "gaussian-weight"\nsigma = 0.1', observable=("clean_pass",)), seed=0)
    output = chip.passes(Segment(torch.ones(2, 1, N_IN).double(), in_time=True), Plan(((False, True),))).output
    assert float((output[0, 0] - output[0, 1]).abs().min()) > 1e-3


class OwnCell(nn.Module):
    """A network of a user's own, with a dict for a state."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.out = nn.Linear(N_IN + H, H), nn.Linear(H, N_OUT)

    def forward(self, x: Tensor, state: dict[str, Tensor] | None) -> tuple[Tensor, dict[str, Tensor]]:
        h = x.new_zeros(len(x), H) if state is None else state["h"]
        h = torch.sigmoid(self.gate(torch.cat([x, h], 1)))
        return self.out(h), {"h": h}


def test_any_module_with_a_state_learns() -> None:
    torch.manual_seed(0)
    model, (inputs, _) = OwnCell().double(), sequences(20)
    targets = inputs[..., [0, 1, 0]]
    chip = Chip(model, "pcm-nandakumar-2019", seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    rule = ANP(baseline="noisy", draws=4, update="online")
    losses = [float(rule.run(chip, inputs, targets, squared, optimizer).mean()) for _ in range(15)]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"inputs": torch.zeros(4, 3)}, r"sequences as \(time, batch, features\)"),
        ({"inputs": torch.zeros(0, 3, 2)}, "at least one step"),
        ({"targets": torch.zeros(4, 4, 3)}, "both start with"),
        ({"mask": torch.zeros(7, 4)}, "no step of any sample counts"),
        ({"mask": -torch.ones(7, 4)}, "negative or not finite"),
        ({"mask": torch.full((7, 4), math.nan)}, "negative or not finite"),
        ({"mask": torch.ones(4, 7)}, r"give \(time, batch\), here \(7, 4\)"),
        ({"inputs": torch.zeros(7, 4, 3)}, "does not take steps of shape"),
        ({"rule": ANP(update="online")}, "give run"),
        ({"targets": torch.full((7, 4, 3), math.nan)}, "not finite at step 1 .*hidden1|readout"),
    ],
)
def test_bad_sequences_are_named(change: dict[str, object], says: str) -> None:
    inputs, targets = sequences()
    given = {"rule": ANP(), "inputs": inputs, "targets": targets, "mask": None} | change
    rule = given.pop("rule")
    chip = Chip(net(), machine(QUIET, observable=SHOWS))
    with pytest.raises(UserError, match=says):
        rule.run(chip, *(v.double() for v in (given["inputs"], given["targets"])), loss_fn=squared, mask=given["mask"])


def test_a_network_that_has_no_time_is_named() -> None:
    inputs, targets = sequences()
    chip = Chip(nn.Sequential(nn.Linear(N_IN, N_OUT)).double(), machine(QUIET, observable=SHOWS))
    with pytest.raises(UserError, match=r"Sequential is no network in time: it needs forward\(x_t, state\)"):
        ANP().run(chip, inputs, targets, squared)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ANP(credit="future"), "credit 'future'; choose local"),
        (lambda: ANP(update="never"), "update 'never'; choose online"),
        (lambda: NP(credit="sequence", update="online"), "needs the losses of later steps"),
        (lambda: NP(decay=1.5), "decay 1.5"),
        (lambda: BPTT(truncate=0), "whole number of steps, at least 1"),
        (lambda: BPTT(truncate=1.5), "whole number of steps, at least 1"),
        (lambda: BPTT(update="online"), "needs truncate=k"),
    ],
)
def test_contradictory_options_are_refused(make: object, says: str) -> None:
    with pytest.raises(UserError, match=says):
        make()  # type: ignore[operator]


def test_runs_are_reproducible() -> None:
    inputs, targets = sequences()
    found = []
    for _ in range(2):
        model = net()
        chip = Chip(model, "pcm-nandakumar-2019", draws=Draws(5))
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        ANP(baseline="noisy", update="online").run(chip, inputs, targets, squared, optimizer)
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*found)


# what does not go together, and what rules in one network share


def run_online(rule: Rule, profile: HardwareProfile | None = None) -> RNN:
    model, (inputs, targets) = net(), sequences()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-7)
    draws = StepwiseDraws(2) if profile is None else None
    rule.run(Chip(model, profile or machine(QUIET, observable=SHOWS), draws=draws), inputs, targets, squared, optimizer)
    return model


def test_the_delta_rule_beside_a_trace_sees_the_present_alone() -> None:
    """Its part is the exact gradient of every step, whatever the trace of the others holds."""
    beside = {
        credit: run_online(PerLayer(rules={"readout": Delta(), "*": ANP(credit=credit, update="online")}))
        for credit in ("local", "trace")
    }
    moved = {credit: model.readout.weight - net().readout.weight for credit, model in beside.items()}
    torch.testing.assert_close(moved["trace"], moved["local"], rtol=1e-4, atol=1e-14)
    inside = {credit: model.hidden1.weight - net().hidden1.weight for credit, model in beside.items()}
    assert not torch.allclose(inside["trace"], inside["local"], rtol=1e-2, atol=0)


def test_the_delta_rule_beside_weight_perturbation() -> None:
    shows = machine('kind = "gaussian-weight"\nsigma = 1e-4', observable=("clean_pass", "injected_weight_noise"))
    rule = PerLayer(rules={"readout": Delta(), "*": WP(update="online")})
    alone = PerLayer(rules={"readout": Delta(), "*": ANP(update="online")})
    moved = run_online(rule, profile=shows).readout.weight - net().readout.weight
    expected = run_online(alone).readout.weight - net().readout.weight
    torch.testing.assert_close(moved, expected, rtol=1e-3, atol=1e-12)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"readout": Delta(), "*": WP(credit="sequence")}, "wp with credit 'sequence' goes alone"),
        ({"readout": Delta(), "*": WP(credit="reward-to-go")}, "wp with credit 'reward-to-go' goes alone"),
        ({"*": WP(credit="trace")}, "wp with credit 'trace' goes alone"),
        ({"readout": NP(update="online"), "*": ANP()}, "the same credit, decay and update"),
        ({"readout": BPTT(truncate=1), "*": ANP()}, "the same credit, decay and update"),
    ],
)
def test_rules_that_do_not_share_their_way_through_time(rules: dict[str, Rule], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PerLayer(rules=rules).in_time()


def test_rules_with_passes_of_their_own_keep_traces_of_their_own() -> None:
    first, second = NP(draws=2, credit="trace", update="online"), ANP(credit="trace", update="online")
    both = PerLayer(rules={"readout": first, "*": second})
    chip, (inputs, targets) = Chip(net(), machine(QUIET, observable=SHOWS)), sequences()
    data = Sequences(inputs, targets, torch.ones(T, B).double(), squared, both.in_time())
    together, alone = both.init(chip), {"readout": first.init(chip), "hidden1": second.init(chip)}
    for _, seen in data.segments(chip):
        found, together = both.step(together, seen, ["hidden1", "readout"])
        for name, rule in (("readout", first), ("hidden1", second)):
            expected, alone[name] = rule.step(alone[name], seen, [name])
            assert torch.equal(found.gradients[name]["weight"], expected.gradients[name]["weight"])
    assert together == {}, "a trace ends with its sequence"


@pytest.mark.parametrize("credit", ["sequence", "reward-to-go", "trace"])
def test_inp_is_refused_what_has_no_variance(credit: Credit) -> None:
    with pytest.raises(UserError, match="its variance is infinite"):
        INP(credit=credit)


class _Kept:
    """A state that nothing can cut off its past."""

    def __init__(self, value: Any) -> None:
        self.value = value


def test_a_state_that_cannot_be_cut_off_is_refused() -> None:
    class Hidden(RNN):
        def forward(self, x: Any, state: Any = None) -> Any:
            y, state = super().forward(x, None if state is None else state.value)
            return y, _Kept(state)

    inputs, targets = sequences()
    chip = Chip(Hidden(N_IN, H, N_OUT).double(), machine(QUIET, observable=SHOWS))
    ANP().run(chip, inputs, targets, squared)
    with pytest.raises(UserError, match="a state of type _Kept cannot be cut off its past"):
        BPTT(truncate=1).run(chip, inputs, targets, squared)


def test_reinforce_keeps_no_trace() -> None:
    with pytest.raises(UserError, match="goes back through one pass"):
        REINFORCE(credit="trace", update="online")


@pytest.mark.parametrize("rule", [ANP(update="online"), NP(update="online", credit="trace", decay=0.5)])
def test_steps_that_do_not_count_move_nothing(rule: Rule) -> None:
    """Neither weights, although Adam has momentum, nor decorrelations; and samples that do not count teach nothing."""
    model = RNN(N_IN, H, N_OUT, decorrelation_rate=0.1).double()
    inputs, targets = sequences()
    mask = torch.ones(T, B, dtype=torch.float64)
    mask[2:] = 0.0
    mask[:, 1] = 0.0
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    chip = Chip(model, machine(QUIET, observable=SHOWS), draws=StepwiseDraws(2))
    rule.run(chip, inputs, targets, squared, optimizer, mask)
    short = RNN(N_IN, H, N_OUT, decorrelation_rate=0.1).double()
    kept = [b for b in range(B) if b != 1]
    states = short.decorrelation1.matrix.clone()
    assert not torch.equal(model.decorrelation1.matrix, states)
    assert all(int(state["step"]) == 2 for state in optimizer.state.values())
    seen = []
    model_again = RNN(N_IN, H, N_OUT, decorrelation_rate=0.1).double()
    model_again.decorrelation1.update = lambda x: seen.append(len(x))  # type: ignore[method-assign]
    chip = Chip(model_again, machine(QUIET, observable=SHOWS), draws=StepwiseDraws(2))
    rule.run(chip, inputs, targets, squared, torch.optim.SGD(model_again.parameters(), lr=1e-3), mask)
    assert seen == [len(kept)] * 2


def test_loss_of_a_step_is_the_weighted_mean() -> None:
    model, (inputs, targets) = net(), sequences()
    mask = torch.full((T, B), 0.1, dtype=torch.float64)
    losses = BPTT().run(Chip(model), inputs, targets, squared, mask=mask)
    plain = BPTT().run(Chip(net()), inputs, targets, squared)
    torch.testing.assert_close(losses, plain)


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (lambda y: y.square().sum(1), r"cannot be called with outputs and targets \(too many positional arguments\)"),
        (lambda y, t, w: y.sum(1), r"cannot be called with outputs and targets \(missing a required argument: 'w'\)"),
        (nn.MSELoss, "is the class MSELoss"),
        (None, "is a function"),
    ],
)
@pytest.mark.parametrize("rule", [ANP(baseline="noisy"), BPTT()], ids=["anp", "bptt"])
def test_a_loss_with_other_arguments_is_named(rule: Rule, loss: Any, says: str) -> None:
    inputs, targets = sequences()
    with pytest.raises(UserError, match=rf"the loss {says}.*\(outputs, targets\) -> loss of every row, such as") as one:
        rule.run(Chip(net(), machine(QUIET, observable=SHOWS)), inputs, targets, loss)
    assert "\n" not in str(one.value)


def test_an_error_within_a_loss_stays_as_it_is() -> None:
    inputs, targets = sequences()

    def wrong(output: Tensor, target: Tensor) -> Tensor:
        raise TypeError("of the loss itself")

    with pytest.raises(TypeError, match="of the loss itself"):
        BPTT().run(Chip(net(), machine(QUIET, observable=SHOWS)), inputs, targets, wrong)


def test_calls_that_do_not_fit_a_network_in_time() -> None:
    chip = Chip(RNN(2, 3, 1))
    x = torch.zeros(4, 2)
    with pytest.raises(UserError, match="a network in time goes along sequences"):
        chip(x)
    with pytest.raises(UserError, match="give sequences as"):
        chip.follow(x)
    with pytest.raises(UserError, match="at least one hidden layer"):
        RNN(2, [], 1)
    with pytest.raises(UserError, match="unknown activation 'tanhh'; did you mean tanh"):
        RNN(2, 3, 1, activation="tanhh")  # type: ignore[arg-type]


class Symbols(nn.Module):
    """Takes whole numbers, as one-hot symbols and spikes are."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = RNN(N_IN, H, N_OUT, seed=1)

    def forward(self, x: Tensor, state: Any) -> Any:
        return self.rnn(x.float(), state)


@pytest.mark.parametrize("dtype", [torch.long, torch.bool])
def test_inputs_of_whole_numbers_are_learned_from(dtype: torch.dtype) -> None:
    found = []
    inputs, targets = sequences()
    for kind in (dtype, torch.float32):
        model = Symbols()
        chip = Chip(model, machine(QUIET, observable=SHOWS))
        losses = ANP(baseline="noisy").run(chip, (inputs > 0).to(kind), targets.float(), squared)
        found.append((losses, flat_gradient(model)))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    with pytest.raises(UserError, match=rf"does not take steps of shape \(4, 2\), {dtype}: "):
        Chip(model.rnn, "ideal").follow((inputs > 0).to(dtype))
