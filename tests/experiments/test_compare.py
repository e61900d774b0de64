"""Comparisons: one row a rule and profile, refused ones with their reason, figures over the seeds."""

import math
import statistics
from dataclasses import replace

import pytest
from support.small_runs import PCM, small_task

from noisylearn import tasks
from noisylearn.experiments import compare as compare_module
from noisylearn.experiments import config
from noisylearn.experiments.compare import check_request, compare
from noisylearn.experiments.tuning import Tuning
from noisylearn.ground.errors import RunawayError, UserError
from noisylearn.profiles import load_profile
from noisylearn.report.tables import comparison_table, trivial_baselines

OPTIONS = {"epochs": 2, "batch": 40, "hidden": (8,), "lr": 1e-2}
PROFILES = [load_profile("gaussian-node"), load_profile(PCM)]


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(tasks, "load", small_task)
    monkeypatch.setattr(config, "recipes", lambda: {"*": {}, "*/d*": {"decorrelation_rate": 1e-3}})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def rows(folder):
    return compare("mnist-sample", ["np", "danp", "bp"], PROFILES, [0, 1, 2], OPTIONS, folder)


def test_one_row_a_rule_and_profile(rows):
    assert [(row.rule, row.profile) for row in rows] == [
        (rule, profile.name) for profile in PROFILES for rule in ("np", "danp", "bp")
    ]
    assert [len(row.runs) for row in rows] == [3, 3, 3, 0, 3, 3]
    assert "injected node noise" in rows[3].refused
    assert [row.settings["baseline"] for row in rows[:3]] == ["clean"] * 3
    assert rows[4].settings["baseline"] == "noisy"


def test_figures_over_the_seeds(rows):
    for row in rows:
        for key, found in row.summary().items():
            values = row.finals(key) if key != "wall_s" else [run["wall_s"] for run in row.runs]
            assert found == {
                "median": statistics.median(values),
                "mean": pytest.approx(sum(values) / 3),
                "sd": pytest.approx(statistics.stdev(values)),
                "n": 3,
            }
    assert len({run["final"]["accuracy_at_once"] for row in rows for run in row.runs}) > 3
    assert {"accuracy_after_1_day", "accuracy_after_1_day_compensated"} <= set(rows[4].summary())
    assert "accuracy_after_1_day" not in rows[1].summary()
    assert rows[3].summary() == {}


def test_finished_runs_are_read(rows, folder, monkeypatch):
    assert len(list(folder.glob("*.h5"))) == 15
    monkeypatch.setattr(tasks, "load", None)
    again = compare("mnist-sample", ["np", "danp", "bp"], PROFILES, [0, 1, 2], OPTIONS, folder)
    assert [row.summary() for row in again] == [row.summary() for row in rows]
    with_draws = compare("mnist-sample", ["bp"], PROFILES, [0], {**OPTIONS, "draws": None}, folder)
    assert with_draws[0].files == [rows[2].files[0]]


def test_table(rows):
    table = comparison_table("", rows)
    cells = table.rows
    assert table.columns[3] == "accuracy on chip, at once"
    assert comparison_table("", rows[3:4]).columns[3] == "on chip, at once"  # no row has runs
    assert len(cells) == 6 + 3
    assert cells[3][2].startswith("refused: needs ")
    assert "±" in cells[1][3]
    assert (
        [line[0] for line in cells[6:]]
        == list(trivial_baselines(rows))
        == ["chance", "majority class", "ridge readout"]
    )
    assert [line[5:7] for line in cells[:3]] == [["4", "10"], ["4", "10"], ["2 + 2 backward", "10"]]


