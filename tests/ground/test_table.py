"""One record of a table, rendered for a terminal and for a page."""

import pytest
from rich.console import Console

from noisylearn.ground.table import Table

TABLE = Table("rules", ("name", "", "passes"), [["np", "a [b]", "2"], ["inp", "", "17"]], numbers=1)


def test_markdown():
    assert TABLE.to_markdown() == "| name | | passes |\n| --- | --- | ---: |\n| np | a [b] | 2 |\n| inp | | 17 |"


def test_terminal():
    console = Console(width=40, markup=False, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(TABLE.to_rich())
    lines = [line.strip() for line in console.export_text().splitlines()]
    assert lines[0] == "rules"
    assert "│ np   │ a [b] │      2 │" in lines
    assert "│ inp  │       │     17 │" in lines


def test_a_row_of_another_length():
    with pytest.raises(ValueError, match="table 'a': 1 cells for 2 columns"):
        Table("a", ("x", "y"), [["1"]])
