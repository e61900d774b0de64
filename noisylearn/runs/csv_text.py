"""A table of runs as text with commas."""

import csv
import io
from collections.abc import Sequence

from noisylearn.runs.records import Piece


def csv_text(pieces: Sequence[Piece]) -> str:
    """Text of a CSV file: a line with the columns, then one for every row; what a run does not have is empty.

    Args:
        pieces: what every run adds.
    """
    columns = dict.fromkeys(column for piece in pieces for column in (*piece.same, *piece.curves))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for piece in pieces:
        writer.writerows(piece.rows())
    return text.getvalue()