def test_learning_rates_are_tried_on_the_validation_part(tmp_path, monkeypatch):
    """Best of the trials, of every rule with the first seed; a trial that runs away is none; the seeds then use it."""
    trials, runs = [], []

    def train(config, *arguments, **options):
        (trials if config.held_out == "validation" else runs).append(config)
        if config.lr == 5.0:
            raise RunawayError("it ran away")
        return original(config, *arguments, **options)

    original = compare_module.train
    monkeypatch.setattr(compare_module, "train", train)
    lrs = (1e-6, 1e-2, 5.0)
    rows = compare(
        "mnist-sample", ["anp", "bp"], PROFILES[:1], [3, 4], OPTIONS, tmp_path, tuning=Tuning({"lr": lrs}, 1)
    )
    assert [(c.rule, c.lr, c.seed, c.epochs) for c in trials] == [(r, lr, 3, 1) for r in ("anp", "bp") for lr in lrs]
    assert [(c.rule, c.lr, c.seed, c.epochs) for c in runs] == [(r, 1e-2, s, 2) for r in ("anp", "bp") for s in (3, 4)]
    for row in rows:
        assert row.settings["lr"] == 1e-2
        assert [trial["lr"] for trial in row.trials] == list(lrs)
        assert row.trials[1]["score"] < row.trials[0]["score"]  # of accuracy, its negative
        assert math.isnan(row.trials[2]["score"])
    assert "lr 0.01 (best of 3)" in comparison_table("", rows).rows[0][2]


@pytest.mark.parametrize(
    ("trials", "said"),
    [
        ([{"lr": 1e-3}, {"lr": 1e-2}], "(best of 2, the largest tried)"),
        ([{"lr": 1e-2}, {"lr": 3e-2}, {"lr": 1e-1}], "(best of 3, the smallest tried)"),
        ([{"lr": 1e-3}, {"lr": 1e-2}, {"lr": 1e-1}], "(best of 3)"),
        ([{"lr": 1e-2, "hidden": (8,)}, {"lr": 1e-2, "hidden": (4,)}], "(best of 2)"),
        ([{"hidden": (8,)}, {"hidden": (4,)}], "(best of 2)"),
    ],
)
def test_a_learning_rate_at_the_edge_of_those_tried_is_said(rows, trials, said):
    row = replace(rows[0], trials=[trial | {"score": 0.0} for trial in trials])
    assert row.settings["lr"] == 1e-2
    assert f"lr 0.01 {said}," in comparison_table("", [row]).rows[0][2]


def test_smallest_learning_rate_where_every_trial_ran_away(tmp_path, monkeypatch):
    def train(config, *arguments, **options):
        raise RunawayError("it ran away")

    monkeypatch.setattr(compare_module, "train", train)
    (row,) = compare("mnist-sample", ["anp"], PROFILES[:1], [0], OPTIONS, tmp_path, tuning=Tuning({"lr": (2.0, 1.0)}))
    assert row.settings["lr"] == 1.0
    assert row.refused == "seed 0 stopped: it ran away"


def test_a_smaller_error_is_better_in_the_trials(tmp_path):
    options = {"epochs": 2, "batch": 40, "hidden": (8,)}
    (row,) = compare(
        "linear-teacher", ["bp"], PROFILES[:1], [0], options, tmp_path, tuning=Tuning({"lr": (1e-2, 1e-6)})
    )
    assert row.settings["lr"] == 1e-2
    assert row.trials[0]["score"] < row.trials[1]["score"]


def test_a_run_that_runs_away_is_part_of_its_row(tmp_path, monkeypatch):
    def train(config, *arguments, **options):
        if config.seed == 1:
            raise RunawayError("it ran away")
        return original(config, *arguments, **options)

    original = compare_module.train
    monkeypatch.setattr(compare_module, "train", train)
    (row,) = compare("mnist-sample", ["anp"], PROFILES[:1], [0, 1, 2], OPTIONS, tmp_path)
    assert (len(row.runs), row.refused) == (2, "seed 1 stopped: it ran away")
    assert "seed 1 stopped" in comparison_table("", [row]).rows[0][2]
    assert row.summary()["wall_s"]["n"] == 2


