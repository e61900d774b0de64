"""`noisylearn rules`: list and show learning rules."""

import inspect
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from noisylearn.cli.options import Json
from noisylearn.cli.output import print_json, print_table, print_text
from noisylearn.experiments.config import label_options, split_label
from noisylearn.ground.table import Table
from noisylearn.profiles import load_profile, profile_files
from noisylearn.rules import REGISTRY, Rule, rule_class
from noisylearn.rules.options import Option, options_of

app = typer.Typer(no_args_is_help=True, help="Learning rules: what they compute and what they must observe.")


@app.command("list")
def list_command(json: Json = False) -> None:
    """List all rules. With a leading d (danp, dbp, ...) the inputs of every layer are decorrelated as well."""
    if json:
        print_json([_document(rule) for rule in REGISTRY.values()])
    else:
        rows = [
            [r.name, r.title, r.equation, ", ".join(sorted(r.observes)) or "-", r.source] for r in REGISTRY.values()
        ]
        print_table(Table("learning rules", ["name", "what it is", "equation", "must observe", "source"], rows))
        print_text("A leading d (danp, dbp, ...) decorrelates the inputs of every layer as well.")


@app.command("show")
def show_command(name: Annotated[str, typer.Argument(help="Name of the rule.")], json: Json = False) -> None:
    """Show one rule: equation, options, source, and the profiles it can learn on."""
    label, decorrelated = split_label(name)
    rule = rule_class(label)
    if json:
        print_json(_document(rule))
        return
    print_text(f"{rule.name}: {rule.title}\n{rule.equation}   {rule.source}\n\n{inspect.getdoc(rule)}\n")
    if decorrelated:
        print_text(f"{name} decorrelates the inputs of every layer as well; see --decorrelation-rate.\n")
    _print_options(rule, label_options(name))
    print_text(f"profiles it can learn on: {', '.join(_profiles(rule)) or 'none'}")


def _print_options(rule: type[Rule], stated: Mapping[str, Any]) -> None:
    """Print every option with its default.

    Args:
        rule: class of the rule.
        stated: options that the name of the rule sets; they take the place of the defaults.
    """
    shown = [
        [f"{one.name} = {stated.get(one.name, one.default)!r}", ", ".join(one.choices) or _plain(one), one.help]
        for one in options_of(rule).values()
    ]
    if shown:
        print_table(Table("options", ["option", "takes", "what it is for"], shown))
    else:
        print_text("options: none")


def _plain(one: Option) -> str:
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[one.plain_kind]


def _document(rule: type[Rule]) -> dict[str, Any]:
    return {
        "name": rule.name,
        "title": rule.title,
        "equation": rule.equation,
        "source": rule.source,
        "observes": sorted(rule.observes),
        "options": {one.name: one.default for one in options_of(rule).values()},
        "help": {one.name: one.help for one in options_of(rule).values()},
        "profiles": _profiles(rule),
    }


def _profiles(rule: type[Rule]) -> list[str]:
    return [name for name in profile_files() if rule.on(load_profile(name)) is not None]
