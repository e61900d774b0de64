"""`noisylearn runs`: list, show and export what run files hold."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from noisylearn.cli.options import Force, Json
from noisylearn.cli.output import end_with, print_json, print_table, print_text, split_list, waiting
from noisylearn.cli.repeat import command_of
from noisylearn.ground.errors import UserError, unknown_name
from noisylearn.ground.replace import FORCE, check_replaceable, replace_file
from noisylearn.ground.table import Table
from noisylearn.runs import find
from noisylearn.runs.csv_text import csv_text
from noisylearn.runs.records import Kind, read_facts, read_pieces

app = typer.Typer(no_args_is_help=True, help="Run files: list, show and export what they hold.")

Folder = Annotated[Path, typer.Argument(help="Folder of run files, or one run file.")]
COLUMNS = ("started (UTC)", "task", "rule", "profile", "seed", "status", "epochs", "score", "id")
STATUS = ("finished", "running", "stopped", "unfinished")
FIRST_COLUMNS = b"id,f"  # how our tables begin


@app.command("list")
def list_command(
    folder: Folder = Path("runs"),
    task: Annotated[str | None, typer.Option(help="Only these tasks, separated by commas.")] = None,
    rule: Annotated[str | None, typer.Option(help="Only these rules, separated by commas.")] = None,
    profile: Annotated[str | None, typer.Option(help="Only these profiles, separated by commas.")] = None,
    status: Annotated[str | None, typer.Option(help="Only these: finished, running, stopped, unfinished.")] = None,
    sort: Annotated[str, typer.Option(help="Column of the export to sort by, such as score or wall_s.")] = "started",
    json: Json = False,
) -> None:
    """List the runs of a folder, the newest last.

    Example: noisylearn runs list --rule lf,bp --status finished --sort score
    """
    with waiting(f"reading {folder}"):
        found, damaged = read_facts(folder)
    given = {"task": task, "rule": rule, "profile": profile, "status": status}
    wanted = {key: split_list(text, f"--{key}") for key, text in given.items() if text is not None}
    for name in set(wanted.get("status", ())) - set(STATUS):
        raise unknown_name("status", name, STATUS)
    records = [one.record for one in found]
    rows = _sorted([row for row in records if all(row[key] in names for key, names in wanted.items())], sort)
    if json:
        print_json({"runs": rows, "damaged": damaged})
    else:
        print_table(Table(f"{len(rows)} of {len(found)} runs in {folder}", COLUMNS, [_cells(row) for row in rows]))
    end_with(damaged)


@app.command("show")
def show_command(
    run: Annotated[str, typer.Argument(help="A run file, or the first digits of an id, at least four.")],
    folder: Annotated[Path, typer.Option(help="Where to look for an id.")] = Path("runs"),
    json: Json = False,
) -> None:
    """Show one run: scores with the trivial baselines, settings, versions, citations, and the command to repeat it.

    Example: noisylearn runs show 1ae7
    """
    found = find(run, folder)
    again, remark = command_of(found)
    if json:
        epochs = {name: values.tolist() for name, values in found.epochs.items()}
        more = {"epochs": epochs, "citations": found.citations, "command": again, "remark": remark}
        print_json({"run": found.record} | more)
        return
    for table in found.tables():
        print_table(table)
    what = "unfinished; to continue" if found.status == "unfinished" else "again"
    print_text("\n".join(filter(None, (f"{what}: {again}" if again else "", remark))))


@app.command("export")
def export_command(
    folder: Folder = Path("runs"),
    csv: Annotated[Path | None, typer.Option(help="File to write; else --json prints the rows.")] = None,
    epochs: Annotated[bool, typer.Option("--epochs", help="A row for every epoch in place of every run.")] = False,
    steps: Annotated[bool, typer.Option("--steps", help="A row for every step, with its loss.")] = False,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write what the runs of a folder hold into one table: a row for every run, epoch or step.

    Example: noisylearn runs export runs --csv runs.csv
    """
    if epochs and steps:
        raise UserError("--epochs and --steps are two tables: export them one by one")
    if csv is None and not json:
        raise UserError("say where the table goes: --csv FILE, or --json")
    if csv is not None:
        check_replaceable(csv, FIRST_COLUMNS, "table", FORCE, force)
    kind: Kind = "epochs" if epochs else "steps" if steps else "runs"
    with waiting(f"reading {folder}"):
        pieces, damaged = read_pieces(folder, kind)
    document: dict[str, Any] = {"kind": kind, "runs": len(pieces), "damaged": damaged}
    if csv is not None:
        replace_file(csv, csv_text(pieces).encode(errors="replace"), "table", FORCE, force)
        document["csv"] = str(csv)
    else:
        document["rows"] = [row for piece in pieces for row in piece.rows()]
    if json:
        print_json(document)
    else:
        print_text(f"{kind} of {len(pieces)} run files: {csv}")
    end_with(damaged)


def _sorted(rows: list[dict[str, Any]], column: str) -> list[dict[str, Any]]:
    """Rows by a column, those without a number or text in it first. Raises UserError where no row has the column."""
    known = dict.fromkeys(name for row in rows for name in row)
    if rows and column not in known:
        raise unknown_name("column", column, known)

    def place(row: Mapping[str, Any]) -> tuple[bool, bool, Any]:
        value = row.get(column)
        if value is None or value != value:  # not a number
            return False, False, ""
        return True, isinstance(value, str), value if isinstance(value, str | int | float) else ""

    return sorted(rows, key=place)


def _cells(row: Mapping[str, Any]) -> list[str]:
    score = "-" if row["score"] is None else f"{row['metric']} {row['score']:.4g}"
    epochs = f"{row['epochs_done']} of {row.get('epochs', '?')}"
    started = str(row["started"] or "-").replace("T", " ")[:16]
    place = [f"{row[key]}" for key in ("task", "rule", "profile", "seed", "status")]
    return [started, *place, epochs, score, row["id"]]
