"""The parts of a page: rows of run files, tables, charts, cautions."""

from pathlib import Path

import pytest
from support.page_runs import BASELINES, run_tree
from support.small_runs import PCM, profile_text

from noisylearn.profiles import load_profile
from noisylearn.report.curves import device_panels
from noisylearn.report.figures import comparison_csv
from noisylearn.report.page.cautions import cautions
from noisylearn.report.page.charts import layer_charts, learning_chart, passes_chart
from noisylearn.report.page.device_chart import device_chart
from noisylearn.report.page.drift_chart import drift_chart
from noisylearn.report.page.rows import rows_of
from noisylearn.report.page.series import series_of
from noisylearn.report.page.tables import results_table, runs_table, settings_tables


def found(*trees):
    return rows_of({Path(f"{number}.h5"): tree for number, tree in enumerate(trees)})


def rows(*trees):
    return found(*trees).comparisons["digits"]


TWO_RULES = (
    run_tree(seed=0, curve=(0.2, 0.6)),
    run_tree(seed=1, curve=(0.4, 0.8)),
    run_tree("bp", seed=0, curve=(0.5, 0.9)),
)


def test_runs_that_differ_in_the_seed_alone_are_one_row():
    anp, bp = rows(*TWO_RULES)
    assert [len(row.runs) for row in (anp, bp)] == [2, 1]
    assert anp.files == ["0.h5", "1.h5"]
    others = [
        run_tree(seed=2, lr=0.5),
        run_tree("anp", "gaussian-node", baseline="noisy"),
        run_tree(seed=3, hidden=(4,)),
    ]
    assert len(rows(*TWO_RULES, *others)) == 5
    assert rows(*TWO_RULES, *others)[0].profile == "gaussian-node"


def test_a_copy_of_a_run_is_no_second_seed():
    assert [len(row.runs) for row in rows(run_tree(), run_tree())] == [1]


def test_runs_of_several_tasks_are_several_comparisons():
    of = found(run_tree(), run_tree(task="own.py:Mine")).comparisons
    assert {task: len(rows) for task, rows in of.items()} == {"digits": 1, "own.py:Mine": 1}


def test_what_is_not_finished_is_the_reason_of_its_row():
    of = found(run_tree(), run_tree(seed=1, status="stopped"), run_tree(seed=2, status="running"))
    (row,) = of.comparisons["digits"]
    assert row.refused == "seed 1, stopped: the loss is not finite; seed 2, not finished: it is at step 2"
    assert [path.name for path in of.unread] == ["1.h5", "2.h5"]
    assert cautions(series_of([row]))[0].endswith(row.refused)


def test_a_run_that_this_version_does_not_know_is_named():
    of = found(run_tree() | {"config": '{"task": "digits"}'}, run_tree(seed=1))
    assert list(of.unread) == [Path("0.h5")]
    assert len(of.comparisons["digits"]) == 1


def test_runs_with_other_scores_are_no_rows_of_one_table():
    other = run_tree(seed=1)
    other["final"] = {"mse_at_once": 0.1} | {k: v for k, v in other["final"].items() if not k.startswith("accuracy")}
    assert list(found(run_tree(), other).unread) == [Path("1.h5")]


def test_runs_on_the_validation_part_are_trials():
    """Of three rates the best is the largest; a trial of other settings is counted, and no row."""
    scores = {1e-3: 0.1, 2e-3: 0.2, 4e-3: 0.3}
    trials = [run_tree(held_out="validation", lr=lr, curve=(score,)) for lr, score in scores.items()]
    other = run_tree(held_out="validation", hidden=(3,))
    of = found(*trials, other, run_tree(lr=4e-3), run_tree(lr=4e-3, seed=1))
    (row,) = of.comparisons["digits"]
    assert row.trials == [{"lr": lr, "score": -score} for lr, score in scores.items()]
    assert of.notes == ["1 runs on the validation part, trials of other settings, are left out."]
    (said,) = cautions(series_of([row]))
    assert said.endswith("others may be better: the largest tried (anp, 8 draws).")
    assert len(found(*trials).comparisons["digits"]) == 3


def test_rows_have_labels_of_their_own():
    labels = [one.label for one in series_of(rows(run_tree(lr=0.1), run_tree(lr=0.2), run_tree("bp")))]
    assert labels == ["anp, 8 draws, lr 0.1", "anp, 8 draws, lr 0.2", "bp, then programmed"]
    changed = profile_text().replace("sigma = 1e-3", "sigma = 2e-3")
    same_name = series_of(rows(run_tree(profile="gaussian-node"), run_tree(profile="gaussian-node", text=changed)))
    assert len({one.label for one in same_name}) == 2
    newer = {"versions": '{"noisylearn": "0.2", "torch": "2.7", "python": "3.11"}', "id": "0" * 12}
    series = series_of(rows(run_tree(), run_tree() | newer))
    assert [one.label[-9:] for one in series] == ["torch 2.6", "torch 2.7"]
    assert cautions(series)[-1] == "Runs of several versions of torch: 2.6, 2.7."


