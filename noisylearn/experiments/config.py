"""The resolved configuration of a run: everything that affects its result, and nothing else.

Options of a rule are fields of the rule's own record (`noisylearn.rules.options`); here they are flat, beside settings
of network and training, in recipes, run files and on the command line.
"""

import fnmatch
import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import (
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)  # fmt: skip

from noisylearn.ground.errors import UserError, unknown_name
from noisylearn.ground.records import Record, one_line
from noisylearn.networks.feedforward import CONVNETS, Activation, ConvnetName, Initialisation
from noisylearn.networks.spiking import Neuron, Reset
from noisylearn.profiles import HardwareProfile
from noisylearn.rules import REGISTRY, Delta, PerLayer, Rule, rule_class
from noisylearn.rules.options import Option, options_of, typed
from noisylearn.tasks import describe

PLACE = ("task", "rule", "profile")
NETWORKS_IN_TIME = ("rnn", "spiking")


def _setting(default: Any, help: str, **bounds: Any) -> Any:
    return Field(default=default, description=help, **bounds)


class TrainConfig(Record):
    """What `noisylearn train` does. `decorrelation_rate` 0 means no decorrelation; `hidden` may be empty.

    options: all those of the rule. Given, dumped and stored flat, beside the other keys; those of other rules are left
    out.
    """

    task: str
    rule: str
    profile: str
    options: dict[str, Any]
    readout: Literal["same", "delta"] = _setting(
        "same", "same (as the rule), or delta: the exact delta rule at the readout."
    )
    seq_len: int | None = _setting(None, "Steps of a sequence (copying: symbols). Default: as the task says.", ge=1)
    network: Literal["mlp", "rnn", "spiking"] | ConvnetName = _setting(
        "mlp", "mlp, convnet or convnet-64; for sequences rnn or spiking."
    )
    neuron: Neuron = _setting("leaky", "Of --network spiking: leaky, rleaky or synaptic.")
    threshold: float = _setting(
        0.3, "Of --network spiking: membrane potential at which one fires.", gt=0, allow_inf_nan=False
    )
    reset: Reset = _setting("subtract", "Of --network spiking, at a spike: subtract, or zero (as on Loihi).")
    hidden: tuple[int, ...] = _setting((300,), "Units of the hidden layers, e.g. 300 or 300,100.")
    activation: Activation = _setting("leaky-relu", "Of the mlp or rnn: leaky-relu, relu, tanh or identity.")
    initialisation: Initialisation = _setting(
        "torch", "Of the mlp or convnet: torch (its defaults), or glorot (as Keras)."
    )
    optimizer: str = _setting("adam", "Any optimizer of torch.optim, in lower case, with its defaults.")
    lr: float = _setting(1e-3, "Learning rate.", gt=0, allow_inf_nan=False)
    schedule: Literal["constant", "cosine"] = _setting(
        "cosine", "Of learning and decorrelation: constant or cosine (to zero)."
    )
    epochs: int = _setting(10, "Passes over the training data.", ge=1)
    batch: int = _setting(100, "Samples per step.", ge=1)
    decorrelation_rate: float = _setting(0.0, "Of the d... rules.", ge=0, allow_inf_nan=False)
    weight_normalisation: bool = _setting(False, "Hold the norm of every neuron's incoming weights.")
    held_out: Literal["test", "validation"] = _setting("test", "Part to measure on: test, or validation (for tuning).")
    seed: int = _setting(0, "Of every random number of the run.", ge=0, lt=2**63)
    device: str = _setting("cpu", "auto, cpu or cuda.")

    @model_validator(mode="before")
    @classmethod
    def _gather_options(cls, table: Any) -> Any:
        if not isinstance(table, dict) or not isinstance(table.get("rule"), str):
            return table
        kind, of_any = rule_class(table["rule"]), rule_options()
        rule = kind(**_of_rule(kind, table))
        rest = {key: value for key, value in table.items() if key not in of_any}
        return {**rest, "options": {name: getattr(rule, name) for name in options_of(kind)}}

    @model_serializer(mode="wrap")
    def _flat(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        table = handler(self)
        own = table.pop("options", {})
        if info.exclude_defaults:
            defaults = {one.name: one.default for one in options_of(rule_class(self.rule)).values()}
            own = {name: value for name, value in own.items() if value != defaults[name]}
        return {**{key: table.pop(key) for key in PLACE if key in table}, **own, **table}

    @classmethod
    def of_run(cls, tree: Mapping[str, Any], run_file: Path) -> Self:
        """The configuration in a run file's tree. Raises UserError for one that this version does not know."""
        try:
            return cls.model_validate_json(tree["config"])
        except ValidationError as error:
            raise UserError(f"run file {run_file}: not a configuration of this version: {one_line(error)}") from None

    @property
    def label(self) -> str:
        """Name of the rule as on the command line: with a leading d where inputs are decorrelated."""
        label = rule_class(self.rule)(**self.options).label
        return f"d{label}" if self.decorrelation_rate else label

    def build_rule(self) -> Rule:
        """The rule with its options."""
        rule = rule_class(self.rule)(**self.options)
        return rule if self.readout == "same" else PerLayer(rules={"readout": Delta(), "*": rule})

    @property
    def programs_every_step(self) -> bool:
        """Whether training happens on the devices; else they are programmed when they are read."""
        return self.build_rule().on_chip

    def uniform(self) -> dict[str, Any]:
        """All settings, plain; options of other rules have their default, so that the keys are those of every rule."""
        of_others = {one.name: one.default for one in rule_options().values()}
        return of_others | self.model_dump(mode="json")

    def identity(self, profile: HardwareProfile, version: str) -> str:
        """Hash of everything that affects the result: this configuration, the profile's text, the version."""
        text = json.dumps([self.model_dump(mode="json"), profile.full_text, version, torch.__version__], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def rule_options() -> dict[str, Option]:
    """The options of all rules; rules that have one of the same name mean the same by it."""
    found: dict[str, Option] = {}
    for kind in REGISTRY.values():
        for name, one in options_of(kind).items():
            if name in TrainConfig.model_fields or found.setdefault(name, one).kind != one.kind:
                raise TypeError(
                    f"rule {kind.name}: its option {name} is something else elsewhere; give it another name"
                )
    return found


def all_settings() -> dict[str, Option]:
    """Everything that recipes and users may state of a training, besides its place."""
    own = {
        name: Option(name, f.annotation, f.default, f.description or "")
        for name, f in TrainConfig.model_fields.items()
        if name not in (*PLACE, "options")
    }
    return rule_options() | own


def rule_from(settings: Mapping[str, Any]) -> Rule:
    """The rule with its options, from settings that name it."""
    kind = rule_class(settings["rule"])
    return kind(**{name: settings[name] for name in options_of(kind) if name in settings})


def split_label(label: str) -> tuple[str, bool]:
    """("anp", True) of "danp": the rule and whether inputs are decorrelated; "tbptt5" is a "bptt".

    Raises UserError if unknown.
    """
    for start, decorrelated in (("", False), ("d", True)):
        for kind in REGISTRY.values():
            if label.startswith(start) and kind.from_label(label.removeprefix(start)) is not None:
                return kind.name, decorrelated
    others = [name.replace("<k>", "1") for kind in REGISTRY.values() for name in kind.other_labels]
    raise unknown_name("rule", label, [*REGISTRY, *others, *(f"d{name}" for name in REGISTRY)])


def label_options(label: str) -> dict[str, Any]:
    """Options of a rule that its name states: the 5 of "tbptt5"."""
    rule, decorrelated = split_label(label)
    return rule_class(rule).from_label(label[int(decorrelated) :]) or {}


def resolve(
    task: str, label: str, profile: HardwareProfile, options: Mapping[str, Any], lenient: bool = False
) -> tuple[TrainConfig, list[str]]:
    """Configuration from the recipes and what the user stated; also the names of the recipes that were used.

    What neither states the rule chooses by the profile (`Rule.settled`), or it has its default.
    Raises UserError, in one line, for a value that is not allowed, and for a stated option without any effect; with
    `lenient`, for options that several rules share, the latter keeps its default.
    """
    rule, decorrelated = split_label(label)
    in_time = describe(task).in_time
    stated = {key: value for key, value in options.items() if value is not None}
    _check_names(stated, "configuration")
    recipe, used = _recipe(task, label, profile.name)
    if in_time:
        recipe = {"network": "rnn", "activation": "tanh"} | recipe
    _check_time(task, label, in_time, {**recipe, **stated}.get("network", "mlp"))
    idle = idle_options(label, {**recipe, **stated})
    for key in (key for key in stated if key in idle and not lenient):
        raise UserError(f"--{key.replace('_', '-')} {idle[key]}")
    recipe, stated = ({k: v for k, v in given.items() if k not in idle} for given in (recipe, stated))
    settings = recipe | stated | _settled(label, recipe, stated, profile)
    if decorrelated and not settings.get("decorrelation_rate"):
        raise UserError(f"rule {label} decorrelates: give --decorrelation-rate a positive number")
    settings["device"] = chosen_device(settings.get("device", "auto"))
    try:
        config = TrainConfig(task=task, rule=rule, profile=profile.name, **settings)
    except ValidationError as error:
        raise UserError(f"configuration: {one_line(error)}") from None
    if config.weight_normalisation and in_time and config.build_rule().in_time().update == "online":
        raise UserError("--weight-normalisation restores norms after a whole sequence: say --update sequence")
    return config, used


def _settled(
    label: str, recipe: Mapping[str, Any], stated: Mapping[str, Any], profile: HardwareProfile
) -> dict[str, Any]:
    """The options of the rule. Raises UserError for a value that is not allowed."""
    kind, named = rule_class(split_label(label)[0]), label_options(label)
    for name in (one.name for one in options_of(kind).values() if one.in_label and one.name in stated):
        raise UserError(f"{name} is stated by the rule's name, such as {', '.join(kind.other_labels)}; leave it out")
    try:
        from_recipe, from_user = (_of_rule(kind, table) for table in (recipe, {**stated, **named}))
        settled = kind.settled(from_recipe, from_user, profile)
        kind(**settled)  # which checks the bounds
    except UserError as error:
        raise UserError(f"configuration: {error}") from None
    return settled


def _of_rule(kind: type[Rule], settings: Mapping[str, Any]) -> dict[str, Any]:
    return typed(kind, {key: value for key, value in settings.items() if key in options_of(kind)})


def idle_options(label: str, settings: Mapping[str, Any]) -> dict[str, str]:
    """What a rule and a network have no use for, besides what the settings choose, and what each goes with."""
    rule, decorrelated = split_label(label)
    kind, no_effect = rule_class(rule), f"has no effect on rule {label}"
    network = settings.get("network", "mlp")
    in_time = network in NETWORKS_IN_TIME
    idle = dict.fromkeys(rule_options().keys() - options_of(kind).keys(), no_effect)
    idle |= kind.idle({**settings, **label_options(label)}, in_time)
    if not kind.perturbs:
        idle["readout"] = no_effect
    if not decorrelated:
        idle["decorrelation_rate"] = f"goes with a decorrelated rule: say --rule d{label}"
    if in_time:
        idle["initialisation"] = "goes with --network mlp or convnet"
    else:
        idle["seq_len"] = "goes with tasks that have sequences"
    if network != "spiking":
        idle |= dict.fromkeys(("neuron", "threshold", "reset"), "goes with --network spiking")
    if network in CONVNETS:
        idle["hidden"] = "goes with --network mlp"
    if network == "spiking" or network in CONVNETS:
        idle["activation"] = "goes with --network mlp or rnn"
    return idle


def chosen_device(name: str) -> str:
    """A device of torch by its name, "auto" being CUDA where it is and else the CPU."""
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def _check_time(task: str, label: str, in_time: bool, network: str) -> None:
    """Raises UserError for a network or a rule that does not go with sequences, or with none but them."""
    what = "sequences" if in_time else "no sequences"
    if in_time != (network in NETWORKS_IN_TIME):
        choose = " or ".join(NETWORKS_IN_TIME if in_time else ("mlp", *CONVNETS))
        raise UserError(f"--network {network}: task {task} has {what}; choose {choose}")
    kind = rule_class(split_label(label)[0])
    if instead := kind.instead_in_time if in_time else kind.instead_without_time:
        raise UserError(f"rule {label}: task {task} has {what}; say {instead}")


def _recipe(task: str, label: str, profile: str) -> tuple[dict[str, Any], list[str]]:
    """Settings of all recipes for a place, and the names of those that were used. Raises UserError for unknown ones."""
    settings: dict[str, Any] = {}
    used = []
    for pattern, recipe in recipes().items():
        _check_names(recipe, f"recipe '{pattern}'")
        if _matches(pattern, (task, label, profile)):
            settings |= recipe
            used.append(pattern)
    return settings, used


def _check_names(settings: Iterable[str], place: str) -> None:
    known = all_settings()
    for key in settings:
        if key not in known:
            raise UserError(f"{place}: {unknown_name('key', key, known)}")


def _matches(pattern: str, place: tuple[str, ...]) -> bool:
    """Whether every part of task/rule/profile that the pattern states matches."""
    return all(fnmatch.fnmatchcase(part, wanted) for part, wanted in zip(place, pattern.split("/"), strict=False))


def recipes() -> dict[str, dict[str, Any]]:
    """Pattern of task/rule/profile -> settings, in the order in which they override one another."""
    return tomllib.loads(files("noisylearn.experiments").joinpath("recipes.toml").read_text(encoding="utf-8"))
