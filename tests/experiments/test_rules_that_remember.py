"""Trainings by rules with a state: a resumed one is the one that was not interrupted, bit for bit."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support.small_runs import GAUSSIAN, PCM, same, small_task

from noisylearn.experiments.build import build_setup
from noisylearn.experiments.config import TrainConfig
from noisylearn.experiments.trainer import Trainer
from noisylearn.ground.errors import UserError
from noisylearn.profiles import load_profile
from noisylearn.tasks import Task

IN_TIME: dict[str, Any] = {"task": "copying", "network": "rnn", "activation": "tanh", "batch": 40, "seq_len": 3}


def short_task(name: str) -> Task:
    """Of sequences the last twelve steps."""
    task = small_task(name)
    if not task.description.in_time:
        return task
    parts = ("train_inputs", "train_targets", "test_inputs", "test_targets")
    return replace(task, **{part: getattr(task, part)[:, -12:] for part in parts})


def as_read(tree: Any) -> Any:
    """A tree as it comes back from a file: lists are arrays there."""
    if isinstance(tree, dict):
        return {key: as_read(value) for key, value in tree.items()}
    return np.asarray(tree) if isinstance(tree, list) else tree


@pytest.mark.parametrize(
    ("rule", "profile", "options"),
    [
        ("nrl", "gaussian-node", {}),
        ("nrl", PCM, {"baseline": "mean", "draws": 2, "readout": "delta"}),
        ("oua", "gaussian-node", {"reversion": 0.1}),
        ("oua", PCM, {"draws": 2}),
        ("spsa", "gaussian-node", {"directions": "gaussian"}),
        ("spsa", PCM, {"epsilon": 0.1, "decorrelation_rate": 1e-3}),
        ("fg", "gaussian-node", {"draws": 2}),
        ("fg", PCM, {"perturb": "weight"}),
        ("lf", PCM, {"baseline": "noisy"}),
        ("lf", "reram-hfo2-gong-2022", {"baseline": "noisy", "warm_up": 2}),
        ("lf", PCM, {**IN_TIME, "update": "online", "horizon": 3, "baseline": "noisy"}),
        ("lf", PCM, {**IN_TIME, "baseline": "noisy"}),
        ("lf", PCM, {"route": "direct", "baseline": "noisy"}),
        ("lf", "gaussian-node", {"route": "direct", "regression": "lms", "decorrelation_rate": 1e-3}),
        ("np", "gaussian-node", {"control_variate": "error"}),
        ("anp", PCM, {"control_variate": "loss", "baseline": "mean", "draws": 2}),
    ],
    ids=str,
)
def test_a_resumed_training_is_the_uninterrupted_one(rule: str, profile: str, options: dict[str, Any]) -> None:
    config = TrainConfig(**{**GAUSSIAN, "rule": rule, "profile": profile, **options})

    def trainer() -> Trainer:
        return Trainer(build_setup(config, load_profile(profile), short_task(config.task)))

    whole, first, second = trainer(), trainer(), trainer()
    for _ in range(whole.steps_per_epoch + 2):
        if whole.progress.step == whole.steps_per_epoch:
            whole.end_epoch()
        whole.step()
    for _ in range(2):
        first.step()
    second.load(as_read(first.checkpoint()))
    for _ in range(second.steps_per_epoch):
        if second.progress.step == second.steps_per_epoch:
            second.end_epoch()
        second.step()
    assert same(whole.checkpoint(), second.checkpoint()) == []
    assert not any(torch.isnan(p).any() for p in second.model.parameters())


def test_a_memory_that_is_missing_is_refused() -> None:
    config = TrainConfig(**{**GAUSSIAN, "rule": "nrl"})
    first, second = (
        Trainer(build_setup(config, load_profile("gaussian-node"), small_task(config.task))) for _ in range(2)
    )
    first.step()
    tree = first.checkpoint()
    assert tree["checkpoint"]["rule"]
    tree["checkpoint"]["rule"] = {}
    with pytest.raises(UserError, match="does not fit this run"):
        second.load(as_read(tree))


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("coefficients", lambda of: of.T),
        ("coefficients", lambda of: of[:-1]),
        ("coefficients", lambda of: of.astype(np.float64)),
        ("covariance", lambda of: of[0]),
        ("left", lambda of: of[None]),
        ("step", lambda of: of.astype(np.float32)),
        ("n_rows", lambda of: None),
        ("other", lambda of: np.zeros(3)),
    ],
)
def test_a_memory_of_another_form_is_refused(key: str, change: Callable[[Any], Any]) -> None:
    config = TrainConfig(**{**GAUSSIAN, "rule": "lf", "profile": PCM, "baseline": "noisy"})
    first, second = (Trainer(build_setup(config, load_profile(PCM), small_task(config.task))) for _ in range(2))
    first.step()
    tree = first.checkpoint()
    memory = tree["checkpoint"]["rule"]["feedback"]["readout"]
    changed = change(memory.pop(key, None))
    if changed is not None:
        memory[key] = changed
    before = second.checkpoint()["checkpoint"]
    with pytest.raises(UserError, match=r"checkpoint does not fit this run .* remove the run file"):
        second.load(as_read(tree))
    assert same(second.checkpoint()["checkpoint"], before) == []
