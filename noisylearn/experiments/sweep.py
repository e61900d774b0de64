"""The file of a sweep: a comparison with a search for settings, as one table of TOML."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from noisylearn.experiments.tuning import MOST_TRIALS, Method, Range, Tuning
from noisylearn.ground.errors import UserError
from noisylearn.ground.records import Record, one_line
from noisylearn.ground.toml import parse_toml, read_text

Names = Annotated[tuple[str, ...], Field(min_length=1)]
Value = bool | int | float | str | tuple[int, ...]


class Search(Record):
    """What is tried for every rule on every profile.

    Args:
        over: setting -> list of values to try, or a `Range`.
        method: see `noisylearn.experiments.tuning.Tuning`, as for the others.
        trials: how many.
        epochs: of each.
        seed: of values drawn.
    """

    over: dict[str, Range | Annotated[tuple[Value, ...], Field(min_length=1)]] = Field(min_length=1)
    method: Method = "grid"
    trials: int | None = Field(None, ge=1, le=MOST_TRIALS)
    epochs: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0)


class Sweep(Record):
    """A comparison as a file asks for it.

    Args:
        task: its name.
        rules: names on the command line, such as "danp".
        profiles: names, or TOML files.
        seeds: a run for each, with the best settings; trials use the first.
        settings: of all runs, as of `noisylearn train`, with underscores; a rule leaves out what it has no use for.
        search: what is tried before the runs; None to try nothing.
    """

    task: str
    rules: Names
    profiles: Names = ("gaussian-node",)
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0, 1, 2)
    settings: dict[str, Value] = Field(default_factory=dict)
    search: Search | None = None

    def tuning(self) -> Tuning | None:
        """The search, checked.

        Raises:
            UserError: it does not fit together, or with the settings.
        """
        if self.search is None:
            return None
        one = self.search
        if twice := sorted({*one.over, "held_out"} & {*self.settings}):
            raise UserError(f"settings: {', '.join(twice)}: the search decides it; leave it out")
        if fixed := sorted({"seed", "held_out", "device", *(["epochs"] if one.epochs else [])} & {*one.over}):
            raise UserError(f"search.over: {', '.join(fixed)}: not chosen by trials; leave it out")
        return Tuning(dict(one.over), one.epochs, one.method, one.trials, one.seed)


def read_sweep(path: Path) -> Sweep:
    """Read the file of a sweep.

    Args:
        path: of the TOML file.

    Returns:
        The sweep.

    Raises:
        UserError: there is no such file, or it says something else.
    """
    what = f"sweep {path}"
    table: dict[str, Any] = parse_toml(read_text(path, what), what)
    try:
        return Sweep.model_validate(table)
    except ValidationError as error:
        raise UserError(f"{what}: {one_line(error)}") from None
