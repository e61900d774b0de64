"""`nl.train` and `nl.compare` do what the commands of these names do."""

import json
import signal
import statistics
from pathlib import Path

import pytest
from support.small_runs import in_child, signalled, small_task

import noisylearn as nl
from noisylearn import tasks
from noisylearn.experiments.config import resolve

SMALL = {"hidden": (8,), "batch": 40, "epochs": 1}


@pytest.fixture(autouse=True)
def _small(monkeypatch, tmp_path):
    monkeypatch.setattr(tasks, "load", small_task)
    monkeypatch.chdir(tmp_path)


def test_train_is_the_command(run, tmp_path):
    """The same file, with the same settings of the recipe, which the command then finds finished."""
    file = nl.train("mnist-sample", "danp", "pcm-nandakumar-2019", seed=3, **SMALL)
    config = resolve("mnist-sample", "danp", nl.load_profile("pcm-nandakumar-2019"), {**SMALL, "seed": 3})[0]
    assert json.loads(file.read()["config"]) == config.model_dump(mode="json")
    assert nl.train("mnist-sample", "danp", "pcm-nandakumar-2019", seed=3, **SMALL).path == file.path
    arguments = (
        "--task mnist-sample --rule danp --profile pcm-nandakumar-2019 --seed 3 --hidden 8 --batch 40 --epochs 1"
    )
    said = run("train", *arguments.split())[1]
    assert "the run was finished before" in said
    assert [path.name for path in (tmp_path / "runs").glob("*.h5")] == [file.path.name]


def test_compare_gives_rows_over_the_seeds():
    rows = nl.compare("mnist-sample", ["anp", "np"], ["gaussian-node", "ideal"], seeds=[0, 1], lr=1e-3, **SMALL)
    assert [(row.rule, row.profile, len(row.runs)) for row in rows] == [
        ("anp", "gaussian-node", 2), ("np", "gaussian-node", 2), ("anp", "ideal", 0), ("np", "ideal", 0),
    ]  # fmt: skip
    assert rows[2].refused == "refused: needs noise that perturbs the network"
    scores = [nl.train("mnist-sample", "anp", seed=seed, lr=1e-3, **SMALL).read()["final"] for seed in (0, 1)]
    assert rows[0].summary()["accuracy_at_once"]["median"] == statistics.median(s["accuracy_at_once"] for s in scores)


def test_compare_tries_rates():
    (row,) = nl.compare("mnist-sample", "anp", "gaussian-node", seeds=[0], tune_lr=[1e-3, 1e-2], **SMALL)
    assert [trial["lr"] for trial in row.trials] == [1e-3, 1e-2]
    assert row.settings["lr"] == min(row.trials, key=lambda trial: trial["score"])["lr"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nl.train("digits", "anp", lrr=1), "unknown key 'lrr'; did you mean lr"),
        (lambda: nl.train("digits", "bp", draws=2), "draws has no effect on rule bp"),
        (lambda: nl.train("digits", "anp", "ideal"), "cannot learn on profile 'ideal'"),
        (lambda: nl.compare("digits", []), "rules is empty"),
        (lambda: nl.compare("digits", ["anp", "anp"]), "names something twice"),
    ],
)
def test_mistakes_are_one_line(call, message):
    with pytest.raises(nl.UserError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def trained():
    """A run that takes a few steps."""
    nl.train("mnist-sample", "bp", out=Path.cwd() / "runs", **SMALL)


def compared():
    """A comparison of one run."""
    nl.compare("mnist-sample", "bp", seeds=[0], **SMALL)


@pytest.mark.parametrize(("call", "again"), [(trained, "the same call"), (compared, "the same command or call")])
def test_sigterm_ends_the_process_with_a_line(call, again, tmp_path):
    assert in_child(signalled, tmp_path, signal.SIGTERM, call) == -signal.SIGTERM
    (file,) = (tmp_path / "runs").glob("*.h5")
    assert (tmp_path / "log").read_text() == (
        f"terminated; the state of step 3 is kept in {file}; {again} goes on from there\n"
    )
