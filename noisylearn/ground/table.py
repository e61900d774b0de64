"""A table for people to read: one record, and one renderer for each form of it."""

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
        columns: their names, one for every cell of a row.
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

        table = RichTable(title=self.title, title_justify="left")
        for column, right in zip(self.columns, self._right(), strict=True):
            table.add_column(column, justify="right" if right else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*row)
        return table

    def to_markdown(self) -> str:
        """For a page: lines without an end of line after the last."""
        marks = ["---:" if right else "---" for right in self._right()]
        lines = [self.columns, marks, *self.rows]
        return "\n".join("|" + "".join(f" {cell} |" if cell else " |" for cell in cells) for cells in lines)

    def _right(self) -> list[bool]:
        return [i >= len(self.columns) - self.numbers for i in range(len(self.columns))]