def test_colour_is_of_the_rule_and_dash_of_the_profile():
    noise = {"baseline": "noisy", "draws": 8}
    four = rows(*(run_tree(label, profile, **noise) for label in ("anp", "lf") for profile in (PCM, "gaussian-node")))
    anp, lf, anp_pcm, lf_pcm = series_of(four)
    assert anp.color == anp_pcm.color != lf.color == lf_pcm.color
    assert anp.dash == lf.dash != anp_pcm.dash == lf_pcm.dash


def test_results_have_medians_ranges_and_baselines():
    table = results_table(series_of(rows(*TWO_RULES)), "accuracy", BASELINES)
    assert table.columns[2:5] == ["accuracy on the chip, at once", "after 1 day", "after 1 day, compensated"]
    assert table.columns[5:7] == ["seeds", "passes over the data"]
    anp, bp, chance, ridge = table.rows
    assert (anp[2].text, anp[2].order, anp[2].note) == ("0.7000", 0.7, "0.6000 to 0.8000")
    assert [cell.order for cell in anp[3:5]] == pytest.approx([0.68, 0.69])
    assert (bp[2].text, bp[2].note, bp[6].text, bp[6].note, bp[6].order) == ("0.9000", "", "4 forward", "2 backward", 6)
    assert [row[0].text for row in (chance, ridge)] == ["chance", "ridge readout"]
    assert list(table.kinds) == ["", "", "baseline", "baseline"]


def test_results_say_what_rows_of_one_name_differ_in():
    trees = [run_tree(epochs=2), run_tree(seed=1, epochs=5), run_tree("bp")]
    alike = rows(*trees)
    table = results_table(series_of(alike), "accuracy", {})
    notes = {row[0].note.split("; ")[0] for row in table.rows if row[0].text.startswith("anp")}
    assert notes == {"epochs 2", "epochs 5"}
    assert all("epochs" not in row[0].note for row in table.rows if row[0].text.startswith("bp"))


def test_columns_in_which_nothing_stands_are_left_out():
    table = results_table(series_of(rows(run_tree(profile="gaussian-node"))), "accuracy", BASELINES)
    assert "after 1 day" not in table.columns
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_settings_are_shared_or_in_a_table():
    """A rate that differs is in the table; draws, of which backprop has none, as well; the same batch is shared."""
    shared, table = settings_tables(series_of(rows(run_tree(lr=0.1), run_tree("bp", lr=0.2))))
    assert shared["batch"] == "10"
    assert shared["torch"] == "2.6"
    column = {name: [row[i].text for row in table.rows] for i, name in enumerate(table.columns)}
    assert column["lr"] == ["0.1", "0.2"]
    assert column["draws"] == ["8", "-"]
    assert "batch" not in column


def test_runs_are_listed_with_versions_and_machine():
    texts = [[cell.text for cell in row] for row in runs_table(series_of(rows(*TWO_RULES))).rows]
    assert [row[1] for row in texts] == ["0", "1", "0"]
    assert texts[0][5:7] == ["noisylearn 0.2, torch 2.6, python 3.11", "x86_64"]


def test_runs_say_when_they_ended():
    """In UTC, whatever the zone in the file: 00:30 two hours east of it is 22:30 the day before."""
    run = run_tree() | {"started": "2026-02-28T23:00:00+00:00", "ended": "2026-03-01T00:30:00+02:00"}
    assert runs_table(series_of(rows(run))).rows[0][7].text == "2026-02-28 22:30 UTC"


def test_unequal_updates_and_single_seeds_are_said():
    more = run_tree("bp")
    more["final"]["weight_updates"] = 40
    said = cautions(series_of(rows(run_tree(), more)))
    assert said[0].startswith("Unequal numbers of weight updates: 20 (anp, 8 draws); 40 (bp, then programmed)")
    assert said[1].startswith("One seed alone")
    assert cautions(series_of(rows(*TWO_RULES[:2]))) == []
    early = [run_tree(seed=seed) | {"stopped_early": "no better score"} for seed in (0, 1)]
    assert cautions(series_of(rows(*early))) == ["anp, 8 draws ended early: no better score."]


