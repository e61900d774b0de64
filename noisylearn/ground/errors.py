"""The exception for a user's mistake: what is wrong, where, and what to do, in one line."""

import difflib
from collections.abc import Iterable

LONGEST_NAME = 200  # characters of a name that a message repeats


class UserError(ValueError):
    """A mistake that the user can correct; the command line prints its message without a traceback."""


class RunawayError(UserError):
    """Training diverged: a loss or a weight is not finite, or has grown without bound."""


def unknown_name(what: str, name: str, known: Iterable[str]) -> UserError:
    """Make the error for an unknown name; it suggests the closest known names, or lists all if none is close.

    Args:
        what: the kind of thing named, such as "task".
        name: the unknown name.
        known: the known names.

    Returns:
        The error, to be raised.
    """
    known = sorted(known)
    near = difflib.get_close_matches(name[:LONGEST_NAME], known, n=3, cutoff=0.5)
    name = name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}..."
    hint = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(known)}"
    return UserError(f"unknown {what} '{name}'; {hint}")
