"""Tasks in a file of one's own, and what goes along with a run, on the command line."""

import csv
import json
import os
import re
import signal
import sys
import warnings

import pytest
import torch
from support.small_runs import in_child, same

from noisylearn import callbacks, cli, tasks
from noisylearn.backends.lava.export import export_run
from noisylearn.experiments.run_file import RunFile
from noisylearn.experiments.run_model import trained_run
from noisylearn.ground.errors import UserError

FILE = '''
"""Blobs of three classes."""
import os
import torch
import noisylearn as nl
from beside import CLASSES

open("ran", "a").write("x")

def parts(seed=0):
    stream = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (120,), generator=stream)
    inputs = torch.randn(120, 6, generator=stream) + 2 * torch.nn.functional.one_hot(labels, 6)
    return (inputs[:100], labels[:100]), (inputs[100:], labels[100:])

def glyphs():
    """Three classes of blobs.

    More of them.
    """
    return nl.tasks.from_data("glyphs", *parts(), notes="made up")

def drawn(seed, held_out):
    return nl.tasks.from_data("drawn", *parts(seed))

ready = nl.tasks.from_data("ready", *parts(), loss=torch.nn.MultiMarginLoss)

class Raising(nl.tasks.ClassificationTask):
    def loss_fn(self, output, target):
        if os.path.exists("raise"):
            raise ValueError("no more of this")
        return super().loss_fn(output, target)

def raising():
    one = glyphs()
    return Raising(one.description, "test", one.train_inputs, one.train_targets, one.test_inputs, one.test_targets, 3)

def broken():
    return 1 / 0

def nothing():
    pass

a_number = 3
'''
BROKEN = FILE.splitlines().index("    return 1 / 0") + 1
TRAIN = ["train", "--rule", "anp", "--hidden", "5", "--batch", "20", "--epochs", "2", "--lr", "1e-2"]


@pytest.fixture(autouse=True)
def _folder(monkeypatch, tmp_path):
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FILE)
    (tmp_path / "beside.py").write_text("CLASSES = 3\n")


@pytest.fixture
def trained(run):
    """The JSON document of a training."""

    def call(task, *arguments):
        status, out, err = run(*TRAIN, "--task", task, *arguments, "--json")
        assert status == 0, err
        return json.loads(out)

    return call


def the_run(file):
    return RunFile(file).read()


@pytest.mark.parametrize("name", ["glyphs", "drawn", "ready"])
def test_a_task_of_ones_own_is_trained(name, trained, tmp_path):
    document = trained(f"mine.py:{name}")
    assert document["file"].startswith(f"runs/{name}-anp-gaussian-node-seed0-")
    assert document["config"]["task"] == f"mine.py:{name}"
    assert set(document["baselines"]) == {"chance", "majority class", "ridge readout"}
    assert document["baselines"]["chance"] == pytest.approx(1 / 3)
    assert trained(f"mine.py:{name}") == document, "it is finished"
    assert (tmp_path / "ran").read_text().count("x") <= 1, "a file is run once in a process"


def test_what_the_file_says_is_part_of_the_run(trained, tmp_path):
    one = trained("mine.py:glyphs")
    (tmp_path / "mine.py").write_text(FILE + "\n# another\n")
    assert trained("mine.py:glyphs")["id"] != one["id"]


def test_arguments_of_a_function_are_those_of_the_run(tmp_path):
    first, second = (tasks.load("mine.py:drawn", seed=seed) for seed in (0, 1))
    assert not torch.equal(first.train_inputs, second.train_inputs)
    whole, validation = tasks.load("mine.py:glyphs"), tasks.load("mine.py:glyphs", held_out="validation")
    assert (len(validation.train_inputs), len(validation.test_inputs)) == (80, 20)
    assert torch.equal(torch.cat([validation.train_inputs, validation.test_inputs]), whole.train_inputs)


def test_tasks_show(run):
    status, out, _ = run("tasks", "show", "mine.py:glyphs", "--json")
    document = json.loads(out)
    assert (status, document["title"], document["input_shape"]) == (0, "Three classes of blobs.", [6])
    assert tasks.describe("mine.py:ready").notes == "data of the user's own"


