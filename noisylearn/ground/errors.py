"""The exception for a user's mistake: what is wrong, where, and what to do, in one line."""

import difflib
from collections.abc import Iterable

MOST_CHARACTERS = 4000  # of a message, whatever a file made it quote
LONGEST_NAME = 200  # characters of a name that a message repeats


def shortened(text: str, most: int = 80) -> str:
    """A text that others wrote, in one line, for a message: cut in the middle, without control characters.

    Args:
        text: a name or value from a file, or the message of a library.
        most: characters that are shown of it.
    """
    if len(text) > most:
        text = f"{text[: most // 2]} ... {text[-(most // 2) :]}"
    return "".join(char if char.isprintable() else " " if char.isspace() else "?" for char in text)


class UserError(ValueError):
    """A mistake that the user can correct; the command line prints its message without a traceback."""

    def __init__(self, message: str) -> None:
        super().__init__(message if len(message) <= MOST_CHARACTERS else f"{message[:MOST_CHARACTERS]} ...")


class RunawayError(UserError):
    """Training diverged: a loss or a weight is not finite, or has grown without bound."""


def not_installed(what: str, package: str, extra: str) -> UserError:
    """Make the error for a package that is missing. noisylearn is on no index: its extras are installed from a clone.

    Args:
        what: needs the package, in words, with its verb: "NIR files need".
        package: by its name.
        extra: of noisylearn that installs it.

    Returns:
        The error, to be raised.
    """
    return UserError(f"{what} the package {package}: pip install '.[{extra}]' in a clone of noisylearn")


def unknown_name(what: str, name: str, known: Iterable[str]) -> UserError:
    """Make the error for an unknown name; it suggests the closest known names, in either case, or lists all.

    Args:
        what: the kind of thing named, such as "task".
        name: the unknown name.
        known: the known names.

    Returns:
        The error, to be raised.
    """
    known = sorted(known)
    small = {one.lower(): one for one in known}
    near = [small[one] for one in difflib.get_close_matches(name[:LONGEST_NAME].lower(), small, n=3, cutoff=0.5)]
    hint = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(known)}"
    return UserError(f"unknown {what} '{shortened(name, LONGEST_NAME)}'; {hint}")
