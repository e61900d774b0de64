"""A rule with other options, for tables and generic tests."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from noisylearn.ground.errors import UserError
from noisylearn.rules.base import Rule, Unbiased
from noisylearn.rules.in_time import InTime

OF_TIME = frozenset(field.name for field in fields(InTime))


def values(kind: type[Rule]) -> dict[str, list[Any]]:
    """The values to try of every option.

    Args:
        kind: class of the rule.

    Returns:
        Option -> values, the default first: all values of a Literal or a bool, else those in `tried` of the rule.
    """
    found, hints = {}, get_type_hints(kind)
    for field in fields(kind):
        hint = hints[field.name]
        known = get_args(hint) if get_origin(hint) is Literal else (False, True) if hint is bool else ()
        default = () if field.default is MISSING else (field.default,)
        others = (value for value in (*known, *kind.tried.get(field.name, ())) if value not in default)
        found[field.name] = [*default, *others]
    return found


def variants(kind: type[Rule]) -> list[Rule]:
    """The rule with its defaults, with each other value of one option, then with the options in `tried_together`.

    Options of time keep their defaults.

    Args:
        kind: class of the rule.
    """
    every = values(kind)
    first = {name: of_name[0] for name, of_name in every.items()}
    changed = [{**first, name: value} for name in every if name not in OF_TIME for value in every[name][1:]]
    together = [{**first, **options} for options in kind.tried_together]
    return list(_accepted(kind, [first, *changed, *together]))


def combinations(kind: type[Rule]) -> list[Rule]:
    """The rule with every combination of its options; options of time keep their defaults.

    Args:
        kind: class of the rule; options in `tried_alone` are changed one by one, the others at their defaults.
    """
    together = [name for name in values(kind) if name not in OF_TIME | kind.tried_alone]
    found = _products(kind, together)
    return [*found, *(rule for rule in variants(kind) if rule not in found)]


def combinations_in_time(kind: type[Rule]) -> list[Rule]:
    """The rule with every combination of its options of time; the others keep their defaults.

    Args:
        kind: class of the rule.
    """
    return _products(kind, [name for name in values(kind) if name in OF_TIME])


def _products(kind: type[Rule], names: Sequence[str]) -> list[Rule]:
    every = [[(name, value) for value in (v if name in names else v[:1])] for name, v in values(kind).items()]
    return list(_accepted(kind, [dict(chosen) for chosen in itertools.product(*every)]))


def unbiased_in(rule: Rule) -> Unbiased:
    """What the rule declares as `unbiased`; for several rules in one network, the weakest claim.

    Args:
        rule: the rule.
    """
    return min((part.unbiased for part in rule.parts()), key=get_args(Unbiased).index)


def _accepted(kind: type[Rule], options: Sequence[Mapping[str, Any]]) -> Iterator[Rule]:
    """The rules whose options are allowed together."""
    for chosen in options:
        try:
            yield kind(**chosen)
        except UserError:
            continue
