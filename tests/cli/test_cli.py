"""Commands: help that teaches, one JSON document, one clear error."""

import json
import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from support.small_runs import PCM, in_child, profile_text, small_task

from noisylearn import cli, tasks
from noisylearn.cli.output import warn_of_growth
from noisylearn.experiments.run_file import RunFile
from noisylearn.experiments.trainer import Trainer
from noisylearn.profiles import load_profile, profile_files

ECRAM = "ecram-mo-kim-2019"
SETTINGS = ["--hidden", "8", "--batch", "40", "--epochs", "1", "--lr", "1e-3"]
TRAIN = ["train", "--task", "mnist-sample", "--rule", "anp", *SETTINGS, "--draws", "1"]
COMPARE = ["compare", "--task", "mnist-sample", "--rules", "np,bp", "--seeds", "0,1", *SETTINGS]
COMMANDS = [
    ["train"], ["compare"], ["profiles"], ["profiles", "list"], ["profiles", "show"], ["profiles", "check"],
    ["rules"], ["rules", "list"], ["rules", "show"], ["tasks"], ["tasks", "list"], ["tasks", "show"], [],
]  # fmt: skip


@pytest.fixture(autouse=True)
def _small(monkeypatch, tmp_path):
    monkeypatch.setattr(tasks, "load", small_task)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NOISYLEARN_DATA", raising=False)


@pytest.fixture
def document(run):
    """The JSON document of a command that succeeds: exactly one, and nothing on standard error."""

    def call(*arguments):
        status, out, err = run(*arguments, "--json")
        assert (status, err) == (0, "")
        return json.loads(out, parse_constant=pytest.fail)

    return call


@pytest.fixture
def refusal(run):
    """The line of a command that refuses: status 1, nothing on standard output."""

    def call(*arguments):
        lines = set()
        for extra in ([], ["--json"]):
            status, out, err = run(*arguments, *extra)
            assert (status, out) == (1, ""), err
            assert err.startswith("error: ")
            assert err.endswith("\n")
            assert err.count("\n") == 1
            lines.add(err)
        assert len(lines) == 1
        return err

    return call


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help(command, run):
    status, out, err = run(*command, "--help")
    assert (status, err) == (0, "")
    assert "Usage: noisylearn" in out
    if command in (["train"], ["compare"]):
        assert "Example: noisylearn" in out
        assert "tasks list" in " ".join(out.split())


@pytest.mark.parametrize("arguments", [["nonsense"], ["train", "--tsak", "x"], ["train", "--draws", "many"], ["train"]])
def test_misuse_of_the_command_line(arguments, run):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert "Traceback" not in err


def test_lists(run, document):
    for group, some in (("profiles", PCM), ("rules", "anp"), ("tasks", "mnist-sample")):
        found = document(group, "list")
        assert some in [item["name"] for item in found]
        status, out, err = run(group, "list")
        assert (status, err) == (0, "")
        assert all(item["name"] in out for item in found)
        assert max(len(line) for line in out.splitlines()) <= 200


@pytest.mark.parametrize(
    "arguments",
    [["profiles", "show", "ideal"], ["profiles", "show", PCM], ["rules", "show", "anp"], ["rules", "show", "dbp"],
     ["tasks", "show", "mnist-sample"], ["tasks", "show", "linear-teacher"]],
    ids=" ".join,
)  # fmt: skip
def test_show(arguments, run, document):
    assert document(*arguments)["name"] == arguments[2].removeprefix("d")
    status, out, err = run(*arguments)
    assert (status, err) == (0, "")
    assert arguments[2] in out


def test_learned_feedback_is_shown_with_both_routes(run, document):
    for text in (run("rules", "show", "lf")[1], document("rules", "show", "lf")["equation"]):
        assert re.search(r"layerwise:.*W_\{l\+1\}\^T g_\{l\+1\}.*direct:.*B_l\^T e", text, re.DOTALL)


def test_brackets_and_colons_are_shown_as_they_are(run, tmp_path):
    text = profile_text().replace("dalm-2023", ":100:").replace("[sources.:100:]", '[sources.":100:"]')
    text = text.replace('name = "gaussian-node"', 'name = "mine"')
    (tmp_path / "a.toml").write_text(text.replace('citation = "', 'citation = "[red][/x] '))
    status, out, _ = run("profiles", "show", "a.toml")
    assert status == 0
    assert ":100:" in out
    assert "[red][/x] Dalm" in out
    assert "[/x].toml" in run("profiles", "check", "[/x].toml")[2]


