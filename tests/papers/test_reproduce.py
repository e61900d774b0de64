"""The command `noisylearn reproduce` and what it leaves: kept parts, interruptions, messages, pages."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from noisylearn.ground.errors import UserError
from noisylearn.ground.tree_file import Tree
from noisylearn.papers import PAPERS, STUDIES, Study, study
from noisylearn.papers.harness.measures import curve
from noisylearn.papers.harness.pages import figure_cells, paper_page, write_pages
from noisylearn.papers.harness.reproduction import measure, reproduce
from noisylearn.papers.harness.results import read_result
from noisylearn.papers.harness.rule_pieces import Search, injected, rule_piece
from noisylearn.papers.harness.study import Bench, Criterion, Figure, Found, Judgement, Piece, Report
from noisylearn.papers.harness.study_page import study_page


def counting(calls: list[str], fails: str = "") -> Study:
    """A study of three pieces that writes down what it works at."""

    def work(name: str, bench: Bench, report: Report) -> Tree:
        calls.append(name)
        if name == fails:
            raise KeyboardInterrupt
        report(0.5)
        return {"value": float(len(name))}

    def pieces(size: Any, seeds: Sequence[int]) -> list[Piece]:
        names = ("a", "bb", "ccc")
        return [Piece(name, {"name": name, "size": size}, partial(work, name), len(name)) for name in names]

    def judge(size: Any, found: Found) -> Judgement:
        values = {name: tree["value"] for name, tree in found.items()}
        criteria = [
            Criterion("they grow", "1, 2, 3", list(values.values()) == [1, 2, 3]),
            Criterion("they shrink", "1, 2, 3", False),
        ]
        return Judgement([Figure("the last", values["ccc"], 2.0)], criteria)

    def plot(size: Any, found: Found, file: Path) -> None:
        file.write_bytes(b"picture")

    sizes = dict.fromkeys(study("anp-fig5").sizes, 1)
    return replace(study("anp-fig5"), pieces=pieces, judge=judge, plot=plot, sizes=sizes)


def test_an_interrupted_study_goes_on_with_what_is_not_done(tmp_path):
    calls: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        reproduce(counting(calls, fails="bb"), "smoke", 1, tmp_path)
    shares: list[float] = []
    result, file = reproduce(
        counting(calls), "smoke", 1, tmp_path, on_progress=lambda label, share: shares.append(share)
    )
    assert calls == ["a", "bb", "bb", "ccc"]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert result.judgement.verdict == "reproduced in part (1 of 2)"
    assert file.name == "anp-fig5-smoke.h5"
    reproduce(counting(calls), "smoke", 1, tmp_path)
    assert len(calls) == 4


def test_parts_are_measured_alone_and_put_together(tmp_path):
    calls: list[str] = []
    assert measure(counting(calls), "smoke", 1, tmp_path, ["b*", "ccc"]) == ["a"]
    assert measure(counting(calls), "smoke", 1, tmp_path, ["bb"]) == ["a"]
    assert calls == ["bb", "ccc"]
    reproduce(counting(calls), "smoke", 1, tmp_path)
    assert calls == ["bb", "ccc", "a"]
    with pytest.raises(UserError, match="unknown part 'dd'; known: a, bb, ccc"):
        measure(counting(calls), "smoke", 1, tmp_path, ["a", "dd"])


def test_a_study_that_grows_keeps_what_an_earlier_result_found(tmp_path):
    calls: list[str] = []
    _, file = reproduce(counting(calls), "smoke", 1, tmp_path / "first")
    (tmp_path / "second").mkdir()
    file = file.rename(tmp_path / "second" / file.name)
    result, _ = reproduce(counting(calls), "smoke", 1, tmp_path / "second")
    assert calls == ["a", "bb", "ccc"], "nothing anew"
    assert result.found == read_result(file, STUDIES).found
    reproduce(replace(counting(calls), sizes={"smoke": 2}), "smoke", 1, tmp_path / "second")
    assert len(calls) == 6, "of other settings"


def test_a_result_of_other_settings_is_not_current(tmp_path):
    one = counting([])
    result, file = reproduce(one, "smoke", 1, tmp_path)
    assert result.is_current
    changed = replace(one, sizes={**one.sizes, "smoke": 2})
    assert not read_result(file, [changed]).is_current
    calls: list[str] = []
    reproduce(replace(counting(calls), sizes=changed.sizes), "smoke", 1, tmp_path)
    assert calls == ["a", "bb", "ccc"]


def test_damaged_and_foreign_files_are_one_line(tmp_path):
    _, file = reproduce(counting([]), "smoke", 1, tmp_path)
    with pytest.raises(UserError, match="there is none of"):
        read_result(file, [])
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match="damaged"):
        read_result(file, STUDIES)
    with pytest.raises(UserError, match="remove it to make it anew"):
        reproduce(counting([]), "smoke", 1, tmp_path)
    file.unlink()
    part = next((tmp_path / "parts").iterdir())
    part.write_bytes(b"nothing")
    with pytest.raises(UserError, match="remove it to measure that part anew"):
        reproduce(counting([]), "smoke", 1, tmp_path)


def test_the_page_names_what_did_not_reproduce(tmp_path):
    result, _ = reproduce(counting([]), "smoke", 1, tmp_path)
    page = paper_page(PAPERS["anp"], [result])
    assert "- anp-fig5 (smoke): they shrink: 1, 2, 3" in page
    assert "| the last | 3 | 2 | +1 |" in page
    assert "Adam's epsilon" in page
    assert "noisylearn reproduce anp-fig5 --scale smoke --seeds 1" in page


def test_the_page_of_a_result_has_verdict_criteria_figures_and_picture(tmp_path):
    result, _ = reproduce(counting([]), "smoke", 1, tmp_path)
    page = study_page(result, PAPERS["anp"], b"picture")
    for part in ("reproduced in part (1 of 2)", "they shrink", "does not hold", "the last", "a test of the package"):
        assert part in page
    assert "data:image/png;base64,cGljdHVyZQ==" in page
    assert "noisylearn reproduce anp-fig5 --scale smoke --seeds 1" in page


@pytest.mark.parametrize(
    ("figure", "cells"),
    [
        (Figure("q", 44.44, 42.0, 1.26), ["q", "44.4 ± 1.26", "42", "+2.44"]),
        (Figure("q", 5854.3), ["q", "5854", "-", "-"]),
        (Figure("q", 1.5e-4, 2e-4), ["q", "0.00015", "0.0002", "-5e-05"]),
    ],
)
def test_cells(figure, cells):
    assert figure_cells(figure) == cells


def test_a_training_that_runs_away_is_counted(tmp_path):
    options = {"hidden": (8,), "epochs": 1, "batch": 50, "lr": 1e4, "optimizer": "sgd"}
    piece = rule_piece("np", "digits", "np", injected(1e-3), [0, 1], options)
    found = piece.work(Bench(tmp_path), lambda share: None)
    assert found["stopped"] == 2
    assert curve(found, "held_out_accuracy").size == 0
    assert "ran away" in found["refused"] or "not finite" in found["refused"]


def test_a_training_reports_all_of_itself_and_chooses_its_rate(tmp_path):
    shares: list[float] = []
    options = {"hidden": (8,), "epochs": 2, "batch": 100, "baseline": "noisy"}
    piece = rule_piece("bp", "digits", "bp", injected(1e-3), [0, 1], options, Search((1e-4, 1e-2), 1))
    found = piece.work(Bench(tmp_path), shares.append)
    assert shares[-1] == pytest.approx(1.0)
    assert shares == sorted(shares)
    assert found["lr"] == 1e-2
    assert curve(found, "held_out_accuracy").shape == (2, 2)
    assert injected(0.1).all_effects()[0].sigma == 0.1


def test_the_command(run, tmp_path):
    names = [one["name"] for one in json.loads(run("reproduce", "list", "--json")[1])]
    assert names == [one.name for one in STUDIES]
    assert "anp-fig2" in run("reproduce", "list")[1]
    assert "--part goes with a study, not with 'list'" in run("reproduce", "list", "--part", "x")[2]
    arguments = ("reproduce", "anp-fig2", "--scale", "smoke", "--seeds", "1", "--out", tmp_path)
    assert json.loads(run(*arguments, "--part", "*", "--json")[1])["parts_missing"] == []
    document = json.loads(run(*arguments, "--json")[1])
    assert document["study"] == "anp-fig2"
    assert document["criteria"][0]["statement"]
    assert Path(document["plot"]).stat().st_size > 10_000
    assert json.loads((tmp_path / "anp-fig2-smoke.json").read_text()) == document
    assert len(Path(document["page"]).read_text()) < 1_000_000  # it has no charts, and no scripts for them
    assert "criterion" in run(*arguments)[1]
    pages = run("reproduce", "pages", "--out", tmp_path, "--docs", tmp_path / "docs")[1]
    assert str(tmp_path / "docs" / "anp.md") in pages


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["anp-fig22"], "did you mean anp-fig2"),
        (["anp-fig2", "--scale", "large"], "anp-fig2 has smoke, small, paper"),
        (["anp-fig2", "--scale", "smoke", "--seeds", "0"], "give at least 1"),
        (["anp-fig2", "--scale", "smoke", "--device", "tpu"], "choose auto, cpu or cuda"),
        (["pages"], "holds no results"),
    ],
)
def test_mistakes_are_one_line(run, arguments, named, tmp_path):
    status, _, errors = run("reproduce", *arguments, "--out", tmp_path)
    assert status == 1
    assert named in errors
    assert len(errors.strip().splitlines()) == 1


def test_pages_need_results(tmp_path):
    with pytest.raises(UserError, match="holds no results"):
        write_pages(tmp_path, tmp_path, PAPERS, STUDIES)
