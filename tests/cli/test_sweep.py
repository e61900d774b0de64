"""`sweep`, and the options of engines on the commands that have them."""

import json
import re
from pathlib import Path

import pytest

from noisylearn.experiments.run_file import OF_THE_OCCASION
from noisylearn.experiments.sweep import Sweep, read_sweep
from noisylearn.ground.toml import parse_toml
from noisylearn.ground.tree_file import differences
from noisylearn.papers.harness.results import ResultFile

ROOT = Path(__file__).parents[2]
SMALL = """
task = "digits"
rules = ["anp", "wp"]
seeds = [0]
[settings]
epochs = 1
hidden = [8]
batch = 100
[search.over]
lr = [1e-3, 1e-2]
"""
COMPARE = ["compare", "--task", "digits", "--rules", "np,bp", "--epochs", "1", "--hidden", "8", "--batch", "100"]


@pytest.fixture
def small(tmp_path):
    (tmp_path / "small.toml").write_text(SMALL)
    return tmp_path / "small.toml"


def test_sweep_is_a_comparison_with_trials(run, small, tmp_path):
    """The best of the trials is run; a rule that the machine refuses is a row, and has none."""
    status, out, err = run("sweep", small, "--out", tmp_path / "runs", "--json")
    assert (status, err) == (0, "")
    anp, wp = json.loads(out)["rows"]
    assert [sorted(trial) for trial in anp["trials"]] == [["lr", "score"]] * 2
    assert anp["settings"]["lr"] == min(anp["trials"], key=lambda trial: trial["score"])["lr"]
    assert wp["refused"].startswith("refused: needs the injected weight noise")
    assert wp["trials"] == []
    kinds = (".png", ".html", ".csv", ".json")
    assert sorted(kinds) == sorted(path.suffix for path in (tmp_path / "runs").glob("sweep-small-*"))
    text = run("sweep", small, "--out", tmp_path / "runs")[1]
    assert "(best of 2, the" in text


def test_other_settings_that_were_chosen_are_in_the_table(run, small, tmp_path):
    small.write_text(SMALL.replace("hidden = [8]", "") + "hidden = [[8], [4, 4]]\n")
    text = run("sweep", small, "--out", tmp_path)[1]
    settings = " ".join(line.split("│")[3].strip() for line in text.splitlines() if line.startswith("│"))
    assert re.search(r"\(best of 4, the (small|larg)est tried\), 1 epochs, batch 100, hidden (8|4-4)", settings)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("digits", "digit"), "did you mean digits"),
        (("anp", "anq"), "did you mean anp"),
        (("epochs = 1", "epohcs = 1"), "did you mean epochs"),
        (("lr = [1e-3", "lr = [-1e-3"), "lr: must be greater than 0"),
        (("[8]", '["a"]'), "hidden"),
        (('"wp"', '"anp"'), "--rules names something twice"),
    ],
)
def test_sweep_refuses(change, named, run, small, tmp_path):
    small.write_text(SMALL.replace(*change))
    status, _, err = run("sweep", small, "--out", tmp_path / "runs")
    assert status == 1
    assert named in err
    assert err.count("\n") == 1
    assert not list(tmp_path.rglob("*.h5"))


def test_dry_run_lists_and_runs_nothing(run, small, tmp_path):
    given = ["--dry-run", "--slurm", "partition=gpu", "--workers", "3", "--out", tmp_path / "runs"]
    status, out, _ = run("sweep", small, *given)
    assert status == 0
    assert out.startswith("anp on gaussian-node, trial lr 0.001\nanp on gaussian-node, trial lr 0.01\n")
    assert "#SBATCH --array=0-1%2\n" in out
    assert "#SBATCH --partition=gpu\n" in out
    status, out, _ = run(*COMPARE, "--seeds", "0,1", "--dry-run", "--out", tmp_path / "runs")
    assert (status, out.split("\n")[1]) == (0, "np on gaussian-node, seed 1")
    assert not list(tmp_path.rglob("*.h5"))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--engine", "ray"], "unknown engine 'ray'"),
        (["--slurm", "partition"], "--slurm 'partition': give key=value"),
        (["--workers", "0"], "--workers 0"),
        (["--address", "tcp://a:1", "--workers", "2"], "leave it out"),
    ],
)
def test_engines_that_are_refused(options, named, run, tmp_path):
    for command in (COMPARE, ["reproduce", "anp-fig5", "--scale", "smoke"]):
        status, _, err = run(*command, *options, "--out", tmp_path / "runs")
        assert status == 1
        assert named in err
        assert err.count("\n") == 1


@pytest.mark.slow
def test_reproduce_finds_the_same_with_workers(run, tmp_path):
    for folder, options in (("here", []), ("workers", ["--workers", "2"])):
        status, _, err = run("reproduce", "stab-fig2", "--scale", "smoke", "--out", tmp_path / folder, *options)
        assert status == 0, err
    one, other = (ResultFile(tmp_path / folder / "stab-fig2-smoke.h5").read() for folder in ("here", "workers"))
    assert len(one["parts"]) > 1
    assert not list(differences(one, other, OF_THE_OCCASION))


def test_files_in_the_examples_and_docs_are_read():
    assert read_sweep(ROOT / "examples" / "sweep.toml").tuning().number == 3
    (block,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "sweeps.md").read_text(), re.DOTALL)
    assert Sweep.model_validate(parse_toml(block, "block")).tuning().number == 12
