"""Progress: what is said and when, with a clock that the test moves."""

import os
import sys
from itertools import pairwise

import pytest

from noisylearn import progress
from noisylearn.ground.errors import UserError
from noisylearn.progress.item import Item, Pace
from noisylearn.progress.line import ProgressLine
from noisylearn.progress.notebook import Page
from noisylearn.progress.plain import Lines, to_stderr


class _Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return _Clock()


@pytest.fixture
def said():
    return []


@pytest.fixture
def line(clock, said):
    return ProgressLine(Lines(said.append, clock))


def test_nothing_of_short_work(line, clock, said):
    on_step = line.run("np on pcm", epochs=2)
    for step in range(1, 101):
        clock.now = 0.299 * step  # 29.9 s at the end
        on_step(step, 100, 0.5)
    clock.now = 31.0
    on_step(100, 100, 0.5)  # the end is no news
    assert said == []


def test_the_first_line_after_half_a_minute_then_at_every_tenth(line, clock, said):
    """4000 steps of 0.1 s: the first at 30 s; a tenth takes 40 s, which is rarer than half a minute."""
    on_step = line.run("danp on pcm", epochs=10)
    for step in range(1, 4001):
        clock.now = 0.1 * step
        on_step(step, 4000, 0.31)
    assert len(said) == 10
    # (4000 - 300) steps of 0.1 s are 370 s, or 6 min
    assert said[0] == "danp on pcm: step 300 of 4000, epoch 1 of 10, loss 0.3100, 6 min left"
    steps = [int(text.split()[4]) for text in said]
    assert all(400 <= later - before <= 401 for before, later in pairwise(steps))  # by rounding of the share
    assert said[-1].endswith("of 4000, epoch 10 of 10, loss 0.3100, 9 s left")  # 3906 of 4000


def test_half_a_minute_is_the_least_between_two_lines(line, clock, said):
    on_step = line.run("np", epochs=0)
    times = []
    for step in range(1, 101):
        clock.now = float(step)
        on_step(step, 100, 1.0)
        times += [step] * (len(said) - len(times))
    assert times == [30, 60, 90]
    assert "epoch" not in said[0]


def test_of_many_runs_one_line_says_how_many_are_done(line, clock, said):
    """Ten runs of 20 s: none is long enough for a line of its own, all together are."""
    line.expect(10)
    for i in range(10):
        for step in range(1, 11):
            clock.now = 20 * i + 2.0 * step
            line.running(f"run {i}", step, 10, "loss 1.0")
        line.ended(f"run {i}", "ran away" if i == 0 else "")
    assert len(said) == 6
    assert said[0] == "1 of 10 done, 1 not done; run 1: step 5 of 10, loss 1.0, 3 min left"  # 170 s
    assert all(
        later.startswith(f"{n} of 10 done, 1 not done; ") for n, later in zip((2, 4, 5, 7, 8), said[1:], strict=True)
    )


def test_what_was_done_before_a_resume_does_not_count_for_the_time_left(line, clock, said):
    """Half was done before; ten steps a second, 170 s for the rest."""
    on_step = line.run("np on pcm")
    for step in range(2001, 2302):
        clock.now = 1.0 + (step - 2001) / 10
        on_step(step, 4000, 1.0)
    assert [text.split(", ")[-1] for text in said] == ["3 min left"]


def test_runs_that_were_done_before_do_not_count_for_the_time_left(line, clock, said):
    """Two of four were done, the third in half: a run and a half is left, of which 31 of 150 steps take 31 s."""
    line.expect(4)
    for run in ("run 0", "run 1"):
        line.ended(run, "")
    for step in range(50, 82):
        clock.now = step - 50.0
        line.running("run 2", step, 100, "")
    assert said == ["2 of 4 done; run 2: step 80 of 100, 2 min left"]  # 120 s


def test_work_in_parts(line, clock, said):
    on_progress = line.shares()
    for i in range(5):
        clock.now = 20.0 * i
        on_progress(f"part {i}", i / 5)
    assert said == ["part 2: 40%, 60 s left", "part 4: 80%, 20 s left"]


