"""Processes that share a run over gloo: equal to one process, to rounding; how they end, resume and refuse."""

import itertools
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from support.processes import command, in_processes
from support.shared_steps import BY_SEEDS, NODES, SHARED, TAUGHT, check_same, learned
from support.small_runs import FULL, GAUSSIAN, same, small_task, small_train

import noisylearn.cli.train as cli_train
from noisylearn import tasks
from noisylearn.distributed import LostRankError, Ranks, joined
from noisylearn.experiments.build import build_setup
from noisylearn.experiments.config import TrainConfig
from noisylearn.experiments.run_file import RunFile
from noisylearn.experiments.train import train
from noisylearn.experiments.trainer import Trainer
from noisylearn.ground.errors import UserError
from noisylearn.ground.tree_file import Tree
from noisylearn.profiles import load_profile
from noisylearn.rules import ANP, NP

pytestmark = pytest.mark.slow
ROUNDING = 2e-3  # of float32, relative, after ten steps of Adam from small differences of losses
RUNS = {
    "danp on pcm": {**FULL, "draws": 4},
    "mean": {**GAUSSIAN, "baseline": "mean", "draws": 4},
    "lf on pcm": {**FULL, "rule": "lf", "draws": 1, "hidden": (12, 9), "decorrelation_rate": 0.0},
    "in time": {**GAUSSIAN, "task": "copying", "network": "rnn", "activation": "tanh", "draws": 4, "epochs": 1},
}  # fmt: skip
ENDED = "another process of this run has ended or does not answer ("


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "load", small_task)


def shared_run(out: Path, settings: dict[str, object]) -> None:
    """A run, in each of several processes."""
    config = TrainConfig(**settings)  # type: ignore[arg-type]
    with joined() as ranks:
        train(config, load_profile(config.profile), out, ranks=ranks)


def run_of(out: Path) -> Tree:
    (path,) = out.glob("*.h5")
    return RunFile(path).read()


def check_close(run: Tree, alone: Tree) -> None:
    """The same run, to rounding."""
    assert run["id"] == alone["id"]
    assert run["status"] == alone["status"] == "finished"
    np.testing.assert_allclose(run["metrics"]["step"]["loss"], alone["metrics"]["step"]["loss"], rtol=ROUNDING)
    for where in ("digital", "on_chip"):
        for name, weight in alone["weights"][where].items():
            difference = run["weights"][where][name] - weight
            assert np.linalg.norm(difference) <= ROUNDING * np.linalg.norm(weight), name
    assert run["final"].keys() == alone["final"].keys()


@pytest.mark.parametrize("count", [2, 3])
def test_estimates_equal_those_of_one_process(count: int, tmp_path: Path) -> None:
    """In float64, by draws, by parts, and by both."""
    assert in_processes(count, _steps_of_all_rules, log=tmp_path) == [0] * count, (tmp_path / "0.err").read_text()


def _steps_of_all_rules() -> None:
    with joined() as ranks:
        for (rule, profile), parts in itertools.product(SHARED, (1, ranks.count, 2 * ranks.count - 1)):
            if parts > 1 or rule.n_draws >= ranks.count:
                shared, alone = (learned(rule, profile, some, parts) for some in (ranks, Ranks()))
                check_same(shared, alone)
                digests = ranks.gathered({name: w.numpy().tobytes() for name, w in shared.weights.items()})
                assert all(digest == digests[0] for digest in digests), "processes differ"
        for rule, profile in TAUGHT:
            check_same(*(learned(rule, profile, some, ranks.count) for some in (ranks, Ranks())))
        for rule, profile in BY_SEEDS:
            of_all = rule.of_draws(2 * ranks.count)
            check_same(*(learned(of_all, profile, some, 1, send="losses") for some in (ranks, Ranks())))
        for rule in (NP(draws=2 * ranks.count, update="online"), ANP(draws=ranks.count)):
            for parts in (1, ranks.count):
                runs = [learned(rule, NODES, some, parts, True, in_time=True) for some in (ranks, Ranks())]
                check_same(*runs)


WHOLE = [("danp on pcm", 1, 2), ("danp on pcm", 2, 3), ("mean", 3, 3), ("lf on pcm", 2, 2), ("in time", 2, 2)]


@pytest.mark.parametrize(("name", "parts", "count"), WHOLE)
def test_whole_runs_equal_those_of_one_process(name: str, parts: int, count: int, tmp_path: Path) -> None:
    settings = {**RUNS[name], "batch_parts": parts}
    if name == "danp on pcm" and count == 3:
        settings["draws"] = 3
    statuses = in_processes(count, shared_run, tmp_path / "shared", settings, log=tmp_path / "log")
    assert statuses == [0] * count, (tmp_path / "log" / "0.err").read_text()
    check_close(run_of(tmp_path / "shared"), small_train(tmp_path / "alone", settings).read())
    assert f"{count} processes" in run_of(tmp_path / "shared")["machine"]


