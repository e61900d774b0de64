"""Run files: killed at any moment and resumed bit for bit; damaged ones are refused and left alone."""

import datetime
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from support.small_runs import FULL, GAUSSIAN, in_child, same, small_task, small_train

import noisylearn
from noisylearn import cli, tasks
from noisylearn.backends.lava.export import export_run
from noisylearn.backends.lava.netfile import NetFile
from noisylearn.experiments import trainer as training_module
from noisylearn.experiments.build import UNFIT_OPTIMIZERS
from noisylearn.experiments.run_file import RunFile
from noisylearn.experiments.run_model import trained_run
from noisylearn.ground import tree_file as tree_files
from noisylearn.ground.errors import RunawayError, UserError
from noisylearn.ground.tree_file import TreeFile

N_STEPS = 10
WHOLE_TASK = tasks.load
OPTIMIZERS = sorted(
    name.lower()
    for name, kind in vars(torch.optim).items()
    if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(tasks, "load", small_task)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "load", small_task)
        return small_train(tmp_path_factory.mktemp("whole"), FULL)


@pytest.fixture
def unfinished(tmp_path):
    """A run that was interrupted after its seventh step."""
    with pytest.raises(_Stop):
        small_train(tmp_path, FULL, on_step=stop_after(7), checkpoint_every_s=0)
    return RunFile(next(tmp_path.glob("*.h5")))


class _Stop(Exception):  # noqa: N818
    pass


def stop_after(n):
    def on_step(step, total, loss):
        if step == n + 1:  # the checkpoint of step n was written
            raise _Stop

    return on_step


# killed


def killed(out, point, number, sent):
    """Train, and send the own process a signal at the `number`-th time that `point` is reached."""
    count = 0

    def reach(name):
        nonlocal count
        count += name == point
        if name == point and count == number:
            os.kill(os.getpid(), sent)

    def tapped(module, name, before):
        original = getattr(module, name)

        def tap(*arguments, **options):
            if before:
                reach(name)
            result = original(*arguments, **options)
            if not before:
                reach(name)
            return result

        setattr(module, name, tap)

    tapped(tree_files, "_write_group", before=False)  # inside the HDF5 file
    tapped(tree_files, "_checksum", before=True)
    tapped(os, "fsync", before=True)
    tapped(os, "replace", before=False)
    tapped(training_module.Trainer, "finish", before=False)
    tapped(training_module.Trainer, "end_epoch", before=True)
    every = 1e9 if point == "rarely" else 0
    small_train(out, FULL, on_step=lambda *_: reach("step" if every == 0 else "rarely"), checkpoint_every_s=every)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "number", "sent"),
    [
        ("step", 1, signal.SIGKILL),
        ("step", 7, signal.SIGKILL),
        ("step", N_STEPS, signal.SIGKILL),
        ("rarely", 8, signal.SIGKILL),
        ("end_epoch", 2, signal.SIGKILL),
        ("_write_group", 1, signal.SIGKILL),
        ("_write_group", 57, signal.SIGKILL),
        ("_checksum", 4, signal.SIGKILL),
        ("fsync", 6, signal.SIGKILL),
        ("replace", 6, signal.SIGKILL),
        ("finish", 1, signal.SIGKILL),
        ("fsync", N_STEPS + 2, signal.SIGKILL),  # while the finished run is written
        ("step", 4, signal.SIGINT),
        ("fsync", 5, signal.SIGINT),
        ("step", 4, signal.SIGTERM),
    ],
)
def test_killed_run_resumes_bit_for_bit(point, number, sent, tmp_path, whole):
    status = in_child(killed, tmp_path, point, number, sent)
    assert status == (1 if sent == signal.SIGINT else -sent)
    (tmp_path / f".{whole.path.name}.1.part").write_bytes(b"half")  # of a writer killed in the middle
    left = list(tmp_path.glob(".*.part"))
    assert len(left) <= (2 if sent != signal.SIGINT else 1)
    if (point, number) != ("_write_group", 1):
        assert RunFile(tmp_path / whole.path.name).read()["status"] == "running"
        with pytest.raises(UserError, match="--resume"):
            small_train(tmp_path, FULL)
    file = small_train(tmp_path, FULL, resume=True)
    assert same(file.read(), whole.read()) == []
    assert [path.name for path in tmp_path.iterdir()] == [whole.path.name]


@pytest.mark.slow
def test_killed_twice(tmp_path, whole):
    for number in (3, 4):
        assert in_child(resumed_and_killed, tmp_path, number) == -signal.SIGKILL
    assert same(small_train(tmp_path, FULL, resume=True).read(), whole.read()) == []


