"""`noisylearn compare`: rules x profiles x seeds."""

from pathlib import Path
from typing import Annotated, Any

import typer

from noisylearn.cli import options as o
from noisylearn.cli.output import print_json, print_table, print_text, progress, split_integers, split_list
from noisylearn.compare import Row, check_request, compare
from noisylearn.profiles import load_profile


def compare_command(
    task: o.Task,
    rules: Annotated[str, typer.Option(help="Rules separated by commas, e.g. danp,anp,bp.")] = "danp,anp,bp",
    profiles: Annotated[str, typer.Option(help="Profiles separated by commas.")] = "gaussian-node",
    seeds: Annotated[str, typer.Option(help="Seeds separated by commas.")] = "0,1,2",
    baseline: o.Baseline = None,
    draws: o.Draws = None,
    epochs: o.Epochs = None,
    batch: o.Batch = None,
    lr: o.Lr = None,
    decorrelation_rate: o.DecorrelationRate = None,
    hidden: o.Hidden = None,
    device: o.Device = None,
    scale: o.Scale = None,
    forward: o.Forward = None,
    readout: o.Readout = None,
    network: o.Network = None,
    optimizer: o.Optimizer = None,
    schedule: o.Schedule = None,
    weight_normalisation: o.WeightNormalisation = None,
    held_out: o.HeldOut = None,
    data_dir: o.DataDir = None,
    out: o.Out = Path("runs"),
    json: o.Json = False,
) -> None:
    """Compare rules on profiles over seeds: one table with trivial baselines, and a plot.

    Every rule has the settings of its recipe, or those stated here, which then hold for all. Finished runs are
    read, unfinished ones continued; a rule that a profile refuses is a row with the reason.

    Example: noisylearn compare --task mnist-sample --rules danp,anp,np,bp --profiles pcm-nandakumar-2019
    """
    names, labels, numbers = (
        split_list(profiles, "--profiles"), split_list(rules, "--rules"), split_integers(seeds, "--seeds"),
    )  # fmt: skip
    check_request(labels, names, numbers)
    given = o.stated(
        baseline=baseline, draws=draws, epochs=epochs, batch=batch, lr=lr, decorrelation_rate=decorrelation_rate,
        hidden=hidden, device=device, scale=scale, forward=forward, readout=readout, network=network,
        optimizer=optimizer, schedule=schedule, weight_normalisation=weight_normalisation, held_out=held_out,
    )  # fmt: skip
    with progress() as bar:
        rows = compare(task, labels, [load_profile(n) for n in names], numbers, given, out, data_dir, on_run=bar.run)
    plot = _plot(task, rows, out)
    if json:
        print_json(
            {
                "task": task,
                "rows": [_document(row) for row in rows],
                "baselines": _baselines(rows),
                "plot": plot,
            }
        )
    else:
        _print(task, rows, plot)


def _baselines(rows: list[Row]) -> dict[str, float]:
    return next((row.runs[0]["baselines"] for row in rows if row.runs), {})


def _metric(row: Row) -> str:
    return next(key for key in row.runs[0]["final"] if key.endswith("_at_once")).removesuffix("_at_once")


def _plot(task: str, rows: list[Row], out: Path) -> str | None:
    from noisylearn.report.plots import accuracy_curves

    drawn = [row for row in rows if row.runs]
    if not drawn:
        return None
    file = out / f"compare-{task}.png"
    accuracy_curves(drawn, _metric(drawn[0]), _baselines(rows), file)
    return str(file)


def _document(row: Row) -> dict[str, Any]:
    return {
        "rule": row.rule,
        "profile": row.profile,
        "refused": row.refused or None,
        "settings": row.settings,
        "recipes": row.recipes,
        "summary": row.summary(),
        "files": row.files,
    }


def table_rows(rows: list[Row]) -> list[list[str]]:
    """Cells of the table: one line a row, then the trivial baselines."""
    cells = []
    for row in rows:
        if not row.runs:
            cells.append([row.rule, row.profile, row.refused, "", "", "", ""])
            continue
        found, metric = row.summary(), _metric(row)
        later = found.get(f"{metric}_after_1_day")
        passes = f"{found['forward_passes_over_data']['median']:.0f}"
        if back := found["backward_passes_over_data"]["median"]:
            passes += f" + {back:.0f} backward"
        at_once = _figure(found[f"{metric}_at_once"])
        wall = f"{found['wall_s']['median']:.0f}"
        cells.append([row.rule, row.profile, _settings(row), at_once, _figure(later) if later else "-", passes, wall])
    return cells + [
        [name, "(trivial baseline)", "", f"{value:.4f}", "", "", ""] for name, value in _baselines(rows).items()
    ]


def _settings(row: Row) -> str:
    s = row.settings
    return f"baseline {s['baseline']}, draws {s['draws']}, lr {s['lr']:g}, epochs {s['epochs']}, batch {s['batch']}"


def _figure(spread: dict[str, float]) -> str:
    sd = f" ± {spread['sd']:.4f}" if spread["n"] > 1 else ""
    return f"{spread['median']:.4f}{sd}"


def _print(task: str, rows: list[Row], plot: str | None) -> None:
    columns = [
        "rule",
        "profile",
        "settings",
        "on chip, at once",
        "after 1 day",
        "passes over data",
        "wall (s)",
    ]
    print_table(f"task {task}: median (± sd over the seeds)", columns, table_rows(rows), numbers=4)
    if plot:
        print_text(f"plot: {plot}")
