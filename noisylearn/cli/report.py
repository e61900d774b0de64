"""`noisylearn report`: one page of HTML with everything about some runs."""

import warnings
from pathlib import Path
from typing import Annotated

import typer

from noisylearn.cli import options as o
from noisylearn.cli.output import end_with, print_json, print_text
from noisylearn.experiments.run_files import scan
from noisylearn.ground.errors import UserError
from noisylearn.report.page import check_page, rows_of, runs_page, write_page


def report_command(
    runs: Annotated[list[Path], typer.Argument(help="Run files, or folders of them.", show_default=False)],
    out: Annotated[Path, typer.Option("-o", "--out", help="Write the page to this file.")] = Path("report.html"),
    title: Annotated[str, typer.Option(help="Of the page. Default: what was compared.")] = "",
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Write one page of runs, in a file that needs no network: tables, curves, settings, sources, commands.

    Runs that differ in the seed alone are one row. A run that is not finished, and a file that is damaged or no run
    file, are named, on the page as well, and the rest is shown; after such a file the exit status is 1.

    Example: noisylearn report runs -o report.html
    """
    check_page(out, force)
    trees, damaged = scan(runs)
    found = rows_of(trees)
    unread = damaged | found.unread
    unfinished = {path for path, tree in trees.items() if tree["status"] != "finished"}
    left_out = {path: reason for path, reason in unread.items() if path not in unfinished}
    for path in (path for path in unread if path in unfinished):
        warnings.warn(f"{unread[path]}; not in the report", stacklevel=1)
    if not any(row.runs for rows in found.comparisons.values() for row in rows):
        end_with(left_out)
        raise UserError(f"{', '.join(map(str, runs))}: no finished run; give run files, or folders of them")
    write_page(out, runs_page(found.comparisons, unread, found.notes, title), force)
    if json:
        shown = [file for rows in found.comparisons.values() for row in rows for file in row.files]
        print_json({"page": str(out), "runs": shown, "not_shown": {str(k): v for k, v in unread.items()}})
    else:
        print_text(f"page: {out}")
    end_with(left_out)
