"""The command line: `noisylearn train`, `compare`, `sweep`, `export`, `lava`, `profiles`, `rules` and others."""

import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from typing import Annotated

import typer
from rich.console import Console

from noisylearn.cli.commands import Commands
from noisylearn.cli.output import InterruptedRunError, print_text
from noisylearn.distributed import RankError, ToldError, is_alone, is_follower
from noisylearn.ground.allocator import keep_freed_memory
from noisylearn.ground.errors import UserError
from noisylearn.ground.interrupt import INTERRUPTED, handled_elsewhere
from noisylearn.progress.choice import VARIABLE
from noisylearn.version import __version__


def built() -> typer.Typer:
    """The application with all commands."""
    app = typer.Typer(
        cls=Commands,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    app.callback()(_with_version)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        print_text(f"noisylearn {__version__}")
        raise typer.Exit


def _with_version(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Show no progress; NOISYLEARN_PROGRESS=off, lines or bar says how else.")
    ] = False,
) -> None:
    """Train networks on noisy chips with forward passes only, and compare honestly with backprop."""
    if quiet:
        context.with_resource(_without_progress())
    if context.invoked_subcommand != "train" and not is_alone():
        raise UserError(f"{context.invoked_subcommand} runs in one process: start it without torchrun")


@contextmanager
def _without_progress() -> Iterator[None]:
    """In this block no progress is shown, here and in processes that are started."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "off"
    try:
        yield
    finally:
        os.environ.pop(VARIABLE)
        if before is not None:
            os.environ[VARIABLE] = before


app = built()


def main() -> None:
    """Entry point of the command `noisylearn`: a user's mistake is one line on standard error and exit status 1."""
    handled_elsewhere()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Unicode gets question marks
    keep_freed_memory()
    warnings.showwarning = lambda message, *_, **__: _say(f"warning: {message}")
    try:
        status = _status()
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        status = _lost(1)
    except OSError as error:
        if error.filename is not None:  # of a file; those that a user names are UserErrors
            raise
        status = _lost(1)
        _say(f"error: standard output: cannot be written: {error.strerror}", style="red")
    sys.exit(status)


def _status() -> int | str | None:
    """Run the command; its exit status."""
    try:
        with _silent() if is_follower() else nullcontext():
            built()(prog_name="noisylearn")
    except ToldError:
        return 1
    except UserError as error:
        if not is_follower() or isinstance(error, RankError):
            _say(f"error: {error}", style="red")
        return 1
    except InterruptedRunError as interruption:
        _say(str(interruption))
        return interruption.status
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer has caught Ctrl-C without a message
            _say("interrupted")
        return end.code
    except RuntimeError as error:
        if not isinstance(error.__cause__, KeyboardInterrupt):  # which Python 3.11 wraps while a class is made
            raise
        _say("interrupted")
        return INTERRUPTED
    return 0


@contextmanager
def _silent() -> Iterator[None]:
    """In this block nothing is printed: the first of the processes that share a run does so."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        yield


def _say(text: str, style: str | None = None) -> None:
    """Print on standard error, coloured on a terminal alone; where that cannot be written to, nobody reads it."""
    errors = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)
    try:
        errors.print(text, style=style if errors.is_terminal else None)
    except OSError:
        _lost(2)


def _lost(stream: int) -> int:
    """Send a stream that cannot be written to nowhere, so that nothing fails at the exit; the exit status."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream)
    os.close(nowhere)
    return 1