def resumed_and_killed(out, number):
    seen = []

    def on_step(step, total, loss):
        seen.append(step)
        if len(seen) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    small_train(out, FULL, resume=True, on_step=on_step, checkpoint_every_s=0)


@pytest.mark.slow
def test_command_killed_at_a_random_moment(tmp_path):
    """The installed command in a process of its own, on the whole packaged sample."""
    arguments = [
        "train", "--task", "mnist-sample", "--rule", "danp", "--profile", FULL["profile"], "--hidden", "8",
        "--epochs", "1", "--batch", "50", "--lr", "1e-3", "--draws", "1", "--json",
    ]  # fmt: skip
    command = [sys.executable, "-c", "from noisylearn.cli import main; main()", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed, uncut = tmp_path / "killed", tmp_path / "uncut"
    with subprocess.Popen([*command, "--out", killed], stdout=subprocess.PIPE, env=environment) as process:
        while not list(killed.glob("*.h5")) and process.poll() is None:
            pass
        process.kill()
    result = subprocess.run([*command, "--out", killed, "--resume"], capture_output=True, env=environment, timeout=200)
    assert (result.returncode, result.stderr) == (0, b"")
    assert in_child(command_in_child, [*arguments, "--out", str(uncut)]) == 0
    one, other = (RunFile(next(out.glob("*.h5"))).read() for out in (killed, uncut))
    assert same(one, other) == []


def command_in_child(arguments):
    os.dup2(2, 1)
    torch.set_num_threads(1)  # as the command it is compared with: sums are split among threads
    tasks.load = WHOLE_TASK
    sys.argv = ["noisylearn", *arguments]
    cli.main()


# any rule, any optimizer


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_resumes_bit_for_bit(optimizer, tmp_path):
    settings = {**GAUSSIAN, "optimizer": optimizer}
    if optimizer in UNFIT_OPTIMIZERS:
        with pytest.raises(UserError, match=f"optimizer '{optimizer}' .*; choose another"):
            small_train(tmp_path, settings)
    else:
        check_resume(settings, tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"rule": "np"},
        {"rule": "inp"},
        {"rule": "wp", "profile": "gaussian-weight"},
        {"rule": "reinforce"},
        {"rule": "bp"},
        {"rule": "bp", "profile": FULL["profile"], "decorrelation_rate": 1e-3},
        {"rule": "bp", "forward": "chip", "profile": FULL["profile"]},
        {"profile": FULL["profile"], "baseline": "mean", "draws": 3, "readout": "delta"},
        {"profile": FULL["profile"], "baseline": "noisy", "kernels": True},
        {"hidden": ()},
        {"task": "linear-teacher", "hidden": (5, 4), "schedule": "constant"},
    ],
    ids=lambda changes: "-".join(str(value) for value in changes.values()),
)
def test_every_rule_resumes_bit_for_bit(changes, tmp_path, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)  # kernels are those of a CPU
    check_resume({**GAUSSIAN, **changes}, tmp_path)


def check_resume(settings, tmp_path):
    one, other = tmp_path / "uncut", tmp_path / "cut"
    uncut = small_train(one, settings)
    with pytest.raises(_Stop):
        small_train(other, settings, on_step=stop_after(7), checkpoint_every_s=0)
    assert same(small_train(other, settings, resume=True).read(), uncut.read()) == []


# finished, unfinished


def test_finished_run_is_not_run_again(whole, monkeypatch):
    before = whole.path.stat()
    monkeypatch.setattr(tasks, "load", None)
    for resume in (False, True):
        assert small_train(whole.path.parent, FULL, resume=resume).path == whole.path
    assert whole.path.stat() == before


def test_unfinished_run_needs_resume(unfinished):
    before = unfinished.path.read_bytes()
    with pytest.raises(UserError) as caught:
        small_train(unfinished.path.parent, FULL)
    assert "--resume" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert unfinished.path.read_bytes() == before


def of_another_version(file, versions):
    """The file as other versions would have written it: they are part of a run's identity, and of its file's name."""
    tree = file.read()
    other = RunFile(file.path.with_name(file.path.name.replace(tree["id"], "0" * 12)))
    other.write(tree | {"id": "0" * 12, "versions": json.dumps(json.loads(tree["versions"]) | versions)})
    file.path.unlink()
    return other


