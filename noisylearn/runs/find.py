"""One run among those of a folder, by its file or the start of its id."""

from pathlib import Path

from noisylearn.experiments.run_facts import RunFacts
from noisylearn.experiments.run_file import RunFile
from noisylearn.ground.errors import UserError, shortened
from noisylearn.ground.tree_file import SUFFIX

SHORTEST_ID = 4


def find(file_or_id: str | Path, folder: str | Path = "runs") -> RunFacts:
    """Find one run.

    Args:
        file_or_id: path of its file, or the first digits of its id, four at least, as few as tell it from others.
        folder: where to look for an id.

    Returns:
        What the file says of the run.

    Raises:
        UserError: there is no such file or run, the id fits several, or the file is damaged.
    """
    path, text = Path(file_or_id), str(file_or_id)
    if path.suffix == SUFFIX or path.exists():
        return RunFacts(path, RunFile(path).facts())
    if not SHORTEST_ID <= len(text) <= 12 or set(text) - set("0123456789abcdef"):
        raise UserError(
            f"'{shortened(text)}' is no file and no id: give a run file, or the first digits of an id "
            f"({SHORTEST_ID} to 12 of 0-9, a-f), which 'noisylearn runs list' shows"
        )
    named = sorted(Path(folder).glob(f"*-{text}*{SUFFIX}"))
    found = [path for path in named if path.stem.rpartition("-")[2].startswith(text)]
    if not found:
        raise UserError(
            f"no run in {folder} has an id that begins with {text}; 'noisylearn runs list {folder}' shows them, and "
            "--folder names another folder"
        )
    if len(found) > 1:
        raise UserError(f"id {text} fits {len(found)} runs in {folder}: give more digits, or {found[0]}, for example")
    return RunFacts(found[0], RunFile(found[0]).facts())
