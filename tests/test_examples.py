"""The examples run, cut to a size that takes seconds."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support.small_runs import small_task

from noisylearn import tasks

EXAMPLES = Path(__file__).parent.parent / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_asymmetric_devices(tmp_path, monkeypatch, capsys):
    """Every contender on 200 samples; the plot is drawn for every device."""
    monkeypatch.setattr(tasks, "load", small_task)
    example = load("asymmetric_devices")
    options = ["--seeds", "1", "--epochs", "1", "--devices", "ecram-mo-kim-2019", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["asymmetric_devices.py", *options])
    example.main()
    printed = capsys.readouterr().out
    for part in ("in all", "forgotten after: 2.42", "anp, auxiliary array", "danp, accumulated", "bp, as published"):
        assert part in printed
    assert len(list(tmp_path.glob("*.h5"))) == len(example.CONTENDERS)
    assert (tmp_path / "ecram-mo-kim-2019.png").stat().st_size > 10_000


@pytest.mark.slow
def test_loihi_training(monkeypatch):
    """Floats and integers on 200 samples of two epochs: both come down, and the integers say what was clipped."""
    example = load("loihi_training")
    task = example.digits.load()
    small = replace(task, train_inputs=task.train_inputs[:200], train_targets=task.train_targets[:200])
    monkeypatch.setattr(example.digits, "load", lambda held_out="test": small)
    for name in ("float, torch", "per-synapse", "per-synapse, weights of 12 bits"):
        found = example.run(name, 3e-3, 2, 0, "test")
        assert found.losses[1] < found.losses[0]
        assert found.loss < 2.4
        assert found.saturated or name == "float, torch"


@pytest.mark.slow
def test_finetune_pretrained():
    """On a few images: placing costs little, and every rule learns the new digits better than chance."""
    found = dict(load("finetune_pretrained").run(epochs=1, pretrain_epochs=5, samples=800))
    assert found["digits 0 to 4, in float"] > 0.8
    assert found["digits 0 to 4, placed"] > found["digits 0 to 4, in float"] - 0.2
    assert found["all digits, learned feedback"] > found["all digits, readout new"] + 0.2
    assert found["all digits, backprop in the loop"] > found["all digits, readout new"] + 0.2


@pytest.mark.slow
def test_own_network(tmp_path):
    """Few images: both rules learn better than chance, and the finished runs are read again."""
    example = load("own_network")
    first = dict(example.run(epochs=3, samples=1700, out=tmp_path))
    assert first["BP"] > 0.3
    assert dict(example.run(epochs=3, samples=1700, out=tmp_path)).keys() == first.keys()
    assert len(list(tmp_path.glob("shifted-digits-*.h5"))) == 2