@pytest.mark.parametrize("versions", [{"noisylearn": "0.1.0"}, {"torch": "2.6.0"}], ids=str)
def test_unfinished_run_of_another_version_is_not_resumed(unfinished, versions):
    other = of_another_version(unfinished, versions)
    before = other.path.read_bytes()
    with pytest.raises(UserError) as caught:
        small_train(other.path.parent, FULL, resume=True)
    message = str(caught.value)
    ((package, version),) = versions.items()
    for part in (str(other.path), f"{package} {version}", "cannot continue it", "remove it", "leave --resume out"):
        assert part in message
    assert "\n" not in message
    assert [path.read_bytes() for path in other.path.parent.iterdir()] == [before]


def test_other_runs_of_another_version_are_left_alone(unfinished, whole):
    """Of another configuration, another profile, finished, or damaged: none of them is this run."""
    other = of_another_version(unfinished, {"noisylearn": "0.1.0"})
    tree, folder = other.read(), other.path.parent
    config = json.loads(tree["config"])
    changes = {
        "1": {"config": json.dumps(config | {"epochs": 3})}, "2": {"profile": "another"}, "3": {"config": "{}"},
    }  # fmt: skip
    for name, changed in changes.items():
        RunFile(folder / other.path.name.replace("0" * 12, name)).write(tree | changed)
    (folder / other.path.name.replace("0" * 12, "4")).write_bytes(b"garbage")
    other.write(whole.read() | {"id": "0" * 12, "versions": tree["versions"]})
    assert same(small_train(folder, FULL, resume=True).read(), whole.read()) == []


def test_wall_time_goes_on_across_a_resume(unfinished):
    tree = unfinished.read()
    unfinished.write(tree | {"wall_s": 1000.0})
    assert 1000.0 < small_train(unfinished.path.parent, FULL, resume=True).read()["wall_s"] < 1100.0


# damaged

DAMAGED = "run file {}: damaged or not a run file of noisylearn; remove it to start this run anew"


def refused(file, settings=FULL):
    """One line, and the file is as it was."""
    before = file.path.read_bytes()
    for resume in (True, False):
        with pytest.raises(UserError) as caught:
            small_train(file.path.parent, settings, resume=resume)
        assert "\n" not in str(caught.value)
        assert str(file.path) in str(caught.value) or "checkpoint does not fit" in str(caught.value)
        assert file.path.read_bytes() == before
    return str(caught.value)


@pytest.mark.parametrize("content", [b"", b"garbage" * 1000, b"\x89HDF\r\n\x1a\n" + bytes(5000)])
def test_not_a_run_file(unfinished, content):
    unfinished.path.write_bytes(content)
    assert refused(unfinished) == DAMAGED.format(unfinished.path)


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.9, 0.999])
def test_truncated_file(unfinished, kept):
    content = unfinished.path.read_bytes()
    unfinished.path.write_bytes(content[: int(len(content) * kept)])
    assert refused(unfinished) == DAMAGED.format(unfinished.path)


def test_flipped_byte_is_never_taken_for_data(unfinished):
    content = unfinished.path.read_bytes()
    tree = unfinished.read()
    weights = tree["checkpoint"]["model"]["readout.layer.weight"].tobytes()
    position = content.index(weights) + len(weights) // 2
    unfinished.path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
    assert "damaged" in refused(unfinished)


@pytest.mark.parametrize("version", [0, 2, "1"])
def test_other_format_version(unfinished, version):
    with h5py.File(unfinished.path, "a") as file:
        file.attrs["format_version"] = version
    assert "format" in refused(unfinished)


def test_dates_say_when_a_run_began_and_when_it_ended(unfinished):
    tree, before = unfinished.read(), datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    assert "ended" not in tree
    assert abs(datetime.datetime.fromisoformat(tree["started"]) - before) < datetime.timedelta(minutes=2)
    unfinished.write(tree | {"started": "2020-02-29T12:00:00+00:00"})
    run = small_train(unfinished.path.parent, FULL, resume=True).read()
    assert run["started"] == "2020-02-29T12:00:00+00:00"
    assert before <= datetime.datetime.fromisoformat(run["ended"]) <= datetime.datetime.now(datetime.UTC)


def test_a_file_of_the_first_versions_has_no_dates(unfinished):
    tree = unfinished.read()
    del tree["started"]
    unfinished.write(tree)
    assert small_train(unfinished.path.parent, FULL, resume=True).read()["started"] > "2026"


