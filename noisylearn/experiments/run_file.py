"""One HDF5 file per run. It is replaced as a whole, so that a kill at any moment leaves the last complete one."""

import tempfile
from pathlib import Path
from typing import final

from noisylearn.ground.errors import UserError
from noisylearn.ground.tree_file import Tree, TreeFile

ALWAYS = {"id", "config", "status", "metrics", "step", "wall_s"}
FINISHED, UNFINISHED = {"final", "weights", "baselines"}, {"checkpoint"}


@final
class RunFile(TreeFile):
    """The file of one run: attributes, and groups such as `metrics`, `weights`, `final` and `checkpoint`."""

    what, mend = "run file", "remove it to start this run anew"

    def missing(self, tree: Tree) -> set[str]:
        """Names of the entries that the contents of a run file lack, by the status of the run."""
        return (ALWAYS | (FINISHED if tree["status"] == "finished" else UNFINISHED)) - set(tree)


def prepare_folder(out: Path) -> None:
    """Make the output folder and check that it can be written to.

    Args:
        out: the folder.

    Raises:
        UserError: it cannot.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise UserError(f"output folder {out}: cannot be written: {error.strerror}; choose another --out") from None
