"""Run files as records, tables and commands: values are those that HDF5 holds, and no damaged file hides others."""

import csv
import io
import json
import re
import sys
import warnings

import h5py
import numpy as np
import pytest
import torch
from support.small_runs import FULL, GAUSSIAN, PCM, profile_text, small_task, small_train

import noisylearn as nl
from noisylearn import tasks
from noisylearn.cli import repeat, runs
from noisylearn.experiments.config import TrainConfig, resolve
from noisylearn.experiments.run_facts import RunFacts
from noisylearn.experiments.run_file import RunFile
from noisylearn.ground.errors import UserError
from noisylearn.profiles import load_profile

DAMAGED = "mnist-sample-bz.h5"  # in the middle, by name


class _Stop(Exception):  # noqa: N818
    pass


def _stop_after(steps):
    def on_step(step, total, loss):
        if step == steps:
            raise _Stop

    return on_step


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run of danp on devices and of bp, an unfinished one of anp, and a damaged file in the middle."""
    out = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "load", small_task)
        small_train(out, FULL)
        small_train(out, GAUSSIAN | {"rule": "bp", "seed": 3, "hidden": (12, 10)})
        with pytest.raises(_Stop):
            small_train(out, GAUSSIAN, on_step=_stop_after(7), checkpoint_every_s=0)
    whole = next(out.glob("*-bp-*.h5")).read_bytes()
    (out / DAMAGED).write_bytes(whole[: len(whole) // 2])
    return out


@pytest.fixture
def copies(folder, tmp_path):
    """The same folder, to change."""
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def _path(folder, rule):
    return next(folder.glob(f"mnist-sample-{rule}-*.h5"))


def test_records_are_what_the_files_hold(folder):
    found = nl.runs.records(folder)
    by_rule = {row["rule"]: row for row in found.rows}
    assert list(by_rule) == ["anp", "bp", "danp"]
    for rule, row in by_rule.items():
        with h5py.File(_path(folder, rule)) as file:
            config = json.loads(file.attrs["config"])
            assert row["id"] == file.attrs["id"]
            assert file.attrs["status"] == ("running" if rule == "anp" else "finished")
            assert row["status"] == ("unfinished" if rule == "anp" else "finished")
            assert row["started"] == file.attrs["started"]
            assert row["steps_done"] == len(file["metrics/step/loss"])
            assert row["epochs_done"] == len(file["metrics/epoch/held_out_accuracy"])
            assert row["score"] == file["metrics/epoch/held_out_accuracy"][-1]
            assert row["version_torch"] == json.loads(file.attrs["versions"])["torch"]
            if rule != "anp":
                assert row["baseline_majority_class"] == file["baselines"].attrs["majority class"]
                assert row["accuracy_at_once"] == file["final"].attrs["accuracy_at_once"]
                assert row["weight_updates"] == file["final"].attrs["weight_updates"]
        assert {key: row[key] for key in ("task", "profile", "seed", "lr", "epochs", "optimizer")} == {
            key: config[key] for key in ("task", "profile", "seed", "lr", "epochs", "optimizer")
        }
    assert by_rule["bp"]["hidden"] == "12,10"
    assert (by_rule["danp"]["draws"], "draws" in by_rule["bp"]) == (2, False)
    assert by_rule["danp"]["accuracy_after_1_day"] >= 0
    assert (by_rule["anp"]["ended"], by_rule["anp"]["metric"]) == (None, "accuracy")


def test_a_damaged_file_is_named_and_hides_no_other(folder):
    with pytest.warns(UserWarning, match=DAMAGED) as warned:
        frame = nl.runs.load(folder)
    assert len(warned) == 1
    assert "\n" not in str(warned[0].message)
    assert list(frame.attrs["damaged"]) == [str(folder / DAMAGED)]
    assert frame["rule"].tolist() == ["anp", "bp", "danp"]
    assert nl.runs.records(folder).damaged == frame.attrs["damaged"]
    assert "datetime64" in str(frame["started"].dtype)
    assert frame["ended"].isna().tolist() == [True, False, False]


@pytest.mark.filterwarnings("ignore:left out")
def test_a_row_for_every_epoch_and_for_every_step(folder):
    epochs, steps = (nl.runs.load(folder, kind) for kind in ("epochs", "steps"))
    for rule, n_steps in (("anp", 7), ("bp", 10), ("danp", 10)):
        with h5py.File(_path(folder, rule)) as file:
            of_steps = steps[steps["rule"] == rule]
            assert of_steps["step"].tolist() == list(range(1, n_steps + 1))
            assert of_steps["loss"].tolist() == file["metrics/step/loss"][()].tolist()
            of_epochs = epochs[epochs["id"] == file.attrs["id"]]
            for name, curve in file["metrics/epoch"].items():
                assert of_epochs[name].tolist() == curve[()].tolist()
    of_bp = epochs[epochs["rule"] == "bp"]
    assert (of_bp["epoch"].tolist(), of_bp["seed"].tolist()) == ([1, 2], [3, 3])
    assert of_bp["alignment_readout"].isna().all()


def test_a_measurement_that_began_later_stands_at_the_last_epochs(folder):
    tree = RunFile(_path(folder, "bp")).facts()
    tree["metrics"]["epoch"]["feedback_norm"] = np.array([0.5])
    curves = RunFacts(folder, tree).epochs
    assert np.isnan(curves["feedback_norm"][0])
    assert curves["feedback_norm"][1] == 0.5


def test_without_pandas_records_work_and_load_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert len(nl.runs.records(folder, "epochs").rows) == 5
    with pytest.raises(UserError, match=r"pip install '\.\[pandas\]'"):
        nl.runs.load(folder)


def test_several_places_and_wrong_ones(folder, tmp_path):
    paths = [_path(folder, "bp"), str(_path(folder, "danp"))]
    assert nl.runs.load(paths)["rule"].tolist() == ["bp", "danp"]
    assert nl.runs.load(tmp_path).empty
    assert nl.runs.load(tmp_path, "steps").attrs == {"damaged": {}}
    with pytest.raises(UserError, match="there-is-none"):
        nl.runs.load(tmp_path / "there-is-none")
    with pytest.raises(UserError, match="unknown kind of table 'epoch'; did you mean epochs"):
        nl.runs.records(folder, "epoch")


def _refused(copies, change):
    """What is said of the bp file once it was changed; the others are read all the same."""
    with h5py.File(_path(copies, "bp"), "a") as file:
        change(file)
    found = nl.runs.records(copies)
    assert [row["rule"] for row in found.rows if row["file"] != str(_path(copies, "bp"))] == ["anp", "danp"]
    return found.damaged.get(str(_path(copies, "bp")))


def _put(group, name, value):
    del group[name]
    group[name] = value


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda file: _put(file, "metrics/epoch/held_out_accuracy", np.zeros((2, 2))), "held_out_accuracy"),
        (lambda file: _put(file, "metrics/step/loss", np.zeros(10, dtype=int)), "loss"),
        (lambda file: _put(file, "metrics/step/loss", np.zeros(9)), "9 losses of 10 steps"),
        (lambda file: file.attrs.__setitem__("config", "[1, 2]"), "config: no JSON table"),
        (lambda file: file.attrs.__setitem__("config", "[" * 100_000), "config: no JSON table"),
        (lambda file: file.attrs.__setitem__("wall_s", np.nan), "wall_s"),
        (lambda file: file.attrs.__setitem__("versions", "{}"), "versions"),
        (lambda file: file.attrs.__setitem__("started", "soon"), "started: no date"),
        (lambda file: file["final"].attrs.__setitem__("accuracy_at_once", "high"), "accuracy_at_once"),
        (lambda file: file["baselines"].attrs.__setitem__("chance", "low"), "chance"),
        (lambda file: file.__delitem__("final"), "final"),
        (lambda file: file.attrs.__setitem__("status", "done"), "done"),
        (lambda file: _put(file, "metrics", h5py.ExternalLink("/etc/passwd", "/")), "link"),
        (lambda file: file.attrs.__setitem__("format_version", 99), "format 99"),
    ],
)
def test_what_is_read_is_checked(copies, change, said):
    assert said in _refused(copies, change)


def test_weights_are_not_looked_at(copies):
    assert _refused(copies, lambda file: _put(file, "weights", h5py.ExternalLink("/etc/passwd", "/"))) is None
    with pytest.raises(UserError, match="link"):
        RunFile(_path(copies, "bp")).read()


def test_a_run_of_an_unknown_configuration_is_listed_all_the_same(copies):
    config = json.dumps({"task": "of-tomorrow", "rule": "new", "seed": 2, "shape": {"a": [1]}})
    assert _refused(copies, lambda file: file.attrs.__setitem__("config", config)) is None
    row = next(row for row in nl.runs.records(copies).rows if row["task"] == "of-tomorrow")
    assert (row["rule"], row["profile"], row["seed"]) == ("new", None, 2)
    facts = nl.runs.find(row["file"])
    assert "of-tomorrow" in facts.summary()
    assert repeat.command_of(facts)[0] == ""


def test_a_run_is_found_by_its_file_or_the_start_of_its_id(folder, copies):
    path = _path(folder, "bp")
    digits = path.stem[-12:]
    for text in (path, str(path), digits, digits[:4]):
        assert nl.runs.find(text, folder).tree["id"] == digits
    twin = path.name.replace(digits, digits[:6] + "000000")
    (copies / twin).write_bytes(path.read_bytes())
    with pytest.raises(UserError, match=f"id {digits[:5]} fits 2 runs"):
        nl.runs.find(digits[:5], copies)
    with pytest.raises(UserError, match=r"no run in .* begins with 00ab; .* --folder names another"):
        nl.runs.find("00ab", folder)
    for text in ("abc", "no-id", "0" * 13, ""):
        with pytest.raises(UserError, match=r"no file and no id|cannot be read"):
            nl.runs.find(text, folder)


def test_list_filters_and_sorts_and_names_what_it_leaves_out(folder, run):
    status, out, err = run("runs", "list", folder, "--sort", "score", "--json")
    found = json.loads(out)
    scores = [row["score"] for row in found["runs"]]
    assert (len(scores), scores) == (3, sorted(scores))
    assert status == 1
    assert err.count("\n") == 1
    assert DAMAGED in err
    assert list(found["damaged"]) == [str(folder / DAMAGED)]
    for options, rules in (
        (("--rule", "anp,danp"), {"anp", "danp"}), (("--profile", PCM), {"danp"}), (("--task", "digits"), set()),
        (("--status", "unfinished"), {"anp"}), (("--status", "running"), set()),
        (("--status", "finished", "--rule", "bp"), {"bp"}),
    ):  # fmt: skip
        rows = json.loads(run("runs", "list", folder, *options, "--json")[1])["runs"]
        assert {row["rule"] for row in rows} == rules
    table = run("runs", "list", folder)[1]
    assert "3 of 3 runs" in table
    assert "1 of 2" in table  # epochs of the unfinished run
    (digits,) = (row["id"] for row in found["runs"] if row["rule"] == "bp")
    assert digits in table
    assert "did you mean finished" in run("runs", "list", folder, "--status", "finish")[2]
    assert "unknown column 'scor'" in run("runs", "list", folder, "--sort", "scor")[2]


def test_show_gives_a_command_that_is_the_same_run(folder, run):
    for rule in ("danp", "bp"):
        path = _path(folder, rule)
        status, out, _ = run("runs", "show", path.stem[-12:-6], "--folder", folder, "--json")
        assert status == 0
        shown = json.loads(out)
        words = iter(shown["command"].split()[2:])
        given = {word[2:].replace("-", "_"): next(words) for word in words if word != "--weight-normalisation"}
        given["hidden"] = tuple(map(int, given["hidden"].split(",")))
        if "--weight-normalisation" in shown["command"]:
            given["weight_normalisation"] = True
        place = given.pop("task"), given.pop("rule"), load_profile(given.pop("profile"))
        config = TrainConfig.of_run(RunFile(path).read(), path)
        assert resolve(*place, given)[0] == config
        assert shown["remark"] == ""
        assert (
            shown["epochs"]["held_out_accuracy"]
            == RunFile(path).read()["metrics"]["epoch"]["held_out_accuracy"].tolist()
        )
    text = run("runs", "show", path)[1]
    for word in ("trivial baseline: ridge readout", "again: noisylearn train", "accuracy at once", "torch", "cite"):
        assert word in text


def test_a_run_that_nobody_computes_is_unfinished_and_show_says_how_to_continue_it(folder, run):
    path = _path(folder, "anp")
    text = run("runs", "show", path)[1]
    assert re.search(rf"unfinished; to continue: noisylearn train .* --resume --out {re.escape(str(folder))}\n", text)
    with RunFile(path).held():
        assert nl.runs.find(path).status == "running"
        assert "\nagain: noisylearn train" in run("runs", "show", path)[1]


def test_show_says_where_the_profile_is_not_packaged(tmp_path, monkeypatch, run):
    monkeypatch.setattr(tasks, "load", small_task)
    text = profile_text().replace('name = "gaussian-node"', 'name = "mine"')
    file = small_train(tmp_path, GAUSSIAN | {"profile": "gaussian-node", "epochs": 1}, text.replace("mine", "own"))
    assert "not packaged" in run("runs", "show", file.path)[1]


def test_a_run_of_ones_own_network_and_data(tmp_path, run):
    inputs = torch.randn(60, 6, generator=torch.Generator().manual_seed(0))
    data = inputs, (inputs[:, 0] > 0).long()
    loss = torch.nn.CrossEntropyLoss()
    callbacks = [nl.callbacks.EarlyStopping(1, min_delta=2.0)]  # which no accuracy gains
    fitted = nl.fit(nl.networks.mlp(6, [4], 2), data, loss, "gaussian-node", "anp", held_out=data, epochs=5, batch=30,
                    out=tmp_path, callbacks=callbacks)  # fmt: skip
    (row,) = nl.runs.load(tmp_path).to_dict("records")
    assert (row["task"], row["rule"], row["epochs"], row["epochs_done"]) == ("own", "anp", 5, 2)
    assert row["stopped_early"] == fitted.stopped_early != ""
    assert row["accuracy_at_once"] == fitted.scores["accuracy_at_once"]
    assert "CrossEntropyLoss" in row["own.loss"]
    assert not any(isinstance(value, dict | list) or len(str(value)) > 400 for value in row.values())
    status, out, _ = run("runs", "show", fitted.file)
    assert (status, "trained by nl.fit" in out, fitted.stopped_early in out) == (0, True, True)


def test_export_writes_a_table_and_replaces_nothing_else(folder, tmp_path, run):
    file = tmp_path / "runs.csv"
    status, _, err = run("runs", "export", folder, "--csv", file)
    assert (status, DAMAGED in err) == (1, True)
    rows = {row["rule"]: row for row in csv.DictReader(io.StringIO(file.read_text()))}
    for row in nl.runs.records(folder).rows:
        for column, value in row.items():
            assert rows[row["rule"]][column] == ("" if value is None else str(value))
    assert rows["bp"]["draws"] == ""
    for option, length in (("--epochs", 5), ("--steps", 27)):
        assert run("runs", "export", folder, "--csv", file, option, "--json")[0] == 1
        assert len(list(csv.DictReader(io.StringIO(file.read_text())))) == length
        printed = json.loads(run("runs", "export", folder, option, "--json")[1])
        assert len(printed["rows"]) == length
    file.write_text("years of work")
    status, _, err = run("runs", "export", folder, "--csv", file)
    assert (status, "another kind" in err, file.read_text()) == (1, True, "years of work")
    run("runs", "export", folder, "--csv", file, "--force")
    assert file.read_text().startswith("id,file,")
    assert "one by one" in run("runs", "export", folder, "--csv", file, "--epochs", "--steps")[2]
    assert "--csv FILE" in run("runs", "export", folder)[2]


def test_no_warning_where_nothing_is_damaged(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nl.runs.load(_path(folder, "bp"))


def test_texts_of_anyone_reach_no_terminal_and_no_page(copies, run, tmp_path):
    hostile = "\x1b[2J<script>\ud800"  # which JSON can say and UTF-8 cannot
    (copies / DAMAGED).unlink()
    config = json.dumps({"task": hostile, "rule": "bp", "seed": 3})
    assert _refused(copies, lambda file: file.attrs.__setitem__("config", config)) is None
    facts = nl.runs.find(_path(copies, "bp"))
    assert facts.settings["task"] == hostile
    assert "?[2J&lt;script&gt;?" in facts._repr_html_()
    for options in (("show", _path(copies, "bp")), ("list", copies), ("export", copies, "--json")):
        status, out, _ = run("runs", *options)
        assert (status, "\x1b" in out) == (0, False)
    assert run("runs", "export", copies, "--csv", tmp_path / "runs.csv")[0] == 0
    assert b"[2J<script>?" in (tmp_path / "runs.csv").read_bytes()


def test_rows_without_a_number_come_first():
    rows = [{"a": 2.0}, {"a": float("nan")}, {"a": -1.0}, {"a": None}, {}]
    assert [row.get("a") for row in runs._sorted(rows, "a")[-2:]] == [-1.0, 2.0]
