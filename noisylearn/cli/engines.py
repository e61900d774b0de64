"""Options that say where runs are carried out, for commands that have many."""

from collections.abc import Callable, Sequence
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any

import typer

from noisylearn.cli.output import print_text
from noisylearn.engines import Engine, Job, Outcome, Watch, chosen_engine
from noisylearn.ground.errors import UserError

PANEL = "Where runs are carried out"
OPTIONS = {
    "engine": Annotated[
        str | None,
        typer.Option(
            help="local: processes of this machine; dask: a Dask cluster; slurm: jobs of SLURM. Default: this process "
            "alone.",
            rich_help_panel=PANEL,
        ),
    ],
    "workers": Annotated[int | None, typer.Option(help="Runs at the same time.", rich_help_panel=PANEL)],
    "threads": Annotated[
        int | None, typer.Option(help="Threads of torch in each worker; default: 1.", rich_help_panel=PANEL)
    ],
    "address": Annotated[
        str | None,
        typer.Option(help="Scheduler of a Dask cluster that runs already: tcp://HOST:PORT.", rich_help_panel=PANEL),
    ],
    "dry_run": Annotated[
        bool | None,
        typer.Option("--dry-run", help="List the runs, with the script for SLURM, and end.", rich_help_panel=PANEL),
    ],
    "slurm": Annotated[
        list[str] | None,
        typer.Option(
            help="Option of sbatch, such as partition=gpu or time=60 (minutes); repeat for more. cluster=local carries "
            "the jobs out on this machine, without SLURM.",
            rich_help_panel=PANEL,
        ),
    ],
}


def with_engine(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate a command: its argument `engine` is replaced by the options that choose an engine.

    Args:
        command: takes `out`, the folder of the runs, and `engine`.

    Returns:
        The command with the signature from which typer makes its options.
    """
    more = [Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=of) for name, of in OPTIONS.items()]
    own = [p.replace(kind=p.KEYWORD_ONLY) for p in signature(command).parameters.values()]
    place = [p.name for p in own].index("engine")
    own[place : place + 1] = more

    @wraps(command)
    def commanded(**arguments: Any) -> None:
        given = {name: arguments.pop(name) for name in OPTIONS}
        slurm = dict(map(_pair, given.pop("slurm") or []))
        dry_run = given.pop("dry_run")
        engine = chosen_engine(arguments["out"], given.pop("engine"), **given, slurm=slurm)
        command(**arguments, engine=_Listing(engine) if dry_run else engine)

    commanded.__signature__ = Signature(own)  # type: ignore[attr-defined]
    return commanded


class _Listing:
    """Lists jobs in place of carrying them out."""

    def __init__(self, engine: Engine) -> None:
        self._script = getattr(engine, "script", None)

    def run(self, jobs: Sequence[Job], watch: Watch) -> list[Outcome]:
        """Print the jobs, and the script that SLURM would be given, and end the command."""
        print_text("\n".join(job.label for job in jobs))
        if self._script:
            print_text(f"\n{self._script(len(jobs))}")
        raise typer.Exit


def _pair(text: str) -> tuple[str, str]:
    """Key and value of "key=value"."""
    key, is_there, value = text.partition("=")
    if not is_there or not key.strip() or not value.strip():
        raise UserError(f"--slurm '{text}': give key=value, for example partition=gpu")
    return key.strip(), value.strip()
