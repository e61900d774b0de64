"""Options that say where runs are carried out, for commands that have many."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from noisylearn.cli.options import with_options
from noisylearn.cli.output import print_text
from noisylearn.cli.panels import PLACE as PANEL
from noisylearn.engines import Engine, Job, Outcome, Watch, chosen_engine
from noisylearn.ground.errors import UserError

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
    return with_options(command, "engine", OPTIONS, _engine)


def _engine(given: dict[str, Any], others: Mapping[str, Any]) -> Engine:
    """The engine that the options choose, or what lists its jobs."""
    slurm, dry_run, name = dict(map(_pair, given["slurm"] or [])), given["dry_run"], given["engine"]
    size = {key: given[key] for key in ("workers", "threads", "address")}
    engine = chosen_engine(others["out"], name, **size, slurm=slurm)
    return _Listing(engine) if dry_run else engine


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