def test_profiles_show_plot(run, document, tmp_path):
    status, out, _ = run("profiles", "show", PCM, "--plot", "a.png")
    assert status == 0
    assert out.endswith("plot: a.png\n")
    assert (tmp_path / "a.png").stat().st_size > 1000
    assert document("profiles", "show", PCM, "--plot", "b.png")["plot"] == "b.png"
    assert "plot" not in document("profiles", "show", PCM)


def test_profiles_show_what_the_rules_that_they_offer_must_observe(run, document):
    """Files of the first version imply the output and its error, which learned feedback must observe."""
    shown = re.search(r"observable: (.*)\n.*\blf\b", run("profiles", "show", PCM)[1])
    assert set(document("rules", "show", "lf")["observes"]) <= set(shown[1].split(", "))
    assert document("profiles", "show", PCM)["shown"] == shown[1].split(", ")


@pytest.mark.parametrize(
    ("growth", "samples", "warned"),
    [(0.6, 300, 1), (0.4, 300, 0), (0.4, 1000, 1), (-0.6, 300, 0), (5.0, 80, 0), (np.inf, 80, 1), (np.nan, 80, 1)],
)
def test_a_loss_that_grew_is_named(growth, samples, warned):
    """Losses 1 +- 1: a difference of two tenths of 30 has a standard error of 0.26, of 100 one of 0.14."""
    losses = 1 + np.tile([-1.0, 1.0], samples // 2)
    losses[-samples // 10 :] += growth
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_growth(losses, 0.01, "export with --lr")
    said = f"the loss grew from 1 to {1 + growth:.3g} while it learned"
    assert [str(w.message).partition(": ")[0] for w in caught] == warned * [said]
    assert all("try a tenth (export with --lr 0.001)" in str(w.message) for w in caught)


def test_profiles_keys(run, document, refusal):
    """Every table and key of every packaged profile is listed; a key and its bounds; equations of shared parts."""
    listed = {table["name"]: {key["name"] for key in table["keys"]} for table in document("profiles", "keys")}
    for name in profile_files():
        for place, table in load_profile(name).cited_tables():
            kind = getattr(table, "mode", getattr(table, "kind", ""))
            known = listed[kind if kind in listed else place.rpartition(".")[2]]
            assert {key for key, _, _ in table.numbers()} <= known | {"kind"}, (name, place)
    sigma = next(key for key in document("profiles", "keys", "stuck-devices")["keys"] if key["name"] == "at_g_min")
    assert sigma["takes"] == "a number >= 0 and <= 1"
    assert (sigma["default"], sigma["meaning"]) == ("required", "share of the devices")
    assert document("profiles", "keys", "relaxation")["keys"][2]["takes"] == "a list, each a curve"
    out = run("profiles", "keys", "accumulate")[1]
    assert "weight_at_full_scale: weight that one unit" in out
    assert "once |chi| reaches the threshold" in out
    assert "programming-noise" in run("profiles", "keys")[1]
    assert "did you mean read-noise" in refusal("profiles", "keys", "reed-noise")


def test_profiles_check(run, document, refusal, tmp_path):
    (tmp_path / "good.toml").write_text(profile_text())
    assert document("profiles", "check", "good.toml")["valid"] is True
    assert "valid" in run("profiles", "check", "good.toml")[1]
    (tmp_path / "bad.toml").write_text(profile_text().replace("sigma = 1e-3", "sigma = -1"))
    assert "bad.toml: calibration.effects.0.gaussian-node.sigma" in refusal("profiles", "check", "bad.toml")
    assert "No such file" in refusal("profiles", "check", "none.toml")
    assert "ends in .toml" in refusal("profiles", "check", "gaussian-node")
    assert "bad.toml" in refusal(*TRAIN, "--profile", "bad.toml")


def test_train(run, document, tmp_path):
    found = document(*TRAIN)
    assert found["id"] in found["file"]
    assert Path(found["file"]).is_file()
    assert found["config"]["hidden"] == [8]
    assert found["recipes"][0] == "*"
    assert 0 <= found["final"]["accuracy_at_once"] <= 1
    assert len(found["epochs"]["held_out_accuracy"]) == 1
    assert set(found["baselines"]) == {"chance", "majority class", "ridge readout"}
    assert document(*TRAIN) == found  # read, not run again
    status, out, err = run(*TRAIN, "--resume")
    assert (status, err) == (0, "")
    for part in ("recipes: *", "settings: baseline=clean", "accuracy at once", "chance", found["file"]):
        assert part in out
    assert out.endswith(f"run file: {found['file']} (read from file: the run was finished before)\n")
    (tmp_path / found["file"]).unlink()
    assert run(*TRAIN)[1].endswith(f"run file: {found['file']}\n")


def test_train_on_a_profile_of_ones_own(document, tmp_path):
    (tmp_path / "mine.toml").write_text(profile_text().replace('name = "gaussian-node"', 'name = "mine"'))
    assert document(*TRAIN, "--profile", "mine.toml")["config"]["profile"] == "mine"


def test_compare(run, document):
    found = document(*COMPARE, "--profiles", f"gaussian-node,{PCM}")
    rows = {(row["rule"], row["profile"]): row for row in found["rows"]}
    assert len(rows) == 4
    assert rows["np", PCM]["refused"].startswith("refused: ")
    assert rows["bp", PCM]["summary"]["accuracy_at_once"]["n"] == 2
    assert len(rows["bp", "gaussian-node"]["files"]) == 2
    assert Path(found["plot"]).read_bytes().startswith(b"\x89PNG")
    assert document(*COMPARE, "--profiles", f"gaussian-node,{PCM}") == found
    status, out, err = run(*COMPARE, "--profiles", f"gaussian-node,{PCM}")
    assert (status, err) == (0, "")
    assert all(part in out for part in ("refused: needs", "(trivial baseline)", "±", "plot: "))


def test_compare_with_nothing_to_run(document):
    found = document("compare", "--task", "mnist-sample", "--rules", "np", "--profiles", PCM, "--seeds", "0")
    assert (found["plot"], found["rows"][0]["files"]) == (None, [])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--task", "mnits"], "did you mean mnist"),
        (["--rule", "danq"], "did you mean danp"),
        (["--profile", "gausian-node"], "did you mean gaussian-node"),
        (["--profile", "none.toml"], "No such file"),
        (["--optimizer", "addam"], "did you mean adam"),
        (["--optimizer", "lbfgs"], "several times a step"),
        (["--baseline", "quiet"], "'clean', 'noisy' or 'mean'"),
        (["--scale", "huge"], "'network', 'layer' or 'rnn-paper'"),
        (["--rule", "np", "--scale", "layer"], "--scale has no effect on rule np"),
        (["--schedule", "line"], "unknown schedule 'line'; did you mean LinearLR, cosine"),
        (["--network", "rnn"], "choose mlp or convnet or convnet-64"),
        (["--held-out", "train"], "held_out"),
        (["--draws", "0"], "draws"),
        (["--lr", "nan"], "lr"),
        (["--lr", "-1"], "lr"),
        (["--lr", "inf"], "lr"),
        (["--epochs", "0"], "epochs"),
        (["--patience", "3"], "on the test part: say --held-out validation"),
        (["--learning-rate", "0.1"], "there is no option --learning-rate; say --lr"),
        (["--seed", "-1"], "seed"),
        (["--batch", "100000"], "--batch 100000 is more than the 200 training samples"),
        (["--hidden", "abc"], "--hidden 'abc'"),
        (["--hidden", "3,-1"], "--hidden '3,-1'"),
        (["--hidden", "100000000000"], "not enough memory"),
        (["--decorrelation-rate", "0.1"], "say --rule danp"),
        (["--rule", "danp", "--decorrelation-rate", "inf"], "decorrelation_rate"),
        (["--device", "gpu"], "choose auto, cpu or cuda"),
        (["--device", "cuda:77"], "CUDA devices"),
        (["--rule", "np", "--profile", PCM], "rules that work there: "),
        (["--profile", "ideal"], "noise that perturbs"),
        (["--out", "file"], "--out"),
        (["--out", "file/below"], "--out"),
        (["--network", "convnet"], "--hidden goes with --network mlp"),
        (["--write", "accumulate"], "has no pulsed devices"),
        (["--profile", ECRAM, "--write", "auxiliary"], "for example --write auxiliary,read_noise=0.01,symmetry_error"),
        (["--profile", ECRAM, "--write", "accumulte"], "did you mean accumulate"),
        (["--profile", ECRAM, "--write", "accumulate,threshold"], "give key=number"),
        (["--profile", ECRAM, "--write", "accumulate,treshold=1"], "treshold"),
        (["--profile", ECRAM, "--write", "accumulate,threshold=-1"], "threshold"),
        (["--rule", "bptt"], "say bp"),
        (["--task", "mackey-glass", "--rule", "bp"], "say bptt"),
        (["--task", "mackey-glass", "--rule", "anp", "--credit", "futur"], "credit"),
        (["--task", "mackey-glass", "--rule", "anp", "--hidden", "0", "--batch", "5"], "--hidden is empty"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_train_refuses(options, named, refusal, tmp_path):
    (tmp_path / "file").touch()
    given = dict(zip(TRAIN[1::2], TRAIN[2::2], strict=True)) | dict(zip(options[::2], options[1::2], strict=True))
    assert named in refusal("train", *(item for pair in given.items() for item in pair))
    assert not list(tmp_path.rglob("*.h5"))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--rules", "np,,bp"], "--rules 'np,,bp'"),
        (["--rules", "np,anq"], "did you mean anp"),
        (["--rules", "np,np"], "twice"),
        (["--seeds", "a"], "--seeds 'a'"),
        (["--seeds", "-1"], "seed"),
        (["--profiles", "gaussian-node,ideel"], "did you mean ideal"),
        (["--epochs", "0"], "epochs"),
        (["--task", "sarcoss"], "did you mean sarcos"),
        (["--out", "file/below"], "--out"),
        (["--tune-lr", "a"], "--tune-lr 'a'"),
        (["--tune-lr", "-1"], "--tune-lr -1"),
        (["--tune-lr", "1e-3", "--lr", "1e-3"], "leave --lr out"),
        (["--tune-lr", "1e-3", "--held-out", "test"], "leave --lr and --held-out out"),
        (["--tune-lr", "1e-3", "--tune-epochs", "0"], "--tune-epochs 0"),
        (["--tune-epochs", "3"], "goes with --tune-lr"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_compare_refuses(options, named, refusal, tmp_path):
    (tmp_path / "file").touch()
    assert named in refusal(*COMPARE, *options)
    assert not list(tmp_path.rglob("*.h5"))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["rules", "show", "amp"], "did you mean anp"),
        (["tasks", "show", "mnist-sampel"], "did you mean mnist-sample"),
        (["profiles", "show", "pcm"], "pcm-nandakumar-2019"),
        (["profiles", "show", "ideal", "--plot", "a.png"], "no devices"),
        (["profiles", "show", PCM, "--plot", "no/a.png"], "plot no/a.png: cannot be written"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_other_commands_refuse(arguments, named, refusal):
    assert named in refusal(*arguments)


def test_missing_and_damaged_data(refusal, tmp_path):
    sarcos = ["train", "--task", "sarcos", "--rule", "anp", "--data-dir"]
    assert "'none' (from data_dir) is not a folder" in refusal(*sarcos, "none")
    (tmp_path / "data" / "sarcos").mkdir(parents=True)
    assert "data/sarcos/sarcos_inv_test.mat'; get it from" in refusal(*sarcos, "data")
    (tmp_path / "data" / "sarcos" / "sarcos_inv_test.mat").write_bytes(b"short")
    assert "damaged data file" in refusal(*sarcos, "data")
    assert "missing data file" in refusal("tasks", "show", "mnist", "--data-dir", "data")


def test_runaway(run):
    first = run(*TRAIN, "--lr", "1e15", "--json")
    assert first[:2] == (1, "")
    assert "layer 'hidden1' ran away" in first[2]
    assert "lower --lr (now 1e+15)" in first[2]
    assert first[2].count("\n") == 1
    again = run(*TRAIN, "--lr", "1e15", "--resume")
    assert again[:2] == (1, "")
    assert "would again" in again[2]


def test_terminal_without_unicode():
    command = [sys.executable, "-c", "from noisylearn.cli import main; main()", "rules", "list"]
    result = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, timeout=100)
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.isascii()


def interrupted(folder):
    """Ctrl-C during the third step."""
    os.chdir(folder)
    log = os.open("log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    original = Trainer.step

    def step(training):
        if training.progress.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return original(training)

    Trainer.step = step
    sys.argv = ["noisylearn", *TRAIN, "--json"]
    cli.main()


def test_ctrl_c(tmp_path, document):
    assert in_child(interrupted, tmp_path) == 130
    log = (tmp_path / "log").read_text()
    assert log.startswith("interrupted; ")
    assert log.count("\n") == 1
    assert RunFile(next(tmp_path.glob("runs/*.h5"))).read()["status"] == "running"
    assert "final" in document(*TRAIN, "--resume")


def test_rules_show_says_where_backprop_through_time_runs(run):
    status, out, _ = run("rules", "show", "bptt")
    assert status == 0
    assert "profiles it can learn on: capacitor-li-2018" in out
    assert "none" not in out.splitlines()[-1]
    assert "truncate = 3" in run("rules", "show", "tbptt3")[1]