@pytest.mark.slow
def test_compare_with_workers_that_load_the_file_too(run):
    options = ["--rules", "anp,bp", "--seeds", "0", "--workers", "2", "--tune-lr", "1e-3,1e-2", *TRAIN[3:9]]
    status, out, err = run("compare", "--task", "mine.py:glyphs", *options, "--json")
    assert status == 0, err
    rows = json.loads(out)["rows"]
    assert [(row["rule"], row["refused"]) for row in rows] == [("anp", None), ("bp", None)]


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("mine.py:broken", rf"task file mine\.py, line {BROKEN}: ZeroDivisionError: division by zero"),
        ("mine.py:nothing", r"mine\.py:nothing gives NoneType, not a Task"),
        ("mine.py:a_number", r"mine\.py:a_number is of type int; a Task is needed"),
        ("mine.py:glyph", r"unknown name in mine\.py 'glyph'; did you mean glyphs"),
        ("nix.py:glyphs", r"task file nix\.py: cannot be read: No such file"),
        ("syntax.py:x", r"task file syntax\.py, line 2: SyntaxError: "),
        ("leaves.py:x", r"task file leaves\.py, line 1: SystemExit: 3"),
        ("imports.py:x", r"task file imports\.py, line 1: ModuleNotFoundError: No module named 'not_there'"),
        ("labels.py:x", r"class labels go from 1 to 3, but task x has 3 outputs; labels count from 0: subtract 1"),
        (
            "labels.py:y",
            r"class labels go from 1 to 3, but labels\.py:y has 3 outputs; labels count from 0: subtract 1",
        ),
        (
            "labels.py:z",
            r"labels\.py:z needs path, but is given any of data_dir, held_out, seed, seq_len; say a default",
        ),
        ("labels.py", r"task labels\.py: say which task in the file, labels\.py:NAME"),
        ("shapes.py:x", r"training part: 3 inputs and 2 targets"),
    ],
)
def test_a_file_that_is_wrong_is_one_line(task, message, run, tmp_path):
    (tmp_path / "syntax.py").write_text("x = 1\ny = (\n")
    (tmp_path / "leaves.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "imports.py").write_text("import not_there\n")
    (tmp_path / "labels.py").write_text(
        "import torch, noisylearn as nl\npart = torch.zeros(3, 2), torch.tensor([1, 2, 3])\n"
        "def x(): return nl.tasks.from_data('x', part, part, n_outputs=3)\n"
        "def y(): return nl.tasks.ClassificationTask(nl.tasks.Description('y', '', ''), 'test', *part, *part, 3)\n"
        "def z(path, **more): return x()\n"
    )
    (tmp_path / "shapes.py").write_text(
        "import torch, noisylearn as nl\ndef x():\n"
        "    return nl.tasks.from_data('x', (torch.zeros(3, 2), torch.zeros(2)), (torch.zeros(3, 2), torch.zeros(3)))\n"
    )
    status, out, err = run(*TRAIN, "--task", task)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("error: ")
    assert re.search(message, err), err


def test_a_task_that_raises_in_training_loses_nothing(run, trained, tmp_path):
    whole = the_run(trained("mine.py:raising", "--out", "whole")["file"])
    (tmp_path / "raise").touch()
    status, out, err = run(*TRAIN, "--task", "mine.py:raising")
    assert (status, out[:9], err.count("\n")) == (1, "recipes: ", 1)
    where = r"error: task file mine\.py, line \d+: ValueError: no more of this; the state of step 0 is kept"
    assert re.match(where, err)
    (tmp_path / "raise").unlink()
    assert same(the_run(trained("mine.py:raising", "--resume")["file"]), whole) == []


def test_a_run_file_runs_no_file(trained, tmp_path):
    file = tmp_path / trained("mine.py:glyphs")["file"]
    (tmp_path / "mine.py").write_text("raise RuntimeError('it ran')")
    assert trained_run(file).config.task == "mine.py:glyphs"
    with pytest.raises(
        UserError, match=r"is in a Python file, which is not run because a run file names it.*to_lava_net"
    ):
        export_run(file)


# what goes along


def test_logs_beside_the_run_file(trained, tmp_path):
    pytest.importorskip("tensorboard")
    document = trained("mine.py:glyphs", "--log", "csv", "--log", "tensorboard")
    file = tmp_path / document["file"]
    rows = list(csv.DictReader(file.with_suffix(".csv").open()))
    assert [float(row["held_out_accuracy"]) for row in rows] == document["epochs"]["held_out_accuracy"]
    assert list(file.with_suffix(".tensorboard").glob("events.*"))


def test_an_unknown_log(run):
    status, _, err = run(*TRAIN, "--task", "mine.py:glyphs", "--log", "tensorbord")
    assert (status, err) == (1, "error: unknown log 'tensorbord'; did you mean tensorboard?\n")


def test_patience_ends_a_run_early(trained):
    """At so small a rate nothing changes."""
    options = ["--lr", "1e-12", "--patience", "2", "--epochs", "9", "--held-out", "validation"]
    document = trained("mine.py:glyphs", *options)
    assert len(document["epochs"]["held_out_accuracy"]) == 3
    assert document["stopped_early"].startswith("held_out_accuracy was no better for 2 epochs")
    assert document["final"]["forward_passes_over_data"] == 3 * 2
    assert trained("mine.py:glyphs", *options) == document


def interrupted(folder, number):
    """A signal after the third step; the command's output goes to a file."""
    os.chdir(folder)
    log = os.open("log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)

    class Sends(callbacks.Callback):
        def step(self, run):
            if run.step == 3:
                os.kill(os.getpid(), number)

    callbacks.LOGS["csv"] = Sends
    sys.argv = ["noisylearn", *TRAIN, "--task", "mine.py:glyphs", "--log", "csv"]
    cli.main()


@pytest.mark.parametrize(
    ("number", "status", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_saves_the_step_and_says_how_to_go_on(number, status, word, trained, tmp_path):
    assert in_child(interrupted, tmp_path, number) == status
    log = (tmp_path / "log").read_text()
    (file,) = (tmp_path / "runs").glob("*.h5")
    first, second, last = log.splitlines()
    assert (first[:9], second[:10]) == ("recipes: ", "settings: ")
    assert last == f"{word}; the state of step 3 is kept in runs/{file.name}; --resume goes on from there"
    assert (the_run(file)["status"], the_run(file)["step"]) == ("running", 3)
    resumed = the_run(trained("mine.py:glyphs", "--resume")["file"])
    assert same(resumed, the_run(trained("mine.py:glyphs", "--out", "whole")["file"])) == []


def test_a_loss_that_grows_is_told(run):
    status, _, err = run(*TRAIN, "--task", "mine.py:glyphs", "--lr", "3", "--rule", "bp", "--batch", "50")
    assert (status, err.count("\n")) == (0, 1)
    assert re.match(r"warning: the loss grew from \S+ to \S+ while it learned: lower --lr \(now 3\)", err)
