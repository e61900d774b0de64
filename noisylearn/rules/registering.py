"""What is checked of a rule before it is registered: that it is complete, and clashes with no other."""

import inspect
from collections.abc import Mapping
from typing import Any

from noisylearn.ground.errors import UserError
from noisylearn.ground.registry import checked_name
from noisylearn.rules.base import Rule
from noisylearn.rules.options import options_of

STATED = ("name", "title", "equation", "source", "observes")  # of every rule


def name_of(rule: Any, others: Mapping[str, type[Rule]]) -> str:
    """The name of a rule that can be registered.

    Args:
        rule: its class.
        others: the rules that there are.

    Raises:
        UserError: it is no complete rule, or its name or an option has another meaning among the others.
    """
    if not isinstance(rule, type) or not issubclass(rule, Rule) or inspect.isabstract(rule):
        raise UserError(f"rule {rule!r}: give a class derived from noisylearn.rules.Rule, with all its methods")
    if missing := [what for what in STATED if not hasattr(rule, what)]:
        raise UserError(f"rule {rule.__name__}: it does not state {', '.join(missing)}")
    name = checked_name(f"rule {rule.__name__}", rule.name)
    for of, other in others.items():
        labels = {name, name.removeprefix("d")}
        if of != name and (f"d{name}" == of or any(other.from_label(label) is not None for label in labels)):
            raise UserError(f"rule '{name}': its name reads as {of}, maybe decorrelated; give it another name")
    _check_options(rule, others)
    return name


def _check_options(rule: type[Rule], others: Mapping[str, type[Rule]]) -> None:
    try:
        rule()
        own = options_of(rule)
    except TypeError as error:
        raise UserError(f"rule {rule.name}: {error}") from None
    known = {name: one.kind for other in others.values() for name, one in options_of(other).items()}
    for name, option in own.items():
        if known.get(name, option.kind) != option.kind:
            raise UserError(f"rule {rule.name}: its option {name} is something else in other rules; give another name")
