"""Which way progress is shown: as the user says, or by what standard error is."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

from noisylearn.ground.errors import unknown_name
from noisylearn.progress.bars import bars
from noisylearn.progress.item import Silent
from noisylearn.progress.line import ProgressLine
from noisylearn.progress.notebook import in_notebook, page
from noisylearn.progress.plain import Lines

Mode = Literal["off", "lines", "bar"]
VARIABLE = "NOISYLEARN_PROGRESS"


def chosen_mode() -> Mode:
    """What NOISYLEARN_PROGRESS says, else a bar in notebooks and terminals, and lines everywhere else.

    Raises:
        UserError: the variable says something else.
    """
    said = os.environ.get(VARIABLE, "")
    for mode in get_args(Mode):
        if said == mode:
            return mode
    if said:
        raise unknown_name(VARIABLE, said, get_args(Mode))
    on_terminal = sys.stderr is not None and sys.stderr.isatty()
    return "bar" if on_terminal or in_notebook() else "lines"


@contextmanager
def shown(mode: Mode | None = None) -> Iterator[ProgressLine]:
    """Show the progress of the work in this block.

        with noisylearn.progress.shown() as line:
            train(config, profile, out, on_step=line.run("danp on pcm", config.epochs))

    Args:
        mode: "off"; "lines", of text; "bar"; None for what `chosen_mode` says.

    Raises:
        UserError: NOISYLEARN_PROGRESS says something else.
    """
    mode = mode or chosen_mode()
    if mode == "off":
        yield ProgressLine(Silent())
    elif mode == "lines":
        yield ProgressLine(Lines())
    else:
        with page() if in_notebook() else bars() as display:
            yield ProgressLine(display)
