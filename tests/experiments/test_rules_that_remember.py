"""Trainings by rules with a state: a resumed one is the one that was not interrupted, bit for bit."""

from typing import Any

import numpy as np
import pytest
import torch
from support.small_runs import GAUSSIAN, PCM, same, small_task

from noisylearn.experiments.config import TrainConfig
from noisylearn.experiments.trainer import Trainer
from noisylearn.profiles import load_profile

IN_TIME: dict[str, Any] = {"task": "copying", "network": "rnn", "activation": "tanh", "batch": 100, "seq_len": 3}


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
        ("lf", "gaussian-node", {"route": "direct", "regression": "lms", "decorrelation_rate": 1e-3}),
        ("np", "gaussian-node", {"control_variate": "error"}),
        ("anp", PCM, {"control_variate": "loss", "baseline": "mean", "draws": 2}),
    ],
    ids=str,
)
def test_a_resumed_training_is_the_uninterrupted_one(rule: str, profile: str, options: dict[str, Any]) -> None:
    config = TrainConfig(**{**GAUSSIAN, "rule": rule, "profile": profile, **options})

    def trainer() -> Trainer:
        return Trainer(config, load_profile(profile), small_task(config.task))

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