@pytest.mark.parametrize(
    ("task", "rules", "options", "named"),
    [
        ("mnits", ["np"], {}, "did you mean mnist"),
        ("mnist-sample", ["anp", "anq"], {}, "did you mean anp"),
        ("mnist-sample", ["anp", "bp"], {"lr": -1.0}, "lr: "),
        ("mnist-sample", ["anp", "bp"], {"scale": "huge"}, "scale: "),
        ("mnist-sample", ["np", "bp"], {"scale": "layer"}, "--scale has no effect on np, bp"),
        ("mackey-glass", ["bptt"], {"update": "online"}, "^--update has no effect on rule bptt$"),
        ("mnist-sample", ["anp", "bp"], {"seq_len": 9}, "^--seq-len goes with tasks that have sequences$"),
        ("mnist-sample", ["nrl"], {"batch_parts": 2}, "^--batch-parts has no effect on rule nrl$"),
        ("mnist-sample", ["anp"], {"optimizer": "adamm"}, "did you mean adam"),
        ("mnist-sample", ["anp"], {"device": "tpu"}, "device 'tpu'"),
    ],
)
def test_wrong_request_runs_nothing(task, rules, options, named, tmp_path):
    with pytest.raises(UserError, match=named):
        compare(task, rules, PROFILES[:1], [0], {**OPTIONS, **options}, tmp_path)
    assert not list(tmp_path.glob("*"))


def test_one_warning_names_the_options_that_some_rules_do_not_use(tmp_path):
    options = {**OPTIONS, "epochs": 1, "draws": 2, "batch_parts": 2, "scale": "layer"}
    told = r"^options without effect: --draws on bp; --batch-parts on nrl; --scale on nrl, bp$"
    with pytest.warns(UserWarning, match=told):
        rows = compare("mnist-sample", ["anp", "nrl", "bp"], PROFILES[:1], [0], options, tmp_path)
    assert [row.settings["batch_parts"] for row in rows] == [2, 1, 2]


@pytest.mark.parametrize(
    ("rules", "profiles", "seeds", "named"),
    [
        ([], ["a"], [0], "--rules"),
        (["a", "a"], ["a"], [0], "--rules names something twice"),
        (["a"], ["a"], [1, 2, 1], "--seeds names something twice"),
        (["a"], ["b", "b"], [1], "--profiles names something twice"),
    ],
)
def test_empty_or_repeating_list(rules, profiles, seeds, named):
    with pytest.raises(UserError, match=named):
        check_request(rules, profiles, seeds)


def test_a_run_that_fails_is_part_of_its_row(tmp_path, monkeypatch):
    """A user's mistake in one file, or a fault of the package; where it is all runs, the command ends."""

    def train(config, *arguments, **options):
        if config.seed == 1:
            raise UserError("its file is damaged")
        if config.seed == 2:
            raise ZeroDivisionError("division by zero")
        return original(config, *arguments, **options)

    original = compare_module.train
    monkeypatch.setattr(compare_module, "train", train)
    (row,) = compare("mnist-sample", ["anp"], PROFILES[:1], [0, 1, 2], OPTIONS, tmp_path)
    assert len(row.runs) == 1
    assert row.refused.startswith("seed 1 refused: its file is damaged; seed 2 failed: ZeroDivisionError: division")
    assert "this is a fault of noisylearn" in row.refused
    with pytest.raises(UserError, match=r"^its file is damaged$"):
        compare("mnist-sample", ["anp"], PROFILES[:1], [1], OPTIONS, tmp_path)
    with pytest.raises(UserError, match="fault of noisylearn"):
        compare("mnist-sample", ["anp"], PROFILES[:1], [2], OPTIONS, tmp_path)


def test_trials_that_fail_are_said(tmp_path, monkeypatch):
    def train(config, *arguments, **options):
        if config.lr == 1e-2:
            raise UserError("its file is damaged")
        return original(config, *arguments, **options)

    original = compare_module.train
    monkeypatch.setattr(compare_module, "train", train)
    tuning = Tuning({"lr": (1e-2, 1e-3)}, 1)
    with pytest.warns(UserWarning, match=r"anp on gaussian-node, trial lr 0.01: refused: its file is damaged"):
        (row,) = compare("mnist-sample", ["anp"], PROFILES[:1], [0], OPTIONS, tmp_path, tuning=tuning)
    assert row.settings["lr"] == 1e-3
