"""The resolved configuration of a run: everything that affects its result, and nothing else.

Options of a rule are fields of its record (`noisylearn.rules.options`). In recipes, run files and on the command line
they stand on one level with the settings of network and training.
"""

import fnmatch
import json
import tomllib
from collections.abc import Callable, Iterable, Mapping
from importlib.resources import files
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import (
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)  # fmt: skip

from noisylearn.experiments.schedules import Schedule
from noisylearn.ground.errors import UserError, unknown_name
from noisylearn.ground.identity import identity_of
from noisylearn.ground.records import Record, one_line
from noisylearn.networks.feedforward import CONVNETS, Activation, ConvnetName, Initialisation
from noisylearn.networks.spiking import Neuron, Reset
from noisylearn.profiles import HardwareProfile
from noisylearn.rules import REGISTRY, Delta, PerLayer, Rule, rule_class, unknown_rule
from noisylearn.rules.options import Option, options_of, typed
from noisylearn.tasks import describe
from noisylearn.tasks.own_file import is_own, source

PLACE = ("task", "rule", "profile")
NETWORKS_IN_TIME = ("rnn", "spiking")
CONDITIONS: Mapping[str, Callable[[HardwareProfile], bool]] = {"own-noise": attrgetter("has_own_noise")}  # of recipes
Units = Annotated[int, Field(ge=1, le=10**12)]


def _setting(default: Any, help: str, **bounds: Any) -> Any:
    return Field(default=default, description=help, **bounds)


class TrainConfig(Record):
    """All settings of a run of `noisylearn train`.

    Args:
        task: name of the task.
        rule: name of the rule, without a leading d.
        profile: name of the profile.
        options: options of the rule. They are given, dumped and stored on one level with the other settings; options
            of other rules are dropped.
        hidden: units of the hidden layers; may be empty.
        decorrelation_rate: learning rate of the decorrelation; 0 for no decorrelation.

    The other settings say what they are in their `description`, which is also the help text of their option.
    """

    task: str
    rule: str
    profile: str
    options: dict[str, Any]
    readout: Literal["same", "delta"] = _setting(
        "same", "same (as the rule), or delta: the exact delta rule at the readout."
    )
    seq_len: int | None = _setting(
        None, "Steps of a sequence (copying: symbols). Default: as the task says.", ge=1, le=10**6
    )
    network: Literal["mlp", "rnn", "spiking", ConvnetName] = _setting(
        "mlp", "mlp, convnet or convnet-64; for sequences rnn or spiking."
    )
    neuron: Neuron = _setting("leaky", "Neurons of --network spiking: leaky, rleaky or synaptic.")
    threshold: float = _setting(
        0.3, "Membrane potential at which neurons of --network spiking fire.", gt=0, allow_inf_nan=False
    )
    reset: Reset = _setting("subtract", "Reset of --network spiking at a spike: subtract, or zero (as on Loihi).")
    hidden: tuple[Units, ...] = _setting((300,), "Units of the hidden layers, e.g. 300 or 300,100; 0 for none.")
    activation: Activation = _setting("leaky-relu", "Activation of the mlp or rnn: leaky-relu, relu, tanh or identity.")
    initialisation: Initialisation = _setting(
        "torch", "Initial weights of the mlp or convnet: torch (its defaults), or glorot (as Keras)."
    )
    optimizer: str = _setting("adam", "Any optimizer of torch.optim, such as sgd, with its defaults.")
    lr: float = _setting(1e-3, "Learning rate.", gt=0, allow_inf_nan=False)
    schedule: str = _setting(
        "cosine",
        "Rates of learning and decorrelation over the run: constant, cosine (to zero), or a class of "
        "torch.optim.lr_scheduler with its arguments, stepped after every epoch: StepLR,step_size=10.",
    )
    epochs: int = _setting(10, "Passes over the training data.", ge=1, le=10**6)
    patience: int | None = _setting(
        None,
        "Epochs without a better held-out metric after which the run ends; needs --held-out validation. "
        "Default: it never ends early.",
        ge=1,
    )
    batch: int = _setting(100, "Samples per step.", ge=1)
    batch_parts: int = _setting(
        1, "Parts of a batch, each with noise of its own, that processes of torchrun may share.", ge=1
    )
    flips: bool = _setting(False, "Mirror half of the training images left to right, drawn anew in every step.")
    decorrelation_rate: float = _setting(0.0, "Rate of the decorrelation, for d... rules.", ge=0, allow_inf_nan=False)
    weight_normalisation: bool = _setting(False, "Keep the norm of every neuron's incoming weights constant.")
    held_out: Literal["test", "validation"] = _setting("test", "Part to measure on: test, or validation (for tuning).")
    seed: int = _setting(0, "Seed of every random number of the run.", ge=0, lt=2**63)
    device: str = _setting("cpu", "Device of torch: auto, cpu or cuda.")
    kernels: bool = _setting(
        False, "Read and write devices by kernels (Numba on a CPU, Triton on a GPU): faster, with other random numbers."
    )

    @field_validator("schedule")
    @classmethod
    def _is_a_schedule(cls, text: str) -> str:
        Schedule.from_text(text)
        return text

    @field_validator("optimizer")
    @classmethod
    def _in_lower_case(cls, text: str) -> str:
        return text.lower()

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
        """Read the configuration of a run.

        Args:
            tree: contents of the run file.
            run_file: its path, for the message.

        Raises:
            UserError: this version does not know the configuration, or it is that of a network of one's own.
        """
        if _is_own(tree["config"]):
            raise UserError(
                f"run file {run_file}: a run of nl.fit, whose network and data are in no configuration; in Python give "
                "its network, run.model, to noisylearn.backends: lava.to_lava_net, netlist.from_model or nir.write_nir"
            )
        try:
            return cls.model_validate_json(tree["config"])
        except ValidationError as error:
            raise UserError(f"run file {run_file}: not a configuration of this version: {one_line(error)}") from None

    @property
    def label(self) -> str:
        """Name of the rule on the command line, with a leading d where inputs are decorrelated."""
        label = rule_class(self.rule)(**self.options).label
        return f"d{label}" if self.decorrelation_rate else label

    def build_rule(self) -> Rule:
        """Build the rule with its options."""
        rule = rule_class(self.rule)(**self.options)
        return rule if self.readout == "same" else PerLayer(rules={"readout": Delta(), "*": rule})

    @property
    def programs_every_step(self) -> bool:
        """Whether training happens on the devices; otherwise they are programmed before they are read."""
        return self.build_rule().on_chip

    def uniform(self) -> dict[str, Any]:
        """All settings as plain values, with the same keys for every rule; those of other rules have their default."""
        of_others = {one.name: one.default for one in rule_options().values()}
        return of_others | self.model_dump(mode="json")

    def identity(self, profile: HardwareProfile, version: str) -> str:
        """Hash of everything that affects the result.

        Args:
            profile: of the machine; its text enters the hash, as does that of the task's file, where it is in one.
            version: of this package. That of torch enters as well.

        Returns:
            12 hexadecimal digits.
        """
        facts = [self.model_dump(mode="json"), profile.full_text, version, torch.__version__]
        return identity_of([*facts, source(self.task)] if is_own(self.task) else facts)


