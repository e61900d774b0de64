"""`noisylearn compare`: train every rule on every profile with every seed."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from noisylearn import tasks
from noisylearn.cli import options as o
from noisylearn.cli.comparison import comparison_name, show_comparison
from noisylearn.cli.output import AGAIN, progress, split_integers, split_list, split_numbers
from noisylearn.engines import Engine
from noisylearn.experiments.compare import check_request, compare
from noisylearn.experiments.tuning import Tuning
from noisylearn.ground.errors import UserError
from noisylearn.ground.interrupt import term_raised


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
    engine: Engine,
    out: o.Out = Path("runs"),
    json: o.Json = False,
) -> None:
    """Compare rules on profiles over seeds: one table with trivial baselines, a plot and a page.

    Every rule takes the settings of its recipe; a setting given here holds for all rules that have a use for it, and a
    warning names the others. Finished runs are read, unfinished ones are continued; a rule that a profile refuses is a
    row with the reason.

    Example: noisylearn compare --task mnist-sample --rules danp,anp,np,bp --profiles pcm-nandakumar-2019 --workers 2
    """
    labels, names = split_list(rules, "--rules"), split_list(profiles, "--profiles")
    numbers = split_integers(seeds, "--seeds")
    check_request(labels, names, numbers)
    chosen = [o.chosen_profile(name, only, without, write) for name in names]
    tuning = _tuning(tune_lr, tune_epochs, settings)
    with progress(AGAIN) as bar, term_raised():
        rows = compare(task, labels, chosen, numbers, settings, out, data_dir, bar, tuning, engine)
    asked = [task, labels, [one.full_text for one in chosen], numbers, settings, tune_lr, tune_epochs]
    show_comparison(task, rows, out / comparison_name(f"compare-{tasks.describe(task).name}", asked), json)


def _tuning(lrs: str | None, epochs: int | None, given: Mapping[str, Any]) -> Tuning | None:
    """The search for learning rates that --tune-lr and --tune-epochs ask for, None without --tune-lr.

    Raises:
        UserError: --tune-epochs without --tune-lr, or a setting given that the search decides itself.
    """
    if lrs is None:
        if epochs is not None:
            raise UserError("--tune-epochs goes with --tune-lr")
        return None
    rates = split_numbers(lrs, "--tune-lr")
    if not all(0 < lr < math.inf for lr in rates) or len(set(rates)) < len(rates):
        raise UserError(f"--tune-lr {', '.join(f'{lr:g}' for lr in rates)}: give positive numbers, each once")
    if epochs is not None and epochs < 1:
        raise UserError(f"--tune-epochs {epochs}: give at least 1")
    if chosen := [f"--{option.replace('_', '-')}" for option in ("lr", "held_out") if option in given]:
        raise UserError(f"--tune-lr chooses by the validation part: leave {' and '.join(chosen)} out")
    return Tuning({"lr": rates}, epochs)
