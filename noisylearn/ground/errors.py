"""The one exception for a user's mistake: what, where and what to do, in one line."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake the user can mend. The command line prints its message alone, without a traceback."""


class RunawayError(UserError):
    """Training ran away: a loss or a weight that is not finite or grew beyond measure."""


def unknown_name(what: str, name: str, known: Iterable[str]) -> UserError:
    """Error for a name that is not in `known`, with the nearest matches (or all of them, if none is near)."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(known)}"
    return UserError(f"unknown {what} '{name}'; {hint}")