@pytest.mark.parametrize("date", ["yesterday", "2020-01-01T00:00:00", "9" * 50])
def test_what_is_no_date(unfinished, date):
    unfinished.write(unfinished.read() | {"started": date})
    assert "started: " in refused(unfinished)


@pytest.mark.parametrize("lost", ["checkpoint", "metrics", "metrics/step/loss", "checkpoint/model/hidden1.layer.bias"])
def test_missing_dataset(unfinished, lost):
    with h5py.File(unfinished.path, "a") as file:
        del file[lost]
    assert "damaged" in refused(unfinished)


@pytest.mark.parametrize("lost", ["status", "step", "id", "format_version"])
def test_missing_attribute(unfinished, lost):
    with h5py.File(unfinished.path, "a") as file:
        del file.attrs[lost]
    assert "damaged" in refused(unfinished)


@pytest.mark.parametrize(("fact", "value"), [("wall_s", 1e-3), ("config", "{}"), ("format", 1)])
def test_altered_attribute(unfinished, fact, value):
    with h5py.File(unfinished.path, "a") as file:
        file.attrs[fact] = value
    assert "damaged" in refused(unfinished)


def test_a_file_of_the_first_versions_has_a_checksum_of_its_arrays_alone(unfinished):
    with h5py.File(unfinished.path, "a") as file:
        file.attrs["checksum"] = tree_files._checksum(file, of_arrays_alone=True)
    assert unfinished.read()["status"] == "running"


def test_nobody_is_told_to_remove_a_file_of_another_kind(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError) as caught:
        RunFile(tmp_path / "thesis.txt").read()
    assert "damaged or not a run file" in str(caught.value)
    assert "remove it" not in str(caught.value)


def test_nobody_is_told_to_remove_an_hdf5_file_of_another_program(tmp_path):
    path = tmp_path / "measured.h5"
    with h5py.File(path, "w") as file:
        file["measured"] = np.arange(10)
    with pytest.raises(UserError) as caught:
        RunFile(path).read()
    says = "a file of another program, or damaged: move it elsewhere, or give a run file of noisylearn"
    assert str(caught.value) == f"run file {path}: {says}"


def test_a_file_of_another_kind_is_not_called_damaged(tmp_path):
    NetFile(tmp_path / "net.h5").write({"kind": "network for Lava"})
    with pytest.raises(UserError, match=r"a file of noisylearn's, but no run file that is whole: .*no kind is stated$"):
        RunFile(tmp_path / "net.h5").read()


def test_a_configuration_of_another_version_is_one_line(whole, tmp_path):
    file = RunFile(tmp_path / "run.h5")
    file.write(whole.read() | {"config": '{"task": "digits", "novelty": 1}'})
    for export in (trained_run, export_run):
        with pytest.raises(UserError, match=r"not a configuration of this version: .*unknown key 'novelty'"):
            export(file.path)


def test_finished_file_without_its_figures(whole, tmp_path):
    file = RunFile(Path(shutil.copy(whole.path, tmp_path)))
    with h5py.File(file.path, "a") as opened:
        del opened["final"]
    assert "damaged" in refused(file)


@pytest.mark.parametrize(
    "place",
    [
        ("model", "hidden1.layer.weight"),
        ("chip", "layer|hidden1.layer", "written"),
        ("chip", "layer|readout.layer", "scale"),
        ("norms", "hidden1.layer"),
        ("optimizer", "0", "exp_avg"),
    ],
    ids="-".join,
)
@pytest.mark.parametrize("change", ["shape", "missing"])
def test_checkpoint_of_another_network(unfinished, place, change):
    tree = unfinished.read()
    group = tree["checkpoint"]
    for step in place[:-1]:
        group = group[step]
    if change == "shape":
        group[place[-1]] = np.zeros((3, 5), np.float32)
    else:
        del group[place[-1]]
    unfinished.write(tree)
    with pytest.raises(UserError, match="does not fit") as caught:
        small_train(unfinished.path.parent, FULL, resume=True)
    assert "\n" not in str(caught.value)
    assert same(unfinished.read(), tree) == []


@pytest.mark.parametrize("kind", [np.float16, np.int64])
def test_curve_of_another_type(unfinished, kind):
    tree = unfinished.read()
    tree["metrics"]["step"]["loss"] = tree["metrics"]["step"]["loss"].astype(kind)
    unfinished.write(tree)
    assert "no array of floating-point numbers of 32 or 64 bits" in refused(unfinished)


def test_file_of_another_run_under_this_name(unfinished):
    other = small_train(unfinished.path.parent, GAUSSIAN)
    other.path.replace(unfinished.path)
    assert "another run" in refused(unfinished)


