"""Options shared by several commands, and those generated from the settings of a training run."""

from collections.abc import Callable, Mapping
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any

import typer

from noisylearn.cli.panels import RULES
from noisylearn.experiments.config import TrainConfig, all_settings, recipes, rule_options
from noisylearn.ground.errors import UserError
from noisylearn.profiles import HardwareProfile, load_profile
from noisylearn.rules import REGISTRY
from noisylearn.rules.options import Option

TASK_HELP = "Task to learn: see 'noisylearn tasks list'; or FILE.py:NAME, one in a Python file of yours, which is run."
RECIPE = "Default: from the recipe of task, rule and profile."

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on standard output.")]
Task = Annotated[str, typer.Option(help=TASK_HELP)]
DataDir = Annotated[
    str | None,
    typer.Option(help="Folder with the data files; else $NOISYLEARN_DATA, else ~/.cache/noisylearn."),
]
Out = Annotated[Path, typer.Option(help="Folder for run files and plots.")]
Only = Annotated[
    str | None, typer.Option(help="Effects of the profile that stay on, all others off; separated by commas, or none.")
]
Without = Annotated[str | None, typer.Option(help="Effects of the profile to switch off, separated by commas.")]
Write = Annotated[
    str | None,
    typer.Option(
        help="How updates reach pulsed devices: pulsed, accumulate or auxiliary, with the numbers that differ from "
        "those of the profile, as in accumulate,threshold=0.05."
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace whatever file is there, of any kind.")]
Device = Annotated[str | None, typer.Option(help=TrainConfig.model_fields["device"].description)]


def hidden_units(text: str | None) -> tuple[int, ...] | None:
    """Parse --hidden.

    Args:
        text: sizes separated by commas; "" or "0" for no hidden layer; None if the option was not given.

    Returns:
        The sizes of the hidden layers; None if the option was not given.

    Raises:
        UserError: a size is not a positive integer.
    """
    if text is None:
        return None
    if text.strip() in ("", "0"):
        return ()
    try:
        sizes = tuple(int(item) for item in text.split(","))
    except ValueError:
        sizes = (0,)
    if min(sizes) < 1:
        raise UserError(f"--hidden '{text}': give numbers of units separated by commas, for example 300,100")
    return sizes


def chosen_profile(
    name: str | HardwareProfile, only: str | None, without: str | None, write: str | None = None
) -> HardwareProfile:
    """The profile with the effects and the write mode that the command line chooses.

    Args:
        name: name of a profile, a TOML file, or a profile.
        only: effects to keep, separated by commas; "none" for no effect; None for all.
        without: effects to switch off, separated by commas.
        write: write mode, with its numbers: "accumulate,threshold=0.05".

    Raises:
        UserError: unknown profile, effect or mode, or a number that cannot be read.
    """
    profile = load_profile(name)
    if write is not None and write != (profile.in_place.mode if profile.in_place else "shadow"):
        mode, *numbers = write.split(",")
        profile = profile.written_by(mode, **dict(_number(text) for text in numbers))
    if only is not None:
        profile = profile.only(*_kinds(only))
    return profile if without is None else profile.without(*_kinds(without))


def _number(text: str) -> tuple[str, float]:
    """Key and value of one number of --write: "threshold=0.05" gives ("threshold", 0.05)."""
    key, _, value = text.partition("=")
    try:
        return key.strip(), float(value)
    except ValueError:
        raise UserError(f"--write ... {text}: give key=number, for example accumulate,threshold=0.05") from None


def _kinds(text: str) -> list[str]:
    return [kind.strip() for kind in text.split(",") if kind.strip() not in ("", "none")]


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate a command: its argument `settings` is replaced by one option for every setting of a training run.

    The settings come from the configuration and from the records of the rules registered at the time of the call.

    Args:
        command: takes a mapping `settings` with the settings given on the command line, by name.

    Returns:
        The command with the signature from which typer makes its options.
    """
    known = {name: one for name, one in all_settings().items() if name != "seed" and not one.in_label}

    def settings(given: dict[str, Any], _: Mapping[str, Any]) -> dict[str, Any]:
        stated = given | {"hidden": hidden_units(given["hidden"])}
        return {name: value for name, value in stated.items() if value is not None}

    return with_options(command, "settings", {name: _annotation(one) for name, one in known.items()}, settings)


def with_options(
    command: Callable[..., None],
    argument: str,
    annotations: Mapping[str, Any],
    value: Callable[[dict[str, Any], Mapping[str, Any]], Any],
) -> Callable[..., None]:
    """Decorate a command: one argument of it is replaced by several options.

    Args:
        command: the command.
        argument: its argument.
        annotations: name of an option -> the annotation that typer makes it of; None where it is not given.
        value: (options, by name; the command's other arguments) -> value of the argument.

    Returns:
        The command with the signature from which typer makes its options.

    Raises:
        UserError: the command has one of the options already.
    """
    more = [Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=of) for name, of in annotations.items()]
    own = [p.replace(kind=p.KEYWORD_ONLY) for p in signature(command).parameters.values()]
    place = [p.name for p in own].index(argument)
    own[place : place + 1] = more
    names = [p.name for p in own]
    if twice := next((name for name in annotations if names.count(name) > 1), None):
        raise UserError(f"option {twice} of a rule is one of the command already; give it another name")

    @wraps(command)
    def commanded(**arguments: Any) -> None:
        given = {name: arguments.pop(name) for name in annotations}
        command(**arguments, **{argument: value(given, arguments)})

    commanded.__signature__ = Signature(own)  # type: ignore[attr-defined]
    return commanded


def _annotation(setting: Option) -> Any:
    """The option that typer makes of a setting, as an annotation."""
    name = f"--{setting.name.replace('_', '-')}"
    choices = [] if all(one in setting.help for one in setting.choices) else [f"One of: {', '.join(setting.choices)}."]
    stated = any(setting.name in recipe for recipe in recipes().values()) and "Default:" not in setting.help
    if setting.plain_kind is bool and setting.default:
        name = f"{name}/--no-{name[2:]}"
    info = typer.Option(
        name,
        help=" ".join([setting.help, *choices, *([RECIPE] if stated else [])]),
        rich_help_panel=RULES if setting.name in rule_options() else None,
    )
    return Annotated[setting.plain_kind | None, info]


def rules_help() -> str:
    """Help text of --rule: the names of all rules."""
    apart = [kind for kind in REGISTRY.values() if kind.instead_without_time]
    names = ", ".join(name for name, kind in REGISTRY.items() if kind not in apart)
    in_time = ", ".join(name for kind in apart for name in (kind.name, *kind.other_labels))
    return f"{names} (sequences: {in_time}); with d in front: decorrelated."
