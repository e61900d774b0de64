"""`noisylearn sweep`: a comparison with a search for settings, as a file describes it."""

from pathlib import Path
from typing import Annotated

import typer

from noisylearn.cli import options as o
from noisylearn.cli.comparison import comparison_name, show_comparison
from noisylearn.cli.output import AGAIN, progress
from noisylearn.engines import Engine
from noisylearn.experiments.compare import check_request, compare
from noisylearn.experiments.sweep import read_sweep
from noisylearn.ground.interrupt import term_raised
from noisylearn.profiles import load_profile


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
    with progress(AGAIN) as bar, term_raised():
        rows = compare(
            asked.task, asked.rules, profiles, asked.seeds, asked.settings, out, data_dir, bar, tuning, engine
        )
    name = comparison_name(f"sweep-{file.stem}", [asked.model_dump(mode="json"), [one.full_text for one in profiles]])
    show_comparison(asked.task, rows, out / name, json)