def test_folder_in_place_of_the_file(unfinished):
    unfinished.path.unlink()
    unfinished.path.mkdir()
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        small_train(unfinished.path.parent, FULL, resume=True)


class AnyFile(TreeFile):
    what, mend = "file of a test", "write it again"

    def checked(self, tree):
        return tree


def test_read_gives_back_what_was_written(tmp_path):
    file = AnyFile(tmp_path / "run.h5")
    tree = {
        "id": "a", "step": 3, "wall_s": 0.5, "checkpoint": {"empty": {}},
        "metrics": {"step": {"loss": [1.0, 2.0]}, "counts": torch.arange(3), "none": []},
    }  # fmt: skip
    file.write(tree)
    found = file.read()
    assert (found["id"], found["step"], found["wall_s"], found["checkpoint"]) == ("a", 3, 0.5, {"empty": {}})
    assert found["metrics"]["step"]["loss"].tolist() == [1.0, 2.0]
    assert found["metrics"]["counts"].dtype == np.int64
    assert found["metrics"]["none"].shape == (0,)


def test_full_disk_keeps_the_last_whole_file(unfinished):
    before, tree = unfinished.path.read_bytes(), unfinished.read()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(UserError, match="cannot be written") as caught:
            unfinished.write(tree)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert unfinished.path.read_bytes() == before
    assert [path.name for path in unfinished.path.parent.iterdir()] == [unfinished.path.name]


def test_no_pickle_anywhere():
    for file in (Path(noisylearn.__file__).parent).rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        for word in ("import pickle", "torch.load", "torch.save", "allow_pickle=True", "joblib"):
            assert word not in text, file


# runs that go astray


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"lr": 1e12, "weight_normalisation": False}, "layer 'hidden1.layer' ran away"),
        ({"decorrelation_rate": 1e30}, "loss is not finite (layer '"),
    ],
)
def test_runaway_keeps_the_last_good_state(changes, named, tmp_path):
    settings = {**FULL, **changes}
    with pytest.raises(RunawayError) as caught:
        small_train(tmp_path, settings, checkpoint_every_s=0)
    message = str(caught.value)
    assert named in message
    assert f" of {N_STEPS}; " in message
    assert "lower --lr" in message
    assert ("--weight-normalisation" in message) != settings["weight_normalisation"]
    assert "\n" not in message
    file = RunFile(next(tmp_path.glob("*.h5")))
    assert str(file.path) in message
    tree = file.read()
    assert (tree["status"], tree["reason"]) == ("stopped", message)
    assert f"state of step {tree['step']} is kept" in message
    for place, array in training_module._leaves(tree["checkpoint"]):
        assert place[-1].endswith("covariance_loss") or np.isfinite(array).all(), place
    assert len(tree["metrics"]["step"]["loss"]) == tree["step"]
    for resume in (False, True):  # deterministic: it would stop again
        with pytest.raises(RunawayError, match="would again"):
            small_train(tmp_path, settings, resume=resume)


def test_state_that_overflows_while_loss_and_weights_are_finite(tmp_path, monkeypatch):
    def load(*arguments, **options):
        task = small_task(*arguments, **options)
        original = type(task).loss_fn
        monkeypatch.setattr(type(task), "loss_fn", lambda self, *given: original(self, *given) * 1e25)
        return task

    monkeypatch.setattr(tasks, "load", load)
    named = r"the optimizer's exp_avg_sq of hidden1\.layer\.weight is not finite after step 1 of 10; the state of"
    with pytest.raises(RunawayError, match=named):
        small_train(tmp_path, FULL, checkpoint_every_s=0)
    assert RunFile(next(tmp_path.glob("*.h5"))).read()["status"] == "stopped"


def test_loss_that_is_not_finite_from_some_step_on(tmp_path, monkeypatch):
    def load(*arguments, **options):
        task = small_task(*arguments, **options)
        original, calls = type(task).loss_fn, []

        def loss_fn(self, output, target):
            calls.append(1)
            return original(self, output, target) * (float("nan") if len(calls) > 12 else 1.0)

        monkeypatch.setattr(type(task), "loss_fn", loss_fn)
        return task

    monkeypatch.setattr(tasks, "load", load)
    with pytest.raises(RunawayError, match=r"loss is not finite \(layer '.*at step 5 of 10; the state of step 4"):
        small_train(tmp_path, {**GAUSSIAN, "baseline": "noisy", "draws": 2}, checkpoint_every_s=0)
