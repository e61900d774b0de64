"""Files of measurements: comma-separated values with one read in every line."""

import csv
import hashlib
import io
from pathlib import Path

import numpy as np

from noisylearn.fitting.measurements import Measurements, measurements
from noisylearn.ground.errors import UserError, shortened
from noisylearn.ground.regular import read_regular
from noisylearn.ground.replace import FORCE, check_replaceable, replace_file

LARGEST = 256 * 2**20  # bytes
COLUMNS = ("experiment", "device", "write", "time_s", "target_us", "conductance_us", "pulse")


def read_measurements(file: Path) -> tuple[Measurements, str]:
    """Read a file of measurements; lines that begin with # are comments.

    Args:
        file: comma-, semicolon- or tab-separated values, the first line with the names of the columns.

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
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        raise UserError(f"{where}: the file is empty; its first line must name the columns")
    return measurements(_columns(lines, where), where), hashlib.sha256(content).hexdigest()


def _columns(lines: list[str], where: str) -> dict[str, list[str]]:
    """Columns of lines, by their names in the first line."""
    separator = max(",;\t", key=lines[0].count)
    try:
        rows = list(csv.reader(lines, delimiter=separator))
    except csv.Error as error:
        raise UserError(f"{where}: no table: {error}") from None
    names = [name.strip() for name in rows[0]]
    for number, row in enumerate(rows[1:], 1):
        if len(row) != len(names):
            raise UserError(
                f"{where}: row {number} has {len(row)} values for {len(names)} columns: "
                f"{shortened(separator.join(row))}; give one for each"
            )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{where}: column '{shortened(twice)}' is there twice; keep one")
    return {name: [row[i] for row in rows[1:]] for i, name in enumerate(names)}


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
