"""`noisylearn.train` and `noisylearn.compare`: what the commands of these names do, from Python."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from noisylearn.engines import Processes
from noisylearn.experiments import compare as comparison
from noisylearn.experiments import train as training
from noisylearn.experiments.config import resolve
from noisylearn.experiments.row import Row
from noisylearn.experiments.run_file import RunFile
from noisylearn.experiments.tuning import Tuning
from noisylearn.ground.interrupt import term_said
from noisylearn.profiles import HardwareProfile, load_profile
from noisylearn.progress import shown

Profile = str | Path | HardwareProfile
CALL = "the same call"
AGAIN = f"{CALL} goes on: finished runs are read, unfinished ones continue from their last checkpoint"


def train(
    task: str,
    rule: str,
    profile: Profile = "gaussian-node",
    *,
    seed: int = 0,
    out: str | Path = "runs",
    data_dir: str | None = None,
    **settings: Any,
) -> RunFile:
    """Train a network on a chip, as `noisylearn train` does; a network or data of your own go to `noisylearn.fit`.

    A finished run is read from its file, and an unfinished one continued.

    Args:
        task: its name, see `noisylearn.tasks.names()`.
        rule: its name on the command line, such as "danp" (with d in front: decorrelated).
        profile: of the machine: a name, a TOML file, or a profile.
        seed: of all random numbers of the run.
        out: folder for the run file.
        data_dir: folder with the data files; None for the default.
        **settings: options of `noisylearn train`, with _ for -, such as `lr=1e-3, hidden=(300,)`; the others come from
            the recipe of task, rule and profile.

    Returns:
        The run file: `.read()` gives its contents.

    Raises:
        UserError: a setting is unknown, not allowed or has no effect, or the rule cannot learn on the profile.
        RunawayError: the loss is not finite, or a weight norm diverges.
    """
    chosen = load_profile(profile)
    config, _ = resolve(task, rule, chosen, {**settings, "seed": seed})
    with term_said(AGAIN), shown() as line:
        on_step = line.run(f"{config.label} on {chosen.name}", config.epochs)
        return training.train(config, chosen, Path(out), data_dir, resume=True, on_step=on_step, onwards=CALL)


def compare(
    task: str,
    rules: str | Sequence[str],
    profiles: Profile | Sequence[Profile] = ("gaussian-node",),
    *,
    seeds: Sequence[int] = (0, 1, 2),
    tune_lr: Sequence[float] = (),
    workers: int = 1,
    out: str | Path = "runs",
    data_dir: str | None = None,
    **settings: Any,
) -> list[Row]:
    """Train every rule on every profile with every seed, as `noisylearn compare` does.

    Finished runs are read from their files, and unfinished ones continued.

    Args:
        task: its name.
        rules: their names on the command line, or one of them.
        profiles: of the machines, or of one.
        seeds: a run for each of them.
        tune_lr: learning rates to try for every rule first, on the validation part.
        workers: runs at the same time, in processes of their own; a script that has several keeps what it does under
            `if __name__ == "__main__":`.
        out: folder for the run files.
        data_dir: folder with the data files; None for the default.
        **settings: options of `noisylearn compare`, for every rule that has them; the others come from the recipes.

    Returns:
        A row for every rule on every profile: `.summary()` gives median, mean and standard deviation over the seeds,
        `.refused` why runs are missing. `noisylearn.runs.load(out)` has the runs as a table.

    Raises:
        UserError: the request itself is wrong, or no run could be carried out.
    """
    rules = [rules] if isinstance(rules, str) else rules
    profiles = [profiles] if isinstance(profiles, str | Path | HardwareProfile) else profiles
    chosen = [load_profile(profile) for profile in profiles]
    comparison.check_request(rules, [profile.name for profile in chosen], seeds)
    tuning = Tuning({"lr": list(tune_lr)}, None) if tune_lr else None
    engine = Processes(workers) if workers > 1 else None
    with term_said(AGAIN), shown() as line:
        return comparison.compare(task, rules, chosen, seeds, settings, Path(out), data_dir, line, tuning, engine)
