"""The command that computes a run again."""

import shlex
from typing import Any

from noisylearn.experiments.config import TrainConfig, all_settings, idle_options
from noisylearn.experiments.run_facts import RunFacts
from noisylearn.profiles import profile_files


def command_of(run: RunFacts) -> tuple[str, str]:
    """The command that computes a run again, or continues an unfinished one, and what has to be said of it.

    Args:
        run: the run.

    Returns:
        The command, with every setting that has an effect; empty where this version does not know the configuration.
        A remark, or an empty text.
    """
    config = run.config
    unfinished = run.status == "unfinished"
    if "own" in run.settings:
        does = "and resume=True, continues it" if unfinished else "is the same run"
        return "", f"trained by nl.fit: the same call in Python, with the same weights and data, {does}"
    if config is None:
        return "", "this version of noisylearn does not know the configuration: repeat it with the version that ran it"
    place = ["--task", config.task, "--rule", config.label, "--profile", config.profile]
    onwards = ["--resume", "--out", str(run.path.parent)] if unfinished else []
    command = shlex.join(["noisylearn", "train", *place, *_stated(config), *onwards])
    packaged = profile_files().get(config.profile)
    if packaged is not None and packaged.read_text(encoding="utf-8") == run.tree["profile"]:
        return command, ""
    return command, "its profile is not packaged with this version: its text is the attribute 'profile' of the file"


def _stated(config: TrainConfig) -> list[str]:
    """Options for all settings that have an effect, as words."""
    settings = config.uniform()
    idle = idle_options(config.label, settings)
    known = {name: one for name, one in all_settings().items() if not one.in_label and name not in idle}
    return [
        word
        for name, one in known.items()
        if settings[name] is not None
        for word in _option(name.replace("_", "-"), settings[name], one.default)
    ]


def _option(name: str, value: Any, default: Any) -> list[str]:
    """A setting as words of a command."""
    if isinstance(value, bool):
        return [f"--{name}"] if value else [f"--no-{name}"] if default else []
    return [f"--{name}", ",".join(map(str, value)) if isinstance(value, list) else str(value)]