TRAIN = [
    "train", "--task", "mnist-sample", "--rule", "danp", "--profile", "pcm-nandakumar-2019", "--baseline", "noisy",
    "--draws", "3", "--hidden", "12", "--optimizer", "nadam", "--lr", "1e-2", "--epochs", "2", "--batch", "40",
    "--decorrelation-rate", "1e-3", "--weight-normalisation",
]  # fmt: skip


@pytest.mark.parametrize(("before", "victim", "after"), [(2, 1, 3), (2, 0, 1), (3, 2, 2)])
def test_a_dead_process_ends_all_and_another_number_of_them_resumes(
    before: int, victim: int, after: int, tmp_path: Path
) -> None:
    """From the last checkpoint, with the numbers of one process that was never interrupted."""
    line = [*TRAIN, "--batch-parts", "2", "--out", str(tmp_path / "shared")]
    statuses = in_processes(before, dying_command, victim, 6, *line, log=tmp_path / "died")
    assert statuses == [-signal.SIGKILL if n == victim else 1 for n in range(before)]
    (told,) = errors(tmp_path / "died", before)
    assert ENDED in told
    kept = run_of(tmp_path / "shared")
    assert kept["status"] == "running"
    assert kept["step"] in (5, 6), "saved after every step; the last may be lost"
    assert in_processes(after, command, *line, "--resume", log=tmp_path / "on") == [0] * after
    assert in_processes(1, command, *line[:-1], str(tmp_path / "alone"), log=tmp_path / "one") == [0]
    check_close(run_of(tmp_path / "shared"), run_of(tmp_path / "alone"))


def errors(log: Path, count: int) -> list[str]:
    """The lines that the processes printed on standard error, without warnings."""
    lines = [line for n in range(count) for line in (log / f"{n}.err").read_text().splitlines()]
    return [line for line in lines if not line.startswith("warning: ")]


def dying_command(number: int, step: int, *arguments: str) -> None:
    """The command, with a checkpoint after every step; one process is killed after a step."""
    own_step = Trainer.step

    def step_and_die(trainer: Trainer) -> float:
        loss = own_step(trainer)
        if trainer.progress.step == step and trainer.ranks.number == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return loss

    Trainer.step = step_and_die  # type: ignore[method-assign]
    cli_train.train = partial(train, checkpoint_every_s=0.0)  # type: ignore[attr-defined]
    command(*arguments)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ([], "2 processes cannot share 1 part of the batch and 1 draw: give --batch-parts 2"),
        (["--rule", "nrl"], "rule nrl learns from a whole batch in one place: processes and --batch-parts go with anp"),
        (["--draws", "2", "--baseline", "mean"], "stay together as the rule compares them all: give --batch-parts 2"),
        (["--draws", "2", "--send", "losses"], "rule anp learns from pre-activations, which the process that"),
        (["--batch-parts", "41"], "--batch-parts 41: a batch has 40 samples"),
        (["--hidden", "x"], "--hidden 'x': give numbers of units"),
        (["--draws", "2", "--profile", "nothing"], "nothing"),
        (["--draws", "2", "--data-dir", "/nowhere", "--task", "mnist"], "/nowhere"),
    ],
)
def test_mistakes_are_told_once_before_any_run_starts(more: list[str], says: str, tmp_path: Path) -> None:
    line = ["train", "--task", "mnist-sample", "--rule", "anp", "--batch", "40", "--out", str(tmp_path / "out"), *more]
    assert in_processes(2, command, *line, log=tmp_path / "log") == [1, 1]
    (told,) = errors(tmp_path / "log", 2)
    assert told.startswith("error: ")
    assert says in told
    assert not list(tmp_path.glob("out/*.h5"))


def test_mistakes_are_told_once_where_the_first_process_holds_the_store(tmp_path: Path) -> None:
    line = ["train", "--task", "mnist-sample", "--rule", "nrl", "--out", str(tmp_path / "out")]
    assert in_processes(3, command, *line, log=tmp_path / "log", as_torchrun=False) == [1, 1, 1]
    assert [line[:14] for line in errors(tmp_path / "log", 3)] == ["error: rule nr"]


def test_a_run_that_diverges_is_told_once_and_its_file_says_why(tmp_path: Path) -> None:
    line = [*TRAIN[:-1], "--lr", "1e30", "--optimizer", "sgd", "--batch-parts", "2", "--out", str(tmp_path / "out")]
    assert in_processes(2, command, *line, log=tmp_path / "log") == [1, 1]
    (told,) = errors(tmp_path / "log", 2)
    run = run_of(tmp_path / "out")
    assert run["status"] == "stopped"
    assert run["reason"] in told


