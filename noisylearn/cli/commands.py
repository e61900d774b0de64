"""The commands of `noisylearn`, each imported when it is called for."""

from difflib import get_close_matches
from importlib import import_module
from inspect import cleandoc, signature
from typing import Any

import typer
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

from noisylearn.cli.panels import in_panels
from noisylearn.ground.errors import UserError

# Command NAME is in the module cli/NAME.py: `app` where it has commands of its own, else the function NAME_command.
COMMANDS = (
    "train",
    "compare",
    "sweep",
    "reproduce",
    "report",
    "export",
    "conformance",
    "lava",
    "loihi",
    "operations",
    "profiles",
    "rules",
    "tasks",
    "runs",
)


class Commands(TyperGroup):
    """The group of all commands: it imports the module of the one that is run, and of all of them for --help."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its own options, --help among them."""
        return _flags_take_no_value(super().get_params(ctx))

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the commands, in the order of --help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a name; None where there is none."""
        return _loaded(cmd_name) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command of the first argument; where there is none, the nearest names are proposed."""
        if args[0] not in COMMANDS and (near := get_close_matches(args[0].lower(), COMMANDS)):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {', '.join(map(repr, near))}?")
        return super().resolve_command(ctx, args)


class Command(TyperCommand):
    """A command that knows what others call its options, where the nearest name is another one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Raise UserError for --learning-rate, as a nearest name would be --decorrelation-rate."""
        names = {argument.partition("=")[0] for argument in args}
        if "--learning-rate" in names and any(one.name == "lr" for one in self.params):
            raise UserError("there is no option --learning-rate; say --lr")
        return list(super().parse_args(ctx, args))


def _loaded(name: str) -> Any:
    """A command, with an option for every setting of the rules registered at this moment where it takes settings."""
    module = import_module(f"noisylearn.cli.{name}")
    alone = typer.Typer(add_completion=False)
    if hasattr(module, "app"):
        alone.add_typer(module.app, name=name)
        return _shown_as_written(typer.main.get_group(alone).commands[name])
    function = getattr(module, f"{name}_command")
    alone.command(name, cls=Command)(_with_options(function))
    command = _shown_as_written(typer.main.get_group(alone).commands[name])
    return in_panels(command) if "settings" in signature(function).parameters else command


def _shown_as_written(command: Any) -> Any:
    """The command, in whose help brackets stand for themselves, not for colours, and flags take no value.

    Its paragraphs are wrapped by the terminal alone, not where the lines of the docstring end as well.
    """
    paragraphs = cleandoc(command.help or "").split("\n\n")
    command.help = escape("\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs))
    for parameter in _flags_take_no_value(command.get_params(typer.Context(command))):
        parameter.help = escape(parameter.help or "")
    for each in getattr(command, "commands", {}).values():
        _shown_as_written(each)
    return command


def _flags_take_no_value(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters


def _with_options(command: Any) -> Any:
    """The command with the options that stand for its arguments `settings` and `engine`, where it has these."""
    arguments = signature(command).parameters
    if "engine" in arguments:
        from noisylearn.cli.engines import with_engine

        command = with_engine(command)
    if "settings" in arguments:
        from noisylearn.cli.options import with_settings

        command = with_settings(command)
    return command
