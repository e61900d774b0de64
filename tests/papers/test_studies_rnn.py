"""What the studies of [RNN] compute themselves."""

import math

import numpy as np
import pytest
import torch

from noisylearn import tasks
from noisylearn.experiments.build import build_setup
from noisylearn.experiments.config import resolve
from noisylearn.experiments.trainer import Trainer
from noisylearn.papers.harness.rule_pieces import injected
from noisylearn.papers.studies.rnn_copying import Protocol
from noisylearn.papers.studies.rnn_decorrelation import NO_RATE
from noisylearn.papers.studies.shared.recurrent import SIGMA, far_above, lower, name_of, near, recurrent_piece
from noisylearn.tasks.copying import CopyingTask

ERRORS = {
    "anp": np.array([0.1, 0.3]), "np": np.array([0.4, 0.4]), "wp": np.array([]), "tbptt1": np.array([0.2])
}  # fmt: skip


def test_best_guess_without_memory_is_that_of_the_task() -> None:
    protocol = Protocol("copying", 7, 1, epochs=1, last=1, rules=())
    task = tasks.load("copying", seq_len=7)
    assert isinstance(task, CopyingTask)
    assert math.isclose(protocol.memoryless, task.memoryless_mse)


def test_order_of_errors() -> None:
    assert lower("anp", "np", ERRORS).holds
    assert not lower("np", "anp", ERRORS).holds


def test_a_rule_whose_runs_all_ran_away_loses() -> None:
    assert lower("anp", "wp", ERRORS).holds
    assert not lower("wp", "anp", ERRORS).holds
    assert far_above("wp", "anp", ERRORS).holds
    assert not far_above("anp", "wp", ERRORS).holds
    assert not near("wp", "tbptt1", ERRORS).holds
    assert not near("anp", "wp", ERRORS).holds


@pytest.mark.parametrize(("factor", "is_near"), [(1.0, True), (0.9, False)])
def test_near_is_a_factor_of_the_mean(factor: float, is_near: bool) -> None:
    assert near("anp", "tbptt1", ERRORS, factor).holds == is_near
    assert far_above("anp", "tbptt1", ERRORS, factor).holds != is_near


def test_backprop_says_which_one_it_is() -> None:
    assert "BP" in name_of("tbptt1")
    assert name_of("tbptt1") != name_of("bptt")
    assert name_of("danp") == "DANP"


def test_noise_on_weights_has_the_variance_of_the_paper() -> None:
    (effect,) = injected(SIGMA, into="weight").calibration.effects
    assert math.isclose(effect.sigma**2, 1e-2)  # type: ignore[attr-defined]


def test_rules_learn_by_gradient_descent_and_backprop_by_adam() -> None:
    for rule, optimizer in (("danp", "sgd"), ("wp", "sgd"), ("tbptt1", "adam"), ("bptt", "adam")):
        (config,) = recurrent_piece(rule, "mackey-glass", rule, [0], {"hidden": (5,)}).settings["configs"]
        assert config.get("optimizer", "adam") == optimizer


def test_the_smallest_decorrelation_rate_leaves_the_identity_and_measures_the_loss() -> None:
    profile = injected(SIGMA, into="weight")
    options = {"hidden": (6,), "seq_len": 3, "batch": 1, "epochs": 1, "update": "online", "decorrelation_rate": NO_RATE}
    config, _ = resolve("copying-fixed", "dwp", profile, options)
    training = Trainer(build_setup(config, profile, tasks.load("copying-fixed", seq_len=3)))
    training.step()
    decorrelation = training.model.get_submodule("decorrelation1")
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(decorrelation(x), x)
    assert decorrelation.covariance_loss > 0  # type: ignore[operator]