def _is_own(config: str) -> bool:
    """Whether a configuration, in JSON, is that of a run of `noisylearn.fit`."""
    try:
        table = json.loads(config)
    except (ValueError, RecursionError):
        return False
    return isinstance(table, dict) and "own" in table


def rule_options() -> dict[str, Option]:
    """The options of all rules, by name.

    Raises:
        UserError: an option has the name of another setting.
    """
    found: dict[str, Option] = {}
    for kind in REGISTRY.values():
        for name, one in options_of(kind).items():
            if name in TrainConfig.model_fields:
                raise UserError(f"rule {kind.name}: its option {name} is a setting of every run; give it another name")
            found.setdefault(name, one)
    return found


def all_settings() -> dict[str, Option]:
    """All settings that recipes and users may state, by name; task, rule and profile are not among them."""
    own = {
        name: Option(name, f.annotation, f.default, f.description or "")
        for name, f in TrainConfig.model_fields.items()
        if name not in (*PLACE, "options")
    }
    return rule_options() | own


def rule_from(settings: Mapping[str, Any]) -> Rule:
    """Build a rule from settings.

    Args:
        settings: "rule" -> name, option -> value; options that are left out keep their default.

    Raises:
        UserError: there is no such rule, or a value is not allowed.
    """
    kind = rule_class(settings["rule"])
    return kind(**{name: settings[name] for name in options_of(kind) if name in settings})


def split_label(label: str) -> tuple[str, bool]:
    """Split a name on the command line: ("anp", True) of "danp", ("bptt", False) of "tbptt5".

    Args:
        label: the name, in either case.

    Returns:
        Name of the rule, and whether inputs are decorrelated.

    Raises:
        UserError: there is no such rule.
    """
    small = label.lower()
    for start, decorrelated in (("", False), ("d", True)):
        for kind in REGISTRY.values():
            if small.startswith(start) and kind.from_label(small.removeprefix(start)) is not None:
                return kind.name, decorrelated
    others = [name.replace("<k>", "1") for kind in REGISTRY.values() for name in kind.other_labels]
    raise unknown_rule(label, [*REGISTRY, *others, *(f"d{name}" for name in REGISTRY)])


