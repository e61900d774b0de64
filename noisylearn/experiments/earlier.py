"""What earlier calls left of a run, and whether it may be continued."""

import platform
from collections.abc import Mapping

import torch

from noisylearn.experiments.run_facts import HELD_OUT
from noisylearn.experiments.run_file import RunFile
from noisylearn.ground.errors import RunawayError, UserError
from noisylearn.ground.tree_file import Tree
from noisylearn.version import __version__


def to_continue(file: RunFile, own: Tree, epochs: int, resume: bool, how: str) -> Tree | None:
    """What a run's file holds of it; None where there is no file.

    Args:
        file: of the run.
        own: its `id`, `config` and `profile`.
        epochs: of the run, unless it ended early.
        resume: whether an unfinished run is to be continued.
        how: how a user asks for that.

    Raises:
        UserError: the file holds another run, or an unfinished one that is not to be continued.
        RunawayError: the run ran away before.
    """
    if not file.exists():
        return None
    earlier = _of_this_run(file, own, epochs)
    if earlier["status"] == "stopped":
        raise RunawayError(f"{earlier['reason']} (it stopped earlier and would again; remove the file to see it anew)")
    if earlier["status"] != "finished" and not resume:
        raise UserError(f"run file {file.path} holds an unfinished run: continue with {how}, or remove it")
    return earlier


def _of_this_run(file: RunFile, own: Tree, epochs: int) -> Tree:
    """What the file holds. Raises UserError where it is of another run."""
    tree = file.read()
    if any(tree[key] != value for key, value in own.items()):
        raise UserError(f"run file {file.path} holds another run, {tree['id']}; give it back its name, or remove it")
    curves = [curve for key, curve in tree["metrics"]["epoch"].items() if key.startswith(HELD_OUT)]
    if tree["status"] == "finished" and not all(_is_whole(len(curve), epochs, tree) for curve in curves):
        raise UserError(f"run file {file.path}: its curves are not those of {epochs} epochs; {file.mend}")
    return tree


def _is_whole(length: int, epochs: int, tree: Tree) -> bool:
    """Whether a curve has so many epochs, or fewer where the run ended early."""
    return 0 < length <= epochs if "stopped_early" in tree else length == epochs


def versions() -> dict[str, str]:
    """Versions of this package, of torch and of Python."""
    return {"noisylearn": __version__, "torch": torch.__version__, "python": platform.python_version()}


def named(found: Mapping[str, str]) -> str:
    """Versions in words.

    Args:
        found: as `versions` gives them.
    """
    return f"noisylearn {found['noisylearn']} with torch {found['torch']}"
