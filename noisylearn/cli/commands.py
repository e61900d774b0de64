"""The commands of `noisylearn`, each imported when it is called for."""

from importlib import import_module
from inspect import signature
from typing import Any

import typer
from typer.core import TyperGroup

# Command NAME is in the module cli/NAME.py: `app` where it has commands of its own, else the function NAME_command.
COMMANDS = (
    "train",
    "compare",
    "sweep",
    "reproduce",
    "export",
    "conformance",
    "lava",
    "loihi",
    "operations",
    "profiles",
    "rules",
    "tasks",
)


class Commands(TyperGroup):
    """The group of all commands: it imports the module of the one that is run, and of all of them for --help."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the commands, in the order of --help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a name; None where there is none."""
        return _loaded(cmd_name) if cmd_name in COMMANDS else None


def _loaded(name: str) -> Any:
    """A command, with an option for every setting of the rules registered at this moment where it takes settings."""
    module = import_module(f"noisylearn.cli.{name}")
    alone = typer.Typer(add_completion=False)
    if hasattr(module, "app"):
        alone.add_typer(module.app, name=name)
    else:
        alone.command(name)(_with_options(getattr(module, f"{name}_command")))
    return typer.main.get_group(alone).commands[name]


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
