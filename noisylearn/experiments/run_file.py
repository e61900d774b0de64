"""One HDF5 file per run: written beside and renamed, so that a kill at any moment leaves the last whole one."""

import tempfile
from pathlib import Path
from typing import final

from noisylearn.ground.errors import UserError
from noisylearn.ground.tree_file import Tree, TreeFile

ALWAYS = {"id", "config", "status", "metrics", "step", "wall_s"}
FINISHED, UNFINISHED = {"final", "weights", "baselines"}, {"checkpoint"}


@final
class RunFile(TreeFile):
    """The file of one run. Groups: config and facts as attributes, `metrics`, `weights`, `final`, `checkpoint`."""

    what, mend = "run file", "remove it to start this run anew"

    def missing(self, tree: Tree) -> set[str]:
        return (ALWAYS | (FINISHED if tree["status"] == "finished" else UNFINISHED)) - set(tree)


def prepare_folder(out: Path) -> None:
    """Make the output folder and see that it can be written. Raises UserError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise UserError(f"output folder {out}: cannot be written: {error.strerror}; choose another --out") from None