def test_an_unfinished_run_is_refused_and_a_finished_one_not_run_again(tmp_path: Path) -> None:
    line = [*TRAIN, "--out", str(tmp_path / "out")]
    in_processes(2, dying_command, 1, 6, *line, log=tmp_path / "died")
    assert in_processes(2, command, *line, log=tmp_path / "log") == [1, 1]
    assert "holds an unfinished run: continue with --resume" in (tmp_path / "log" / "0.err").read_text()
    assert in_processes(2, command, *line, "--resume", log=tmp_path / "log") == [0, 0]
    before = run_of(tmp_path / "out")
    assert in_processes(3, command, *line, "--json", log=tmp_path / "log") == [0, 0, 0]
    assert same(run_of(tmp_path / "out"), before) == []
    printed = [(tmp_path / "log" / f"{n}.out").read_text() for n in range(3)]
    assert printed[0].startswith("{")
    assert printed[1:] == ["", ""], "the first process alone prints"


DIES_ONCE = """
import os, signal, sys
sys.path[:0] = {paths}
from support.small_runs import small_task
from noisylearn import tasks
tasks.load = small_task
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    from distributed_tests import dying_command
    dying_command(1, 6, *sys.argv[1:])
else:
    from support.processes import command
    command(*sys.argv[1:])
"""


@pytest.mark.parametrize("restarts", [0, 1])
def test_torchrun_ends_all_or_starts_them_again(restarts: int, tmp_path: Path) -> None:
    """With restarts and --resume, a run in which a process dies goes on by itself."""
    (tmp_path / "distributed_tests.py").write_text(Path(__file__).read_text(encoding="utf-8"), encoding="utf-8")
    script = tmp_path / "dies_once.py"
    script.write_text(DIES_ONCE.format(paths=[str(Path(__file__).parents[1]), str(tmp_path)]), encoding="utf-8")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    line = [*TRAIN, "--batch-parts", "2", "--resume", "--out", str(tmp_path / "shared")]
    ended = subprocess.run(
        [*launch, "--max-restarts", str(restarts), str(script), *line], capture_output=True, text=True, check=False
    )
    assert ended.stderr.count("error: ") == 1, ended.stderr
    assert sum(ENDED in line for line in ended.stderr.splitlines()) == 1
    assert (ended.returncode == 0) == bool(restarts)
    run = run_of(tmp_path / "shared")
    assert run["status"] == ("finished" if restarts else "running")
    if restarts:
        assert in_processes(1, command, *line[:-1], str(tmp_path / "alone"), log=tmp_path / "one") == [0]
        check_close(run, run_of(tmp_path / "alone"))


def test_other_commands_run_in_one_process(tmp_path: Path) -> None:
    assert in_processes(2, command, "tasks", "list", log=tmp_path) == [1, 1]
    assert (tmp_path / "0.err").read_text() == "error: tasks runs in one process: start it without torchrun\n"
    assert (tmp_path / "1.err").read_text() == ""


def test_a_process_that_does_not_answer_counts_as_dead(tmp_path: Path) -> None:
    assert in_processes(2, _first_waits, log=tmp_path) == [0, 0], (tmp_path / "0.err").read_text()


def _first_waits() -> None:
    """The second process is silent for longer than the first one's patience."""
    if os.environ["RANK"] == "1":
        with joined(timedelta(seconds=20)):
            time.sleep(6)
            os._exit(0)
    started = time.monotonic()
    with pytest.raises(LostRankError, match="does not answer"), joined(timedelta(seconds=2)) as ranks:
        ranks.sum([torch.ones(3)])
    assert time.monotonic() - started < 5


def test_weights_that_differ_are_found_at_the_next_checkpoint(tmp_path: Path) -> None:
    assert in_processes(2, _with_other_weights, tmp_path / "out", log=tmp_path / "log") == [0, 0]


def _with_other_weights(out: Path) -> None:
    config = TrainConfig(**{**GAUSSIAN, "draws": 4})
    with joined() as ranks:
        trainer = Trainer(build_setup(config, load_profile(config.profile), small_task(config.task)), ranks)
        trainer.checkpoint()
        with torch.no_grad():
            trainer.model.hidden1.weight[0, 0] += ranks.number
        with pytest.raises(UserError, match="no longer have the same weights"):
            trainer.checkpoint()


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is set, but not RANK, MASTER_ADDR, MASTER_PORT"),
        ({"WORLD_SIZE": "x", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}, "do not fit"),
        ({"WORLD_SIZE": "2", "RANK": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}, "do not fit"),
        ({"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9"}, "cannot join the others at"),
    ],
)
def test_a_place_that_is_none_is_one_line(
    environment: dict[str, str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(UserError, match=says) as error, joined(timedelta(seconds=2)):
        pass
    assert "\n" not in str(error.value)


def test_one_process_of_torchrun_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")
    with joined() as ranks:
        assert (type(ranks), ranks.number, ranks.count) == (Ranks, 0, 1)


def test_every_process_needs_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    Ranks(0, 1).check_device("cuda:0")
    Ranks(1, 2, local=1).check_device("cuda")
    Ranks(2, 3, local=2).check_device("cpu")
    with pytest.raises(UserError, match="process 3 of a machine with 2 CUDA devices has none"):
        Ranks(2, 3, local=2).check_device("cuda")
    with pytest.raises(UserError, match="say cuda, and each takes one"):
        Ranks(0, 2).check_device("cuda:0")
