"""Early stopping and logs, on a run whose history is stated."""

import csv
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from noisylearn import callbacks as c
from noisylearn.callbacks.base import measured
from noisylearn.ground.errors import UserError


@dataclass
class Stated:
    """A run with this history, three steps an epoch."""

    folder: Path
    history: dict = field(default_factory=dict)
    epoch: int = 0
    steps_per_epoch: int = 3
    higher_is_better: bool = True
    metric: str = "held_out_accuracy"
    id: str = "0123456789ab"
    name: str = "task-anp-ideal-seed0"
    reason: str = ""

    @property
    def file(self):
        return self.folder / "run.h5"

    @property
    def settings(self):
        return {"lr": 0.1, "hidden": "x" * 1000}

    @property
    def step(self):
        return self.steps_per_epoch * self.epoch

    @property
    def losses(self):
        return [1.0 / (i + 1) for i in range(self.step)]

    def stop(self, reason):
        self.reason = reason


def stopped_after(callback, values, metric="held_out_accuracy", higher_is_better=True):
    """Epochs after which early stopping ends a run with these values."""
    run = Stated(Path(), higher_is_better=higher_is_better)
    for run.epoch in range(1, len(values) + 1):
        run.history[metric] = values[: run.epoch]
        callback.epoch(run)
        if run.reason:
            return run.epoch
    return None


@pytest.mark.parametrize(
    ("options", "values", "higher", "after"),
    [
        ({"patience": 1}, [0.1, 0.2, 0.2, 0.9], True, 3),
        ({"patience": 2}, [0.1, 0.3, 0.2, 0.25, 0.9], True, 4),
        ({"patience": 2}, [0.1, 0.3, 0.2, 0.31, 0.3, 0.3], True, 6),
        ({"patience": 2}, [3.0, 2.0, 1.0, 0.5], False, None),
        ({"patience": 2}, [3.0, 2.0, 2.5, 2.0], False, 4),
        ({"patience": 2, "min_delta": 0.1}, [0.1, 0.15, 0.19], True, 3),
        ({"patience": 2}, [float("nan"), float("nan"), 0.5], True, 2),
    ],
)
def test_early_stopping(options, values, higher, after):
    assert stopped_after(c.EarlyStopping(**options), values, higher_is_better=higher) == after


def test_early_stopping_of_another_measurement_takes_less_for_better():
    stopping = c.EarlyStopping(1, metric="train_loss")
    assert stopped_after(stopping, [1.0, 0.5, 0.7], metric="train_loss") == 3
    with pytest.raises(UserError, match="unknown metric of early stopping 'train_loss'; did you mean"):
        stopping.epoch(Stated(Path(), history={"train_los": [1.0]}, epoch=1))


def test_early_stopping_that_was_due_when_the_run_was_interrupted():
    run = Stated(Path(), history={"held_out_accuracy": [0.3, 0.2]}, epoch=2)
    c.EarlyStopping(1).start(run)
    assert run.reason == "held_out_accuracy was no better for 1 epochs than 0.3"


@pytest.mark.parametrize("options", [{"patience": 0}, {"patience": 1, "min_delta": -1.0}])
def test_early_stopping_refuses(options):
    with pytest.raises(UserError, match="give"):
        c.EarlyStopping(**options)


def test_what_is_measured_late_belongs_to_the_last_epochs():
    run = Stated(Path(), history={"a": [1.0, 2.0, 3.0], "late": [9.0]}, epoch=3)
    assert [measured(run, epoch) for epoch in range(3)] == [{"a": 1.0}, {"a": 2.0}, {"a": 3.0, "late": 9.0}]


def two_halves(log, folder):
    """Two epochs of a run, which is then interrupted, and goes on with the same log for one more."""
    run = Stated(folder)
    log.start(run)
    for values in ([0.1], [0.1, 0.2]):
        run.epoch, run.history = len(values), {"held_out_accuracy": values}
        log.epoch(run)
    log.end(run, "interrupted")
    log.start(run)
    run.epoch, run.history = 3, {"held_out_accuracy": [0.1, 0.2, 0.4]}
    log.epoch(run)
    log.end(run, "finished")


def test_csv_has_every_epoch_once(tmp_path):
    two_halves(c.CsvLog(), tmp_path)
    rows = list(csv.DictReader((tmp_path / "run.csv").open()))
    assert [(row["epoch"], row["step"], row["held_out_accuracy"]) for row in rows] == [
        ("1", "3", "0.1"), ("2", "6", "0.2"), ("3", "9", "0.4"),
    ]  # fmt: skip


def test_a_log_without_a_run_file_needs_a_path(tmp_path):
    @dataclass
    class NoFile(Stated):
        file: None = None

    run = NoFile(tmp_path, epoch=1, history={"a": [1.0]})
    with pytest.raises(UserError, match=r"log csv: no run file is kept .*: give it a path"):
        c.CsvLog().epoch(run)
    c.CsvLog(tmp_path / "mine.csv").epoch(run)
    assert (tmp_path / "mine.csv").read_text() == "epoch,step,a\n1,3,1.0\n"


def test_tensorboard_reads_every_value_once(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    two_halves(c.TensorBoardLog(), tmp_path)
    events = EventAccumulator(str(tmp_path / "run.tensorboard"))
    events.Reload()
    found = {(event.step, round(event.value, 6)) for event in events.Scalars("held_out_accuracy")}
    assert found == {(3, 0.1), (6, 0.2), (9, 0.4)}
    assert {event.step for event in events.Scalars("loss")} == {1, 2, 3, 4, 5, 6}  # `step` was not called here


def test_mlflow_goes_on_in_its_run(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = f"file:{tmp_path / 'store'}"
    two_halves(c.MlflowLog(tracking_uri=uri), tmp_path)
    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("noisylearn").experiment_id])
    assert (run.info.status, run.info.run_name) == ("FINISHED", "task-anp-ideal-seed0")
    assert run.data.params["lr"] == "0.1"
    history = client.get_metric_history(run.info.run_id, "held_out_accuracy")
    assert [(metric.step, metric.value) for metric in history] == [(3, 0.1), (6, 0.2), (9, 0.4)]


def test_mlflow_that_does_not_answer(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    (tmp_path / "thesis").write_text("all of it")
    with pytest.raises(UserError, match=r"log mlflow: .*; check MLFLOW_TRACKING_URI"):
        c.MlflowLog(tracking_uri=f"file:{tmp_path / 'thesis'}").start(Stated(tmp_path))
    log = c.MlflowLog(tracking_uri=f"file:{tmp_path / 'store'}")
    run = Stated(tmp_path, epoch=1, history={"a": [1.0]})
    log.start(Stated(tmp_path))
    log.run_id = "0" * 32  # deleted on the server, meanwhile
    with pytest.warns(UserWarning, match="log mlflow: .*; the run goes on without it"):
        log.epoch(run)
    log.epoch(run)
    log.end(run, "finished")


@pytest.mark.parametrize(("name", "package"), [("tensorboard", "tensorboard"), ("mlflow", "mlflow")])
def test_a_missing_package_is_named_with_its_remedy(name, package, monkeypatch):
    monkeypatch.setattr("noisylearn.callbacks.base.find_spec", lambda module: None)
    with pytest.raises(UserError, match=rf"log {name} needs the package {package}: pip install '\.\[{name}\]'"):
        c.log_named(name)


def test_an_unknown_log():
    with pytest.raises(UserError, match="unknown log 'tensorbord'; did you mean tensorboard"):
        c.log_named("tensorbord")
