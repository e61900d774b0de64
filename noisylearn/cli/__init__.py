"""The command line: `noisylearn train`, `compare`, `export`, `lava`, `profiles`, `rules`, `tasks` and others."""

import io
import sys
import warnings

import typer
from rich.console import Console

from noisylearn.cli.compare import compare_command
from noisylearn.cli.conformance import conformance_command
from noisylearn.cli.export import export_command
from noisylearn.cli.lava import app as lava_app
from noisylearn.cli.loihi import app as loihi_app
from noisylearn.cli.operations import operations_command
from noisylearn.cli.options import with_settings
from noisylearn.cli.output import InterruptedRunError
from noisylearn.cli.profiles import app as profiles_app
from noisylearn.cli.reproduce import reproduce_command
from noisylearn.cli.rules import app as rules_app
from noisylearn.cli.tasks import app as tasks_app
from noisylearn.cli.train import train_command
from noisylearn.ground.allocator import keep_freed_memory
from noisylearn.ground.errors import UserError

INTERRUPTED = 130  # exit status of a shell for Ctrl-C


def built() -> typer.Typer:
    """The application with all commands, and an option for every setting of the rules registered at this moment."""
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help="Train networks on noisy chips with forward passes only, and compare honestly with backprop.",
    )
    app.command("train")(with_settings(train_command))
    app.command("compare")(with_settings(compare_command))
    app.command("reproduce")(reproduce_command)
    app.command("export")(export_command)
    app.command("conformance")(conformance_command)
    app.add_typer(lava_app, name="lava")
    app.add_typer(loihi_app, name="loihi")
    app.command("operations")(operations_command)
    app.add_typer(profiles_app, name="profiles")
    app.add_typer(rules_app, name="rules")
    app.add_typer(tasks_app, name="tasks")
    return app


app = built()


def main() -> None:
    """Entry point of the command `noisylearn`: a user's mistake is one line on standard error and exit status 1."""
    errors = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Unicode gets question marks
    keep_freed_memory()
    warnings.showwarning = lambda message, *_, **__: errors.print(f"warning: {message}")
    try:
        built()(prog_name="noisylearn")
    except UserError as error:
        errors.print(f"error: {error}", style="red" if errors.is_terminal else None)
        sys.exit(1)
    except InterruptedRunError as interruption:
        errors.print(str(interruption))
        sys.exit(INTERRUPTED)
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer has caught Ctrl-C without a message
            errors.print("interrupted")
        raise
    except BrokenPipeError:
        sys.exit(1)
