"""The resolved configuration of a run: everything that affects its result, and nothing else."""

import fnmatch
import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from importlib.resources import files
from typing import Any, Literal

import torch
from pydantic import Field, ValidationError

from noisylearn.errors import UserError, unknown_name
from noisylearn.estimate import Baseline
from noisylearn.networks.feedforward import Activation
from noisylearn.profiles import HardwareProfile
from noisylearn.records import Record, one_line
from noisylearn.rules import REGISTRY, Delta, PerLayer, Rule, rule_class
from noisylearn.rules.anp import Scale
from noisylearn.rules.backprop import Forward


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
    network: Literal["mlp", "convnet"] = "mlp"
    hidden: tuple[int, ...] = (300,)
    activation: Activation = "leaky-relu"
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

    @property
    def label(self) -> str:
        """Name of the rule as on the command line: with a leading d where inputs are decorrelated."""
        return f"d{self.rule}" if self.decorrelation_rate else self.rule

    def build_rule(self) -> Rule:
        """The rule with its options."""
        kind = rule_class(self.rule)
        options = {f.name: getattr(self, f.name) for f in fields(kind) if f.name in type(self).model_fields}
        rule = kind(**options)
        return rule if self.readout == "same" else PerLayer(rules={"readout": Delta(), "*": rule})

    @property
    def programs_every_step(self) -> bool:
        """Whether training happens on the devices; else they are programmed when they are read."""
        return not (self.rule == "bp" and self.forward == "digital")

    def identity(self, profile: HardwareProfile, version: str) -> str:
        """Hash of everything that affects the result: this configuration, the profile's text, the version."""
        text = json.dumps([self.model_dump(mode="json"), profile.full_text, version, torch.__version__], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def split_label(label: str) -> tuple[str, bool]:
    """("anp", True) of "danp": the rule and whether inputs are decorrelated. Raises UserError if unknown."""
    if label in REGISTRY:
        return label, False
    if label.startswith("d") and label[1:] in REGISTRY:
        return label[1:], True
    raise unknown_name("rule", label, [*REGISTRY, *(f"d{name}" for name in REGISTRY)])


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
    for pattern, recipe in recipes().items():
        if _matches(pattern, (task, label, profile.name)):
            settings |= recipe
            used.append(pattern)
    settings |= stated
    if rule == "bp" and profile.in_place is not None:
        settings.setdefault("forward", "chip")  # there is no digital model to train first
    idle = idle_options(label, settings.get("network", "mlp"))
    for key in idle & set(settings):
        if stated.get(key) and not lenient:
            raise UserError(f"--{key.replace('_', '-')} {_no_effect(key, label)}")
        del settings[key]
    if "baseline" not in settings and "baseline" not in idle:
        noisy = "mean" if rule == "anp" and int(settings.get("draws", 1)) > 1 else "noisy"
        settings["baseline"] = "clean" if "clean_pass" in profile.observable else noisy
    if decorrelated and not settings.get("decorrelation_rate"):
        raise UserError(f"rule {label} decorrelates: give --decorrelation-rate a positive number")
    if settings.get("device", "auto") == "auto":
        settings["device"] = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        config = TrainConfig(task=task, rule=rule, profile=profile.name, **settings)
    except ValidationError as error:
        raise UserError(f"configuration: {one_line(error)}") from None
    return config, used


def idle_options(label: str, network: str) -> set[str]:
    """Options that a rule and a network have no use for."""
    rule, decorrelated = split_label(label)
    idle = {"baseline", "draws", "scale", "forward"} - {f.name for f in fields(rule_class(rule))}
    idle |= {"readout"} if rule == "bp" else set()
    idle |= {"decorrelation_rate"} if not decorrelated else set()
    return idle | ({"hidden", "activation"} if network == "convnet" else set())


def _no_effect(option: str, label: str) -> str:
    if option == "decorrelation_rate":
        return f"goes with a decorrelated rule: say --rule d{label}"
    return "goes with --network mlp" if option in ("hidden", "activation") else f"has no effect on rule {label}"


def _matches(pattern: str, place: tuple[str, ...]) -> bool:
    """Whether every part of task/rule/profile that the pattern states matches."""
    return all(fnmatch.fnmatchcase(part, wanted) for part, wanted in zip(place, pattern.split("/"), strict=False))


def recipes() -> dict[str, dict[str, Any]]:
    """Pattern of task/rule/profile -> settings, in the order in which they override one another."""
    return tomllib.loads(files("noisylearn").joinpath("recipes.toml").read_text(encoding="utf-8"))
