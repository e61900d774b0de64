"""TOML files of people who are not trusted: only regular files, of limited size, nesting and length of words.

The limits hold before parsing: a parser takes hours, or all memory, over nested brackets and long dotted keys.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

from noisylearn.ground.errors import UserError
from noisylearn.ground.regular import read_regular

LARGEST = 256 * 1024  # bytes of a file, or characters of a text; a profile has some thousand
DEEPEST = 16  # brackets within one another, and parts of a dotted key
LONGEST_WORD = 128  # characters of a number or a bare key

_NO_STRUCTURE = re.compile(  # strings, closed or not, and comments: possessive, so that no text takes long
    r'"""(?:\\[\s\S]|(?!""")[^\\])*+(?:""")?+'
    r"|'''(?:(?!''')[\s\S])*+(?:''')?+"
    r'|"(?:\\.|[^"\\\n])*+"?+'
    r"|'[^'\n]*+'?+"
    r"|#[^\n]*+"
)
_BETWEEN_KEYS = re.compile(r"[^\w. \t+-]")


def read_text(path: Path, what: str) -> str:
    """Text of a regular file of limited size.

    Args:
        path: of the file; links are followed.
        what: names it in messages, such as "profile mine.toml".

    Returns:
        The text.

    Raises:
        UserError: the file is missing, no regular file, too large, or no text in UTF-8.
    """
    try:
        text = read_regular(path, what, LARGEST).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{what}: cannot be read: {error}") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def check_size(size: int, what: str) -> None:
    """Refuse what is too large.

    Args:
        size: bytes or characters.
        what: names it in messages.

    Raises:
        UserError: it has more than `LARGEST`.
    """
    if size > LARGEST:
        raise UserError(f"{what}: larger than {LARGEST // 1024} KiB, which none is; is it another file?")


def parse_toml(text: str, what: str) -> dict[str, Any]:
    """Tables of a TOML text.

    Args:
        text: of a file.
        what: names it in messages.

    Returns:
        The tables.

    Raises:
        UserError: the text is no TOML, or is larger, deeper nested or has longer words than any honest one.
    """
    check_size(len(text), what)
    structure = _NO_STRUCTURE.sub("s", text)  # a key may be a string: it counts as a word
    if _depth(structure) > DEEPEST or max(part.count(".") for part in _BETWEEN_KEYS.split(structure)) >= DEEPEST:
        raise UserError(f"{what}: nested more than {DEEPEST} deep, which none is")
    if re.search(rf"[\w.+-]{{{LONGEST_WORD + 1}}}", structure):
        raise UserError(f"{what}: a number or a key of more than {LONGEST_WORD} characters")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{what}: not valid TOML: {error}") from None


def _depth(structure: str) -> int:
    """Largest number of brackets that are open at once."""
    depth = deepest = 0
    for bracket in re.findall(r"[\[\]{}]", structure):
        depth = depth + 1 if bracket in "[{" else max(depth - 1, 0)
        deepest = max(deepest, depth)
    return deepest
