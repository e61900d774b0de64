"""Checks of the options of rules; each raises one line that names the rule, the option and what is allowed."""

from typing import Any, get_args

from torch import Tensor

from noisylearn.ground.errors import UserError

MOST_DRAWS = 10_000  # of a step


def check_choice(rule: str, option: str, value: object, kind: Any) -> None:
    """Check an option that takes one of several words.

    Args:
        rule: name of the rule.
        option: name of the option.
        value: its value.
        kind: Literal type of the words.

    Raises:
        UserError: the value is none of them.
    """
    if value not in get_args(kind):
        raise UserError(f"rule {rule}: {option} '{value}'; choose {', '.join(get_args(kind))}")


def check_positive(rule: str, **options: float) -> None:
    """Check options that are to be finite and above 0.

    Args:
        rule: name of the rule.
        **options: option -> value.

    Raises:
        UserError: a value is not.
    """
    for name, value in options.items():
        if not 0 < value < float("inf"):
            raise UserError(f"rule {rule}: {name} = {value!r}; give a number above 0")


def check_share(rule: str, **options: float) -> None:
    """Check options that are to be above 0 and below 1.

    Args:
        rule: name of the rule.
        **options: option -> value.

    Raises:
        UserError: a value is not.
    """
    check_positive(rule, **options)
    for name, value in options.items():
        if value >= 1:
            raise UserError(f"rule {rule}: {name} = {value!r}; give a share below 1")


def check_count(rule: str, least: int = 1, **options: int) -> None:
    """Check options that are numbers of something.

    Args:
        rule: name of the rule.
        least: smallest number allowed.
        **options: option -> value.

    Raises:
        UserError: a value is no whole number, too small, or a number of draws for which no step would ever end.
    """
    for name, value in options.items():
        if not isinstance(value, int) or value < least:
            raise UserError(f"rule {rule}: {name} = {value!r}; give a whole number, at least {least}")
        if name == "draws" and value > MOST_DRAWS:
            raise UserError(
                f"rule {rule}: draws = {value}; each takes a forward pass of its own: give at most {MOST_DRAWS:,}"
            )


def check_depends(losses: Tensor) -> None:
    """Check that a loss was computed of what the network gave.

    Args:
        losses: of every row.

    Raises:
        UserError: it has no gradient with respect to the output.
    """
    if not losses.requires_grad:
        raise UserError("the loss does not depend on the output: loss_fn has to compute it of its argument, undetached")
