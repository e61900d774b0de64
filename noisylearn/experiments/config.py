"""The resolved configuration of a run: everything that affects its result, and nothing else."""

import fnmatch
import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import Field, ValidationError

from noisylearn.ground.errors import UserError, unknown_name
from noisylearn.ground.records import Record, one_line
from noisylearn.networks.feedforward import CONVNETS, Activation, ConvnetName, Initialisation
from noisylearn.networks.spiking import Neuron, Reset
from noisylearn.profiles import HardwareProfile
from noisylearn.rules import REGISTRY, Delta, PerLayer, Rule, rule_class
from noisylearn.rules.anp import Scale
from noisylearn.rules.backprop import Forward
from noisylearn.rules.estimate import Baseline
from noisylearn.rules.in_time import OF_LATER_LOSSES, Credit, Update
from noisylearn.tasks import describe


class TrainConfig(Record):
    """What `noisylearn train` does. `decorrelation_rate` 0 means no decorrelation; `hidden` may be empty."""

    task: str
    rule: str
    profile: str
    baseline: Baseline = "clean"
    draws: int = Field(default=1, ge=1)
    scale: Scale = "network"
    forward: Forward = "digital"
    readout: Literal["same", "delta"] = "same"
    hidden_noise: bool = False
    credit: Credit = "local"
    decay: float = Field(default=0.9, gt=0, lt=1)
    update: Update = "sequence"
    truncate: int | None = Field(default=None, ge=1)
    seq_len: int | None = Field(default=None, ge=1)
    network: Literal["mlp", "rnn", "spiking"] | ConvnetName = "mlp"
    neuron: Neuron = "leaky"
    threshold: float = Field(default=0.3, gt=0, allow_inf_nan=False)
    reset: Reset = "subtract"
    hidden: tuple[int, ...] = (300,)
    activation: Activation = "leaky-relu"
    initialisation: Initialisation = "torch"
    optimizer: str = "adam"
    lr: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    schedule: Literal["constant", "cosine"] = "cosine"
    epochs: int = Field(default=10, ge=1)
    batch: int = Field(default=100, ge=1)
    decorrelation_rate: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    weight_normalisation: bool = False
    held_out: Literal["test", "validation"] = "test"
    seed: int = Field(default=0, ge=0, lt=2**63)
    device: str = "cpu"

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
        rule = self.rule if self.truncate is None else f"t{self.rule}{self.truncate}"
        return f"d{rule}" if self.decorrelation_rate else rule

    def build_rule(self) -> Rule:
        """The rule with its options."""
        kind = rule_class(self.rule)
        options = {f.name: getattr(self, f.name) for f in fields(kind) if f.name in type(self).model_fields}
        rule = kind(**options)
        return rule if self.readout == "same" else PerLayer(rules={"readout": Delta(), "*": rule})

    @property
    def programs_every_step(self) -> bool:
        """Whether training happens on the devices; else they are programmed when they are read."""
        return self.build_rule().on_chip

    def identity(self, profile: HardwareProfile, version: str) -> str:
        """Hash of everything that affects the result: this configuration, the profile's text, the version."""
        text = json.dumps([self.model_dump(mode="json"), profile.full_text, version, torch.__version__], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def split_label(label: str) -> tuple[str, bool]:
    """("anp", True) of "danp": the rule and whether inputs are decorrelated; "tbptt5" is a "bptt".

    Raises UserError if unknown.
    """
    if label in REGISTRY:
        return label, False
    if label.startswith("d") and label[1:] in REGISTRY:
        return label[1:], True
    if truncated := _TRUNCATED.fullmatch(label):
        return "bptt", bool(truncated["d"])
    raise unknown_name("rule", label, [*REGISTRY, "tbptt1", *(f"d{name}" for name in REGISTRY)])


def label_options(label: str) -> dict[str, int]:
    """Options of a rule that its name states: the 5 of "tbptt5"."""
    truncated = _TRUNCATED.fullmatch(label)
    return {"truncate": int(truncated["steps"])} if truncated else {}


_TRUNCATED = re.compile(r"(?P<d>d?)tbptt(?P<steps>\d+)")


def resolve(
    task: str, label: str, profile: HardwareProfile, options: Mapping[str, Any], lenient: bool = False
) -> tuple[TrainConfig, list[str]]:
    """Configuration from the recipes and what the user stated; also the names of the recipes that were used.

    Without a stated baseline: clean where the profile has a clean pass; else one more noisy pass, or for several
    draws of ANP the mean of all noisy passes.
    Raises UserError, in one line, for a value that is not allowed, and for a stated option without any effect; with
    `lenient`, for options that several rules share, the latter keeps its default.
    """
    rule, decorrelated = split_label(label)
    stated = {key: value for key, value in options.items() if value is not None}
    settings: dict[str, Any] = {}
    used = []
    in_time = describe(task).in_time
    if in_time:
        settings = {"network": "rnn", "activation": "tanh"}
    for pattern, recipe in recipes().items():
        if _matches(pattern, (task, label, profile.name)):
            settings |= recipe
            used.append(pattern)
    settings |= stated
    if settings.get("credit") in OF_LATER_LOSSES and "update" not in stated:
        settings["update"] = "sequence"
    if settings.get("weight_normalisation") and in_time and settings.get("update") == "online":
        raise UserError("--weight-normalisation restores norms after a whole sequence: say --update sequence")
    _check_time(task, label, in_time, settings.get("network", "mlp"))
    if not rule_class(rule).perturbs and profile.in_place is not None:
        settings.setdefault("forward", "chip")  # there is no digital model to train first
    idle = idle_options(label, settings)
    for key in idle & set(settings):
        if key in stated and not lenient:
            raise UserError(f"--{key.replace('_', '-')} {_no_effect(key, label)}")
        del settings[key]
    settings |= label_options(label)
    if "baseline" not in settings and "baseline" not in idle:
        noisy = "mean" if rule == "anp" and int(settings.get("draws", 1)) > 1 else "noisy"
        settings["baseline"] = "clean" if "clean_pass" in profile.observable else noisy
    if decorrelated and not settings.get("decorrelation_rate"):
        raise UserError(f"rule {label} decorrelates: give --decorrelation-rate a positive number")
    settings["device"] = chosen_device(settings.get("device", "auto"))
    try:
        config = TrainConfig(task=task, rule=rule, profile=profile.name, **settings)
    except ValidationError as error:
        raise UserError(f"configuration: {one_line(error)}") from None
    return config, used


def idle_options(label: str, settings: Mapping[str, Any]) -> set[str]:
    """Options that a rule and a network have no use for, besides those that the settings choose."""
    rule, decorrelated = split_label(label)
    network = settings.get("network", "mlp")
    of_rules = {"baseline", "draws", "scale", "forward", "credit", "decay", "update", "hidden_noise"}
    idle = of_rules - {f.name for f in fields(rule_class(rule))}
    idle |= {"readout"} if not rule_class(rule).perturbs else set()
    idle |= {"update"} if label in ("bptt", "dbptt") else set()
    idle |= {"decorrelation_rate"} if not decorrelated else set()
    idle |= {"decay"} if settings.get("credit") != "trace" else set()
    idle |= {"initialisation"} if network in NETWORKS_IN_TIME else {"credit", "decay", "update", "seq_len"}
    idle |= {"neuron", "threshold", "reset"} if network != "spiking" else {"activation"}
    return idle | ({"hidden", "activation"} if network in CONVNETS else set())


def chosen_device(name: str) -> str:
    """A device of torch by its name, "auto" being CUDA where it is and else the CPU."""
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


NETWORKS_IN_TIME = ("rnn", "spiking")


def _check_time(task: str, label: str, in_time: bool, network: str) -> None:
    """Raises UserError for a network or a rule that does not go with sequences, or with none but them."""
    if in_time != (network in NETWORKS_IN_TIME):
        choose = " or ".join(NETWORKS_IN_TIME if in_time else ("mlp", *CONVNETS))
        what = "sequences" if in_time else "no sequences"
        raise UserError(f"--network {network}: task {task} has {what}; choose {choose}")
    rule = split_label(label)[0]
    if in_time and rule == "bp":
        raise UserError(f"rule {label}: task {task} has sequences; say bptt, or tbptt<k> for k steps back at most")
    if not in_time and rule == "bptt":
        raise UserError(f"rule {label}: task {task} has no sequences to go back through; say bp")


def _no_effect(option: str, label: str) -> str:
    if option == "decorrelation_rate":
        return f"goes with a decorrelated rule: say --rule d{label}"
    if option == "decay":
        return "goes with --credit trace"
    if option in ("credit", "update", "seq_len") and label not in ("bptt", "dbptt"):
        return "goes with tasks that have sequences, and rules that choose"
    if option in ("neuron", "threshold", "reset"):
        return "goes with --network spiking"
    networks = {"hidden": "mlp", "activation": "mlp or rnn", "initialisation": "mlp or convnet"}
    return f"goes with --network {networks[option]}" if option in networks else f"has no effect on rule {label}"


def _matches(pattern: str, place: tuple[str, ...]) -> bool:
    """Whether every part of task/rule/profile that the pattern states matches."""
    return all(fnmatch.fnmatchcase(part, wanted) for part, wanted in zip(place, pattern.split("/"), strict=False))


def recipes() -> dict[str, dict[str, Any]]:
    """Pattern of task/rule/profile -> settings, in the order in which they override one another."""
    return tomllib.loads(files("noisylearn.experiments").joinpath("recipes.toml").read_text(encoding="utf-8"))
