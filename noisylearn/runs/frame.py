"""Runs as a DataFrame of pandas."""

from typing import TYPE_CHECKING

from noisylearn.ground.errors import not_installed
from noisylearn.runs.records import Kind, Where, read_pieces, warn_of_damage

if TYPE_CHECKING:
    import pandas as pd

DATES = ("started", "ended")


def load(where: Where = "runs", kind: Kind = "runs") -> "pd.DataFrame":
    """Read run files into a tidy DataFrame, without weights and checkpoints.

        runs = nl.runs.load("runs")
        runs.groupby(["rule", "profile"]).accuracy_at_once.agg(["median", "std"])

    Args:
        where: a folder, a run file, or several of both. Folders inside a folder are not read.
        kind: "runs", "epochs" or "steps": what a row is; see `noisylearn.runs.records`.

    Returns:
        The rows, in the order of the files. `attrs["damaged"]` names the files that cannot be read, with the reason;
        a warning says so as well.

    Raises:
        UserError: pandas is missing, or as for `noisylearn.runs.records`.
    """
    try:
        import pandas as pd
    except ImportError:
        raise not_installed("nl.runs.records needs no pandas, nl.runs.load needs", "pandas", "pandas") from None
    pieces, damaged = read_pieces(where, kind)
    if kind == "runs":
        frame = pd.DataFrame([piece.same for piece in pieces])
        dates = {name: pd.to_datetime(frame[name], utc=True) for name in DATES if name in frame}
        frame = frame.assign(**dates)
    else:
        parts = [pd.DataFrame(piece.same | piece.curves) for piece in pieces]
        frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    frame.attrs["damaged"] = damaged
    warn_of_damage(damaged)
    return frame