def label_options(label: str) -> dict[str, Any]:
    """Options that the name of a rule states: {"truncate": 5} of "tbptt5".

    Args:
        label: name on the command line.

    Raises:
        UserError: there is no such rule.
    """
    rule, decorrelated = split_label(label)
    return rule_class(rule).from_label(label.lower()[int(decorrelated) :]) or {}


def resolve(
    task: str, label: str, profile: HardwareProfile, options: Mapping[str, Any], lenient: bool = False
) -> tuple[TrainConfig, list[str]]:
    """Make a configuration from recipes and from what the user stated.

    The rule chooses options that neither of them states by the profile (`Rule.settled`); other settings keep their
    default.

    Args:
        task: name of the task.
        label: name of the rule on the command line, in either case.
        profile: of the machine.
        options: setting -> value that the user stated; None for a setting that was not.
        lenient: whether stated options that have no effect keep their default, for options that several rules share;
            otherwise they are refused.

    Returns:
        The configuration, and the names of the recipes used.

    Raises:
        UserError: a value is not allowed, or a stated option has no effect.
    """
    label = label.lower()
    rule, decorrelated = split_label(label)
    in_time = describe(task).in_time
    stated = {key: value for key, value in options.items() if value is not None}
    _check_names(stated, "configuration", all_settings())
    recipe, used = _recipe(task, label, profile)
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
    if config.patience and config.held_out == "test":
        raise UserError(
            f"--patience {config.patience} would end the run by its score on the test part: say --held-out validation, "
            "and read the test part once, with the epochs found"
        )
    if config.batch_parts > config.batch:
        raise UserError(f"--batch-parts {config.batch_parts}: a batch has {config.batch} samples; give at most as many")
    if config.batch_parts > 1 and not (built := config.build_rule()).divides:
        if not lenient:
            built.check_divides()
        config = config.model_copy(update={"batch_parts": 1})
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
    """Settings that have no effect on a run.

    Args:
        label: name of the rule on the command line.
        settings: setting -> value of the run.

    Returns:
        Setting -> what it would need to have an effect, in words.
    """
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
    """Name of a device of torch.

    Args:
        name: "auto" for CUDA where there is a device, otherwise the CPU; other names are returned unchanged.
    """
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def _check_time(task: str, label: str, in_time: bool, network: str) -> None:
    """Raises UserError for a network or a rule that does not go with sequences, or needs them."""
    what = "sequences" if in_time else "no sequences"
    if in_time != (network in NETWORKS_IN_TIME):
        choose = " or ".join(NETWORKS_IN_TIME if in_time else ("mlp", *CONVNETS))
        raise UserError(f"--network {network}: task {task} has {what}; choose {choose}")
    kind = rule_class(split_label(label)[0])
    if instead := kind.instead_in_time if in_time else kind.instead_without_time:
        raise UserError(f"rule {label}: task {task} has {what}; say {instead}")


def _recipe(task: str, label: str, profile: HardwareProfile) -> tuple[dict[str, Any], list[str]]:
    """Settings of all recipes for a place, and the names of those that were used. Raises UserError for unknown ones."""
    settings: dict[str, Any] = {}
    used, known = [], all_settings()
    for pattern, recipe in recipes().items():
        _check_names(recipe, f"recipe '{pattern}'", known)
        if _matches(pattern, task, label, profile):
            settings |= recipe
            used.append(pattern)
    return settings, used


def _check_names(settings: Iterable[str], place: str, known: Mapping[str, Option]) -> None:
    for key in settings:
        if key not in known:
            raise UserError(f"{place}: {unknown_name('key', key, known)}")


def _matches(pattern: str, task: str, label: str, profile: HardwareProfile) -> bool:
    """Whether every part of task/rule/condition that the pattern states matches."""
    wanted, conditions = pattern.split("/")[:2], pattern.split("/")[2:]
    for condition in conditions:
        if condition not in CONDITIONS:
            raise UserError(f"recipe '{pattern}': {unknown_name('condition', condition, CONDITIONS)}")
    names = all(fnmatch.fnmatchcase(part, of) for part, of in zip((task, label), wanted, strict=False))
    return names and all(CONDITIONS[condition](profile) for condition in conditions)


def recipes() -> dict[str, dict[str, Any]]:
    """All recipes: pattern of task/rule/condition -> settings. Later ones override earlier ones."""
    return tomllib.loads(files("noisylearn.experiments").joinpath("recipes.toml").read_text(encoding="utf-8"))
