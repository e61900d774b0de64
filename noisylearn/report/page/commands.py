"""The command that repeats a run: all that it states beside the recipes, quoted for a shell."""

import itertools
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from noisylearn import tasks
from noisylearn.experiments.config import TrainConfig, all_settings, idle_options, resolve
from noisylearn.ground.errors import UserError
from noisylearn.profiles import HardwareProfile, load_profile, profile_files

APART = ("task", "rule", "profile", "seed")
OF_ALL_WRITES = ("mode", "device", "status", "source", "exceptions")
MOST_NUMBERS = 3  # of a way of writing that are looked for


def train_command(config: TrainConfig, profile: HardwareProfile) -> str:
    """The command line of `noisylearn train` that repeats a run.

    It states every setting that the recipes of this version would choose otherwise; of a task that is not one of the
    package's, every setting.

    Args:
        config: of the run.
        profile: of its machine.

    Returns:
        One line. A profile that the package does not have is named as the file `NAME.toml`.
    """
    words = ["noisylearn", "train", "--task", config.task, "--rule", config.label]
    words += profile_words(profile) or ["--profile", f"{profile.name}.toml"]
    known = all_settings()
    for name, value in _stated(config, profile).items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words += [option] if value else [f"--no-{option[2:]}"] if known[name].default else []
        elif name == "hidden":
            words += [option, ",".join(map(str, value)) or "0"]
        else:
            words += [option, repr(value) if isinstance(value, float) else str(value)]
    return shlex.join([*words, "--seed", str(config.seed)])


def profile_words(profile: HardwareProfile) -> list[str]:
    """The options that choose a profile of the package, with some effects or another way of writing; else none."""
    for name in profile_files():
        if profile.name == name or profile.name.startswith(f"{name}-"):
            packaged = load_profile(name)
            for words, one in _variants(packaged, profile):
                if one.full_text == profile.full_text:
                    return ["--profile", name, *words]
    return []


def _stated(config: TrainConfig, profile: HardwareProfile) -> Mapping[str, Any]:
    """The settings to state: those that a run without them would have otherwise."""
    in_label = [name for name, one in all_settings().items() if one.in_label]
    own = {
        name: value
        for name, value in config.model_dump(mode="json").items()
        if name not in (*APART, *in_label, *idle_options(config.label, config.model_dump())) and value is not None
    }
    if config.task not in tasks.names():  # a file of anyone's may name one; looking it up would run its code
        return own
    try:
        chosen = _resolved(config, profile, {}).uniform()
        fewer = {name: value for name, value in own.items() if value != chosen[name]}
        return fewer if _resolved(config, profile, fewer) == config else own
    except UserError:
        return own


def _resolved(config: TrainConfig, profile: HardwareProfile, stated: Mapping[str, Any]) -> TrainConfig:
    """The configuration of the same run where these settings alone are stated."""
    return resolve(config.task, config.label, profile, {**stated, "seed": config.seed}, lenient=True)[0]


def _variants(packaged: HardwareProfile, wanted: HardwareProfile) -> Iterator[tuple[list[str], HardwareProfile]]:
    """Profiles that options make of a packaged one, and the options, as far as one of them may be what is wanted."""
    for words, written in _written(packaged, wanted):
        yield words, written
        yield from _with_effects(written, words, wanted)


def _written(packaged: HardwareProfile, wanted: HardwareProfile) -> Iterator[tuple[list[str], HardwareProfile]]:
    """The packaged profile, written as the one wanted is."""
    own, other = packaged.in_place, wanted.in_place
    if own is None or other is None or own == other:
        yield [], packaged
        return
    keys = [key for key in type(other).model_fields if key not in OF_ALL_WRITES]
    changed = {key: value for key in keys if (value := getattr(other, key)) != getattr(own, key, None)}
    for count in range(min(len(changed), MOST_NUMBERS) + 1):
        for numbers in itertools.permutations(changed, count):
            try:
                written = packaged.written_by(other.mode, **{key: changed[key] for key in numbers})
            except UserError:  # the mode needs more of them
                continue
            if wanted.name.startswith(written.name) and written.in_place == other:
                yield ["--write", ",".join([other.mode, *(f"{key}={changed[key]!r}" for key in numbers)])], written


def _with_effects(
    of: HardwareProfile, words: list[str], wanted: HardwareProfile
) -> Iterator[tuple[list[str], HardwareProfile]]:
    """Profiles with some effects alone, or without some, whose name is the one wanted."""
    kinds = {effect.kind for effect in of.all_effects()}
    left = {effect.kind for effect in wanted.all_effects()} & kinds
    for option, chosen, none in (("only", left, "no-effects"), ("without", kinds - left, "")):
        for order in itertools.permutations(sorted(chosen)):
            suffix = f"{option}-{'-'.join(order)}" if order else none
            if wanted.name == f"{of.name}-{suffix}".rstrip("-"):
                changed = of.only(*order) if option == "only" else of.without(*order)
                yield [*words, f"--{option}", ",".join(order) or "none"], changed
                break