def test_the_time_left_of_a_run_that_is_resumed(clock):
    """Half was done before: what a tenth takes now counts, not the half."""
    pace = Pace(clock)
    assert pace.left(0.5) == ""
    clock.now = 100.0
    assert pace.left(0.6) == "7 min left"  # 0.4 at 0.1 in 100 s: 400 s
    assert pace.left(0.99) == "2 s left"
    clock.now = 36_000.0
    assert pace.left(0.75) == "10.0 h left"
    assert pace.left(1.0) == ""


def test_notes():
    assert progress.note_of(1, 40, 0.25, 4) == "epoch 1 of 4, loss 0.2500"
    assert progress.note_of(10, 40, 0.25, 4) == "epoch 1 of 4, loss 0.2500"
    assert progress.note_of(11, 40, 0.25, 4) == "epoch 2 of 4, loss 0.2500"
    assert progress.note_of(40, 40, float("nan"), 4) == "epoch 4 of 4"
    assert progress.note_of(3, 40, float("nan")) == ""


def test_lines_go_to_standard_error_alone(capsys, monkeypatch):
    to_stderr("half done")
    found = capsys.readouterr()
    assert (found.out, found.err) == ("", "half done\n")
    monkeypatch.setattr(sys, "stderr", None)  # print() would take standard output in its place
    to_stderr("half done")
    assert capsys.readouterr().out == ""


def test_the_variable_decides(monkeypatch, capsys):
    monkeypatch.delenv("NOISYLEARN_PROGRESS", raising=False)
    assert progress.chosen_mode() == "lines"  # standard error is no terminal here
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert progress.chosen_mode() == "bar"
    for mode in ("off", "lines", "bar"):
        monkeypatch.setenv("NOISYLEARN_PROGRESS", mode)
        assert progress.chosen_mode() == mode
    monkeypatch.setenv("NOISYLEARN_PROGRESS", "line")
    with pytest.raises(UserError, match="unknown NOISYLEARN_PROGRESS 'line'; did you mean lines"):
        progress.chosen_mode()
    with progress.shown("bar") as line:
        line.expect(2)
        line.running("[red]np[/red]", 5, 10, "[b]")
    found = capsys.readouterr()
    assert (found.out, "[red]np[/red]" in found.err, "5/10" in found.err) == ("", True, True)
    with progress.shown("off") as line:
        line.run("np")(5, 10, 0.1)
        line.ended("np", "")
    assert capsys.readouterr().err == ""


def test_quiet_holds_for_one_command(run, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "noisylearn.cli.rules._document", lambda rule: seen.append(os.environ.get("NOISYLEARN_PROGRESS"))
    )
    monkeypatch.setenv("NOISYLEARN_PROGRESS", "lines")
    assert run("--quiet", "rules", "list", "--json")[0] == 0
    assert run("rules", "list", "--json")[0] == 0
    assert set(seen[: len(seen) // 2]) == {"off"}
    assert set(seen[len(seen) // 2 :]) == {"lines"}
    assert os.environ["NOISYLEARN_PROGRESS"] == "lines"
    monkeypatch.delenv("NOISYLEARN_PROGRESS")
    assert run("--quiet", "rules", "list", "--json")[0] == 0
    assert "NOISYLEARN_PROGRESS" not in os.environ


class _Handle:
    def __init__(self):
        self.shown = []

    def update(self, content, raw):
        self.shown.append(content)


def test_the_table_of_a_notebook(clock):
    handle = _Handle()
    page = Page(handle, clock)
    for step in range(1, 101):
        clock.now = 0.125 * step
        page.show("a", Item("<script>", step, 100, "loss 1"))
    assert len(handle.shown) == 25  # at every fourth of a hundred steps
    assert "<script>" not in handle.shown[-1]["text/html"]
    assert "&lt;script&gt;" in handle.shown[-1]["text/html"]
    assert "step 97 of 100" in handle.shown[-1]["text/plain"]
    page.drop("a")
    page.draw()
    assert "script" not in handle.shown[-1]["text/html"]
