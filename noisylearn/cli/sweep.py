"""`noisylearn sweep`: a comparison with a search for settings, as a file describes it."""

from pathlib import Path
from typing import Annotated

import typer

from noisylearn.cli import options as o
from noisylearn.cli.comparison import comparison_name, show_comparison
from noisylearn.cli.output import progress
from noisylearn.engines import Engine
from noisylearn.experiments.compare import check_request, compare
from noisylearn.experiments.sweep import read_sweep
from noisylearn.profiles import load_profile

AGAIN = "the same command goes on: finished runs are read, unfinished ones continue from their last checkpoint"


def sweep_command(
    file: Annotated[Path, typer.Argument(help="TOML file with task, rules, profiles, seeds, [settings] and [search].")],
    data_dir: o.DataDir = None,
    *,
    engine: Engine,
    out: o.Out = Path("runs"),
    json: o.Json = False,
) -> None:
    """Search for the best settings of every rule on every profile, then compare the rules with them over seeds.

    Every rule has the same number of trials, on the validation part, with the first seed. The same command goes on
    after an interruption. docs/sweeps.md describes the file.

    Example: noisylearn sweep examples/sweep.toml --workers 2
    """
    asked = read_sweep(file)
    tuning = asked.tuning()
    check_request(asked.rules, asked.profiles, asked.seeds)
    profiles = [load_profile(name) for name in asked.profiles]
    with progress(AGAIN) as bar:
        rows = compare(
            asked.task, asked.rules, profiles, asked.seeds, asked.settings, out, data_dir, bar, tuning, engine
        )
    name = comparison_name(f"sweep-{file.stem}", [asked.model_dump(mode="json"), [one.full_text for one in profiles]])
    show_comparison(asked.task, rows, out / name, json)
