"""`noisylearn compare`: train every rule on every profile with every seed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from noisylearn.cli import options as o
from noisylearn.cli.output import (
    print_json,
    print_table,
    print_text,
    progress,
    split_integers,
    split_list,
    split_numbers,
)
from noisylearn.experiments.compare import Row, Tuning, check_request, compare
from noisylearn.ground.errors import UserError
from noisylearn.report.tables import comparison_table, trivial_baselines


def compare_command(
    task: o.Task,
    rules: Annotated[str, typer.Option(help="Rules separated by commas, e.g. danp,anp,bp.")] = "danp,anp,bp",
    profiles: Annotated[str, typer.Option(help="Profiles separated by commas.")] = "gaussian-node",
    seeds: Annotated[str, typer.Option(help="Seeds separated by commas.")] = "0,1,2",
    *,
    settings: Mapping[str, Any],
    only: o.Only = None,
    without: o.Without = None,
    write: o.Write = None,
    data_dir: o.DataDir = None,
    tune_lr: Annotated[
        str | None,
        typer.Option(help="Learning rates to try for every rule first, on the validation part, e.g. 1e-3,3e-3,1e-2."),
    ] = None,
    tune_epochs: Annotated[int | None, typer.Option(help="Epochs of a trial; default: as many as of a run.")] = None,
    out: o.Out = Path("runs"),
    json: o.Json = False,
) -> None:
    """Compare rules on profiles over seeds: one table with trivial baselines, and a plot.

    Every rule takes the settings of its recipe; a setting given here holds for all rules. Finished runs are read,
    unfinished ones are continued; a rule that a profile refuses is a row with the reason.

    Example: noisylearn compare --task mnist-sample --rules danp,anp,np,bp --profiles pcm-nandakumar-2019
    """
    labels, names = split_list(rules, "--rules"), split_list(profiles, "--profiles")
    numbers = split_integers(seeds, "--seeds")
    check_request(labels, names, numbers)
    chosen = [o.chosen_profile(name, only, without, write) for name in names]
    tuning = _tuning(tune_lr, tune_epochs, settings)
    with progress() as bar:
        rows = compare(task, labels, chosen, numbers, settings, out, data_dir, on_run=bar.run, tuning=tuning)
    plot = _plot(task, rows, out)
    if json:
        print_json(
            {
                "task": task,
                "rows": [_document(row) for row in rows],
                "baselines": trivial_baselines(rows),
                "plot": plot,
            }
        )
    else:
        _print(task, rows, plot)


def _tuning(lrs: str | None, epochs: int | None, given: Mapping[str, Any]) -> Tuning | None:
    """The search for learning rates that --tune-lr and --tune-epochs ask for, None without --tune-lr.

    Raises:
        UserError: --tune-epochs without --tune-lr, or a setting given that the search decides itself.
    """
    if lrs is None:
        if epochs is not None:
            raise UserError("--tune-epochs goes with --tune-lr")
        return None
    tuning = Tuning(split_numbers(lrs, "--tune-lr"), epochs)
    if chosen := [f"--{option.replace('_', '-')}" for option in ("lr", "held_out") if option in given]:
        raise UserError(f"--tune-lr chooses by the validation part: leave {' and '.join(chosen)} out")
    return tuning


def _plot(task: str, rows: list[Row], out: Path) -> str | None:
    """Draw the curves of all rows that have runs; return the file's path, None where no row has any."""
    from noisylearn.report.plots import accuracy_curves

    drawn = [row for row in rows if row.runs]
    if not drawn:
        return None
    file = out / f"compare-{task}.png"
    accuracy_curves(drawn, drawn[0].metric, trivial_baselines(rows), file)
    return str(file)


def _document(row: Row) -> dict[str, Any]:
    return {
        "rule": row.rule,
        "profile": row.profile,
        "refused": row.refused or None,
        "settings": row.settings,
        "trials": row.trials,
        "recipes": row.recipes,
        "summary": row.summary(),
        "files": row.files,
    }


def _print(task: str, rows: list[Row], plot: str | None) -> None:
    print_table(comparison_table(f"task {task}: median (± sd over the seeds)", rows))
    if plot:
        print_text(f"plot: {plot}")
