"""Files of a comparison: two in one folder both stay; every kind says the same."""

import json
import os
import signal
from pathlib import Path

import pytest
from support.page_runs import run_tree
from support.processes import command
from support.small_runs import PCM, in_child, signalled

from noisylearn.cli import compare as comparing
from noisylearn.cli.comparison import comparison_name, show_comparison
from noisylearn.cli.output import AGAIN
from noisylearn.report.page.rows import rows_of

COMPARE = ["compare", "--task", "digits", "--rules", "np,bp", "--epochs", "1", "--hidden", "8", "--batch", "100"]
MORE = ["--rules", "bp", "--seeds", "0", "--epochs", "2"]  # four steps


def test_two_comparisons_in_one_folder_both_stay(run, tmp_path):
    """Another seed is another comparison; the same one again replaces its own files."""
    documents = [
        json.loads(run(*COMPARE, "--rules", "bp", "--seeds", seeds, "--out", tmp_path, "--json")[1])
        for seeds in ("0", "1", "0")
    ]
    assert documents[0] == documents[2]
    for document in documents[:2]:
        assert json.loads(Path(document["page"]).with_suffix(".json").read_text()) == document
        assert [Path(document[what]).is_file() for what in ("plot", "page", "table")] == [True] * 3
    assert documents[0]["page"] != documents[1]["page"]
    assert len(list(tmp_path.glob("compare-digits-*"))) == 8


def test_a_refused_row_is_on_the_page_with_its_reason(run, tmp_path):
    out = run(*COMPARE, "--seeds", "0", "--profiles", PCM, "--out", tmp_path)[1]
    page = next(line for line in out.splitlines() if line.startswith("page: ")).removeprefix("page: ")
    assert "refused: needs the injected node noise itself" in Path(page).read_text()


@pytest.mark.parametrize(
    ("begins", "kept"),
    [("compare-digits", "compare-digits-"), ("compare-../own tasks.py:Mine", "compare-..-own-tasks.py-Mine-")],
)
def test_names_are_safe_and_change_with_what_was_asked(begins, kept):
    names = {comparison_name(begins, asked) for asked in ([1, "a"], [1, "b"], [2, "a"])}
    assert len(names) == 3
    assert all(name.startswith(kept) and "/" not in name for name in names)
    assert comparison_name(begins, [1, "a"]) in names


def test_a_picture_of_someone_else_is_not_replaced(tmp_path):
    rows = rows_of({Path("0.h5"): run_tree()}).comparisons["digits"]
    (tmp_path / "mine.html").write_text("<!doctype html><p>a thesis")
    with pytest.raises(ValueError, match=r"report .*mine\.html: there is a file of another kind"):
        show_comparison("digits", rows, tmp_path / "mine", json=True)
    assert "thesis" in (tmp_path / "mine.html").read_text()


@pytest.mark.parametrize(
    ("number", "status", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_saves_the_run_and_says_how_to_go_on(number, status, word, tmp_path):
    assert in_child(signalled, tmp_path, number, command, *COMPARE, *MORE) == status
    (file,) = (tmp_path / "runs").glob("*.h5")
    assert (tmp_path / "log").read_text() == (
        f"{word}; the state of step 3 is kept in {file}; the same command or call goes on from there\n"
    )


def test_sigterm_between_runs_says_how_to_go_on(monkeypatch, run, tmp_path):
    monkeypatch.setattr(comparing, "compare", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    status, _, said = run(*COMPARE, "--seeds", "0", "--out", tmp_path)
    assert (status, said) == (143, f"terminated; {AGAIN}\n")
