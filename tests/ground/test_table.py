"""One record of a table, rendered for a terminal and for a page."""

from xml.etree import ElementTree

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


def test_html_is_escaped_in_every_place():
    hostile = "<img src=x onerror=alert(1)>&\"'"
    html = Table(hostile, (hostile, "n"), [[hostile, "1"]], numbers=1).to_html()
    elements = ElementTree.fromstring(html)  # well formed, so nothing of it became an element
    assert {one.tag for one in elements.iter()} == {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert [one.text for one in elements.iter() if one.text] == [hostile, hostile, "n", hostile, "1"]
    assert [one.get("style", "")[:17] for one in elements.iter("td")] == ["text-align: left;", "text-align: right"]
    assert "color: " not in html.replace("color: inherit", "")  # that of the page, dark or light


def test_facts_have_no_line_for_columns():
    table = Table("chip", ["", ""], [["devices", "12"]])
    assert "<thead>" not in table.to_html()
    assert len(table.to_text().splitlines()) == 4


def test_text_has_no_characters_that_a_terminal_obeys(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b" not in Table("a\x1b[2J", ["b"], [["c\x1b]0;d\x07"]]).to_text()
