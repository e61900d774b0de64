"""Files of measurements: comma-separated values with one read in every line."""

import csv
import hashlib
import io
import re
from pathlib import Path

import numpy as np

from noisylearn.fitting.measurements import Measurements, measurements
from noisylearn.ground.errors import UserError, shortened
from noisylearn.ground.regular import read_regular
from noisylearn.ground.replace import FORCE, check_replaceable, replace_file

LARGEST = 256 * 2**20  # bytes
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")  # a comma that need not be a decimal one
COLUMNS = ("experiment", "device", "write", "time_s", "target_us", "conductance_us", "pulse")


def read_measurements(file: Path) -> tuple[Measurements, str]:
    """Read a file of measurements; lines that begin with # are comments.

    Args:
        file: comma-, semicolon- or tab-separated values, the first line with the names of the columns. Numbers have
            decimal points; between semicolons, they may have decimal commas instead.

    Returns:
        The measurements, and the SHA-256 of the file in hexadecimal digits.

    Raises:
        UserError: the file cannot be read, has no such columns, or a value is none.
    """
    where = f"measurements {file}"
    content = read_regular(file, where, LARGEST)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{where}: no text in UTF-8; save the table as CSV") from None
    lines = {
        number: line
        for number, line in enumerate(io.StringIO(text, newline=None), 1)
        if line.strip() and not line.startswith("#")
    }
    if not lines:
        raise UserError(f"{where}: the file is empty; its first line must name the columns")
    columns, numbers = _columns(lines, where)
    made = measurements(columns, where, lambda row: f"line {numbers[row]}")
    return made, hashlib.sha256(content).hexdigest()


def _columns(lines: dict[int, str], where: str) -> tuple[dict[str, list[str]], list[int]]:
    """Columns by their names in the first line, and the number of the line in which each of their rows begins."""
    numbers, header = [*lines], next(iter(lines.values()))
    separator = max(",;\t", key=header.count)
    reader = csv.reader(lines.values(), delimiter=separator)
    rows, begins = [], [0]  # a quoted value may run over several lines
    try:
        for row in reader:
            rows.append(row)
            begins.append(reader.line_num)
    except csv.Error as error:
        raise UserError(f"{where}: line {numbers[reader.line_num - 1]} is no row of a table: {error}") from None
    names = [name.strip() for name in rows[0]]
    begins = [numbers[begin] for begin in begins[1:-1]]
    for number, row in zip(begins, rows[1:], strict=True):
        if len(row) != len(names):
            raise UserError(
                f"{where}: line {number} has {len(row)} values for {len(names)} columns: "
                f"{shortened(separator.join(row))}; give one for each"
                + (
                    "; decimal commas need semicolons between the columns"
                    * (separator == "," and len(row) > len(names))
                )
            )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{where}: column '{shortened(twice)}' is there twice; keep one")
    columns = {name: [row[i] for row in rows[1:]] for i, name in enumerate(names)}
    return (_with_points(columns) if separator == ";" else columns), begins


def _with_points(columns: dict[str, list[str]]) -> dict[str, list[str]]:
    """Columns with decimal points for decimal commas; as they are where a comma may be a mark for thousands."""
    quantities = {name: values for name, values in columns.items() if name not in ("experiment", "device", "write")}
    every = [value.strip() for values in quantities.values() for value in values]
    commas = [value for value in every if "," in value]
    if any("." in value for value in every) or all(THOUSANDS.fullmatch(value) for value in commas):
        return columns
    return columns | {
        name: [value.replace(",", ".") if value.count(",") == 1 else value for value in values]
        for name, values in quantities.items()
    }


def write_measurements(file: Path, made: Measurements, comments: list[str], force: bool = False) -> None:
    """Write a file of measurements, whole or not at all.

    Args:
        file: of comma-separated values.
        made: the measurements.
        comments: lines above the table.
        force: whether to replace whatever file is there.

    Raises:
        UserError: the file cannot be written, or a file is there already.
    """
    check_new(file, "measurements", force)
    text = io.StringIO()
    text.writelines(f"# {line}\n" for line in comments)
    table = csv.writer(text, lineterminator="\n")
    kept = [name for name in COLUMNS if not _is_empty(getattr(made, name))]
    table.writerow(kept)
    table.writerows(zip(*([_shown(name, value) for value in getattr(made, name)] for name in kept), strict=True))
    replace_file(file, text.getvalue().encode(), "measurements", FORCE, force=True)


def check_new(file: Path, what: str, force: bool) -> None:
    """Check that a file may be written: that nothing is there, or that it is to be replaced.

    Args:
        file: to write.
        what: the kind of file, for the message.
        force: whether to replace whatever file is there.

    Raises:
        UserError: there is a file, or what is there cannot be replaced.
    """
    check_replaceable(file, b"", what, FORCE, force)
    if not force and file.exists() and file.stat().st_size:
        raise UserError(f"{what} {file}: there is a file already; {FORCE}")


def _is_empty(column: np.ndarray) -> bool:
    return bool((column == "").all() if column.dtype.kind == "U" else np.isnan(column).all())


def _shown(name: str, value: object) -> str:
    """A value in the file."""
    if isinstance(value, str):
        return value
    return "" if np.isnan(value) else f"{value:{'.9g' if name == 'time_s' else '.6g'}}"  # type: ignore[call-overload]