def test_curves_have_medians_ranges_and_passes():
    """Over three seeds; of four forward and two backward passes half are done after the first of two epochs."""
    anp = [run_tree("bp", seed=seed, curve=curve) for seed, curve in enumerate(((0.1, 0.9), (0.3, 0.5), (0.2, 0.6)))]
    series = series_of(rows(*anp))
    first, last = learning_chart(series, "accuracy", BASELINES).spec["data"]["values"]
    assert (first["median"], first["low"], first["high"], first["epoch"]) == (0.2, 0.1, 0.3, 1)
    assert (last["median"], last["low"], last["high"], last["epoch"]) == (0.6, 0.5, 0.9, 2)
    assert [value["passes"] for value in passes_chart(series, "accuracy", BASELINES).spec["data"]["values"]] == [3, 6]
    axis = passes_chart(series, "accuracy", BASELINES).spec["layer"][1]["encoding"]["x"]
    assert axis["scale"]["type"] == "log"


def test_numbers_that_are_not_finite_are_left_out():
    values = learning_chart(series_of(rows(run_tree(curve=(float("nan"), 0.5)))), "accuracy", {}).spec["data"]["values"]
    assert [value["epoch"] for value in values] == [2]


def test_names_of_baselines_that_lie_close_are_written_as_one():
    near = {"chance": 0.5, "majority class": 0.5001, "ridge": 0.7, "far": 0.01}
    names = learning_chart(series_of(rows(*TWO_RULES)), "accuracy", near).spec["layer"][-1]["data"]["values"]
    assert [value["name"] for value in names] == ["ridge"]  # the axis begins below the best baseline
    errors = learning_chart(series_of(rows(run_tree(curve=(0.4, 0.6)))), "mse", near)
    assert errors.spec["layer"][0]["encoding"]["y"]["scale"]["type"] == "log"
    low = learning_chart(series_of(rows(run_tree(curve=(0.4, 0.49)))), "accuracy", near)
    names = [value["name"] for value in low.spec["layer"][-1]["data"]["values"]]
    assert names == ["chance, majority class", "ridge"]


def test_drift_is_drawn_where_there_is_any():
    values = drift_chart(series_of(rows(*TWO_RULES)), "accuracy").spec["data"]["values"]
    drawn = {(value["series"], value["when"]): value["score"] for value in values}
    assert drawn["anp, 8 draws", "at once"] == 0.7
    assert drawn["anp, 8 draws", "after 1 day"] == 0.68
    assert drawn["anp, 8 draws", "after 1 day, compensated"] == 0.69
    assert drift_chart(series_of(rows(run_tree(profile="gaussian-node"))), "accuracy") is None


def test_layers_have_charts_also_behind_a_decorrelation():
    decorrelated = run_tree("danp")
    curves = decorrelated["metrics"]["epoch"]
    curves["alignment_hidden1.layer"] = curves.pop("alignment_hidden1")
    alignment, noise = layer_charts(series_of(rows(run_tree(), decorrelated)))
    assert alignment.title == "layer hidden1: cosine with the true gradient"
    assert {value["series"] for value in alignment.spec["data"]["values"]} == {"anp, 8 draws", "danp, 8 draws"}
    assert {value["median"] for value in noise.spec["data"]["values"]} == {0.01}


def test_device_curves_are_those_of_the_publication():
    """Programming noise at the largest conductance is the polynomial at 1: 0.26348 + 1.9650 - 1.1731 uS."""
    panels = {panel.title: panel for panel in device_panels(load_profile(PCM))}
    assert list(panels) == ["error of writing", "read noise", "drift"]
    assert float(panels["error of writing"].curves[0].y[-1]) == pytest.approx(1.05538, rel=1e-3)
    drawn = device_chart(panels["error of writing"]).spec["data"]["values"]
    assert drawn[0]["x"] == 0.0
    assert len(drawn) < 150
    assert device_chart(panels["drift"]).spec["layer"][1]["encoding"]["x"]["scale"]["type"] == "log"
    assert device_panels(load_profile("gaussian-node")) == []


def test_drift_is_drawn_against_the_time_after_programming():
    """Whose first read, of what the formulas start from, comes t0 = 20 s after it."""
    (drift,) = (panel for panel in device_panels(load_profile(PCM)) if panel.title == "drift")
    for curve in drift.curves:
        assert (float(curve.x[0]), float(curve.x[-1])) == (20 + 1, 20 + 1e6)


def test_csv_has_a_line_for_every_row_and_baseline():
    lines = comparison_csv(rows(*TWO_RULES)).splitlines()
    columns = lines[0].split(",")
    anp = dict(zip(columns, lines[1].replace('"anp, 8 draws"', "anp").split(","), strict=True))
    assert (anp["rule"], anp["seeds"]) == ("anp", "2")
    scores = [float(anp[f"accuracy_at_once_{what}"]) for what in ("median", "low", "high")]
    assert scores == pytest.approx([0.7, 0.6, 0.8])
    assert [line.split(",")[0] for line in lines[1:]] == ["anp", "bp", "chance", "ridge readout"]
