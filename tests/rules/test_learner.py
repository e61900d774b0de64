"""Rules that remember: a running mean of the loss as baseline, through training, checkpoints and maps of rules."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from support.checks import check_continues, flat, gradients, is_unbiased, node_profile, sample_batch, tanh_net
from support.small_runs import GAUSSIAN, small_task
from torch import Tensor

from noisylearn import Chip, UserError
from noisylearn.chips.interface import AnyChip, Memory
from noisylearn.chips.readings import Plan
from noisylearn.chips.segments import as_segment
from noisylearn.experiments.build import build_setup
from noisylearn.experiments.config import TrainConfig
from noisylearn.experiments.trainer import Trainer
from noisylearn.networks.layers import parameter_gradients
from noisylearn.profiles import load_profile
from noisylearn.rules import ANP, REGISTRY, Delta, Learner, PerLayer
from noisylearn.rules.base import Rule
from noisylearn.rules.estimate import Estimate
from noisylearn.rules.observation import Observation

X, T = sample_batch(50, 3, 2)


@dataclass(frozen=True, kw_only=True)
class RunningBaseline(Rule):
    """g_l = (L - r) e_l / sigma^2, r a running mean of the loss: one noisy pass, and none to compare it with."""

    name = "running-baseline"
    title = "node perturbation with a running mean of the loss as baseline"
    equation = "g_l = (L - r) e_l / sigma^2,  r <- r + rate (mean L - r)"
    source = "Williams, Machine Learning 8, 1992"
    observes = frozenset({"loss", "input", "injected_noise"})
    stands_alone = False  # leaves the lists of rules as they are

    rate: float = 0.2

    def init(self, chip: AnyChip) -> Memory:
        return {"mean_loss": torch.zeros(())}

    def step(self, state: Memory, seen: Observation, layers: Collection[str]) -> tuple[Estimate, Memory]:
        readings, losses = seen.of(Plan(((True,) * len(seen.chip.layers),)))
        modulator = (losses[0] - state["mean_loss"])[:, None]
        found = {}
        for name in layers:
            read = readings.layers[name]
            found[name] = parameter_gradients(read.layer, read.input[0], modulator * read.noise[0] / read.node_variance)
        loss, inputs = losses[0].mean(), {name: read.input[0] for name, read in readings.layers.items()}
        mean = state["mean_loss"]
        return Estimate(loss, found, inputs), {"mean_loss": mean + self.rate * (loss - mean)}

    def forward_passes(self, n_layers: int) -> int:
        return 1


def loss_fn(output: Tensor) -> Tensor:
    return (output - T).square().sum(1)


def chip(seed: int = 0) -> Chip:
    return Chip(tanh_net(3, 4, 2), node_profile(1e-2), seed)


def test_what_a_rule_remembers_lowers_its_variance_and_leaves_it_unbiased() -> None:
    machine, estimates = chip(), {}
    x, target = X[:1].repeat(2000, 1), T[:1]

    def of_one_sample(output: Tensor) -> Tensor:
        return (output - target).square().sum(1)

    of_one_sample(machine.model(x)).mean().backward()
    exact = flat(gradients(machine.model))
    for rate in (0.0, 0.5):  # without and with a baseline
        rule, rows = RunningBaseline(rate=rate), []
        for _ in range(300):
            rule.estimate(machine, x, of_one_sample)
            rows.append(flat(gradients(machine.model)))
        estimates[rate] = np.array(rows[50:])
    assert is_unbiased(estimates[0.5], exact, false_alarm=1e-5)
    assert estimates[0.5].var(0).sum() < 0.01 * estimates[0.0].var(0).sum()


def test_the_memory_is_the_chips_and_no_other_chips() -> None:
    rule, one, other = RunningBaseline(), chip(), chip(seed=1)
    rule.estimate(one, X, loss_fn)
    seen = Learner(rule, one).state["mean_loss"]
    assert float(seen) > 0
    assert float(Learner(rule, other).state["mean_loss"]) == 0
    rule.estimate(other, X, loss_fn)
    assert torch.equal(Learner(rule, one).state["mean_loss"], seen)
    assert float(Learner(RunningBaseline(rate=0.1), one).state["mean_loss"]) == 0, "other options, another rule"


def test_a_memory_that_is_handed_on_continues_bit_for_bit() -> None:
    check_continues(RunningBaseline(), chip, X, loss_fn)


def test_looking_at_an_estimate_leaves_the_memory_alone() -> None:
    machine, rule = chip(), RunningBaseline()
    learner = Learner(rule, machine)
    learner.estimate(X, loss_fn)
    before = learner.state["mean_loss"]
    learner.look(Observation(machine, as_segment(X), loss_fn))
    assert torch.equal(learner.state["mean_loss"], before)


def test_a_step_that_runs_away_is_not_remembered() -> None:
    machine, rule = chip(), RunningBaseline()
    rule.estimate(machine, X, loss_fn)
    before = Learner(rule, machine).state["mean_loss"]
    with pytest.raises(UserError, match="not finite"):
        rule.estimate(machine, X, lambda output: output.sum(1) * torch.nan)
    assert torch.equal(Learner(rule, machine).state["mean_loss"], before)


def test_rules_in_a_map_remember_apart() -> None:
    machine = chip()
    both = PerLayer(rules={"2": RunningBaseline(rate=0.1), "*": RunningBaseline(rate=0.3)})
    both.estimate(machine, X, loss_fn)
    state = Learner(both, machine).state
    assert set(state) == {"2", "*"}
    assert float(state["*"]["mean_loss"]) == pytest.approx(3 * float(state["2"]["mean_loss"]))
    none = PerLayer(rules={"2": Delta(), "*": ANP(baseline="noisy")})
    none.estimate(machine, X, loss_fn)
    assert Learner(none, machine).state == {}


def test_a_training_saves_what_its_rule_remembers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRY, "running-baseline", RunningBaseline)
    config = TrainConfig(**{**GAUSSIAN, "rule": "running-baseline"})
    runs = [Trainer(build_setup(config, load_profile("gaussian-node"), small_task(config.task))) for _ in range(2)]
    for _ in range(4):
        runs[0].step()
    assert float(runs[0].checkpoint()["checkpoint"]["rule"]["mean_loss"]) > 0
    runs[1].step()
    resumed = Trainer(build_setup(config, load_profile("gaussian-node"), small_task(config.task)))
    resumed.load(_as_read(runs[1].checkpoint()))
    for _ in range(3):
        resumed.step()
    for one, other in zip(runs[0].model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)


def _as_read(tree):
    """A tree as it comes back from a file: lists are arrays there."""
    if isinstance(tree, dict):
        return {key: _as_read(value) for key, value in tree.items()}
    return np.asarray(tree) if isinstance(tree, list) else tree


def test_a_machine_that_shows_a_scalar_alone_refuses_what_needs_the_error() -> None:
    profile = load_profile("gaussian-node").model_copy(update={"schema_version": 2, "name": "scalar-alone"})
    assert "error" in load_profile("gaussian-node").shown, "version 1 took it for granted"
    machine = Chip(tanh_net(3, 4, 2), profile)
    with pytest.raises(UserError, match=r"scalar-alone.*needs the error at the output.*rules that work there: .*NP"):
        PerLayer(rules={"2": Delta(), "*": ANP()}).estimate(machine, X, loss_fn)
    ANP().estimate(machine, X, loss_fn)
