"""A table for people to read: one record, and one renderer for each form of it."""

import html
import io
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table as RichTable


@dataclass(frozen=True)
class Table:
    """Rows of cells under columns.

    Args:
        title: a line above the table; pages in Markdown have headings of their own instead.
        columns: their names, one for every cell of a row; where all are empty, no line is shown for them.
        rows: of cells, as text.
        numbers: so many columns at the right hold numbers, which are aligned to the right.

    Raises:
        ValueError: a row has more or fewer cells than there are columns.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: int = 0

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"table '{self.title}': {len(row)} cells for {len(self.columns)} columns: {row}")

    def to_rich(self) -> "RichTable":
        """For a terminal."""
        from rich.table import Table as RichTable

        table = RichTable(title=_printable(self.title), title_justify="left", show_header=any(self.columns))
        for column, right in zip(self.columns, self._right(), strict=True):
            table.add_column(column, justify="right" if right else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*map(_printable, row))
        return table

    def to_markdown(self) -> str:
        """For a page: lines without an end of line after the last."""
        marks = ["---:" if right else "---" for right in self._right()]
        lines = [self.columns, marks, *self.rows]
        return "\n".join("|" + "".join(f" {cell} |" if cell else " |" for cell in cells) for cells in lines)

    def to_text(self, width: int = 100) -> str:
        """As on a terminal, without colours and without an end of line after the last.

        Args:
            width: characters of a line, at most.
        """
        from rich.console import Console

        text = io.StringIO()
        here = Console(file=text, width=width, force_terminal=False, force_jupyter=False, markup=False, emoji=False)
        here.print(self.to_rich(), highlight=False)
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())

    def to_html(self) -> str:
        """For a notebook: title and cells as they are, escaped, in the colours of the page that shows them."""
        sides = ["right" if right else "left" for right in self._right()]

        def line(kind: str, cells: Sequence[str]) -> str:
            shown = [
                f'<{kind} style="text-align: {side}; white-space: pre-wrap">{html.escape(_printable(cell))}</{kind}>'
                for cell, side in zip(cells, sides, strict=True)
            ]
            return f"<tr>{''.join(shown)}</tr>"

        caption = (
            '<caption style="caption-side: top; text-align: left; color: inherit; font-weight: bold">'
            f"{html.escape(_printable(self.title))}</caption>"
        )
        head = f"<thead>{line('th', self.columns)}</thead>" if any(self.columns) else ""
        body = "".join(line("td", row) for row in self.rows)
        return f"<table>{caption}{head}<tbody>{body}</tbody></table>"

    def _right(self) -> list[bool]:
        return [i >= len(self.columns) - self.numbers for i in range(len(self.columns))]


def _printable(text: str) -> str:
    """A text, which may come from anyone's file, without characters that a terminal obeys."""
    return "".join(char if char.isprintable() or char == "\n" else "?" for char in text)


class Shown:
    """An object that shows itself as tables: as text, and in notebooks."""

    @abstractmethod
    def tables(self) -> Sequence[Table]:
        """What it is, for people to read."""

    def summary(self) -> str:
        """What it is, as text to print."""
        return "\n\n".join(table.to_text() for table in self.tables())

    def _repr_html_(self) -> str:
        """What it is, as notebooks show it."""
        return "".join(table.to_html() for table in self.tables())
