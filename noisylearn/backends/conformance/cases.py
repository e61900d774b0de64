"""What is tried: every rule of the registry with its options, on networks small enough to run often."""

import functools
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noisylearn import networks
from noisylearn.backends.lava.export import Data
from noisylearn.ground.errors import UserError
from noisylearn.networks.decorrelation import decorrelate, decorrelations
from noisylearn.profiles import HardwareProfile, load_profile
from noisylearn.rules import REGISTRY, PerLayer, Rule
from noisylearn.rules.variants import combinations_in_time, variants

NETWORKS = ("feed-forward", "feed-forward, decorrelated", "recurrent", "recurrent, decorrelated")
PERIOD = 50  # steps of a sequence
load = functools.cache(load_profile)


@dataclass(frozen=True)
class Case:
    """One rule on one network."""

    rule: Rule
    network: str

    @property
    def in_time(self) -> bool:
        return self.network.startswith("recurrent")

    @property
    def decorrelates(self) -> bool:
        return self.network.endswith("decorrelated")

    @property
    def name(self) -> str:
        """The rule as one would write it, without what is everywhere the same."""
        return _written(self.rule, {"update"} if self.in_time else set())


def cases() -> list[Case]:
    """Every rule with its defaults and with every other value of one option, on every network.

    Along sequences rules learn online with local credit, if they can: that is the form which chips have.
    """
    kinds: tuple[type[Rule], ...] = (*REGISTRY.values(), PerLayer)
    return [case for network in NETWORKS for kind in kinds for case in _of_rule(kind, network)]


def _of_rule(kind: type[Rule], network: str) -> Iterator[Case]:
    if not network.startswith("recurrent"):
        yield from (Case(rule, network) for rule in variants(kind))
        return
    rules = [_online(rule) for rule in variants(kind)]
    for rule in combinations_in_time(kind):
        if rule not in rules and (rule.in_time().update, rule.in_time().credit) == ("online", "local"):
            rules.append(rule)
    yield from (Case(rule, network) for rule in rules)


def _online(rule: Rule) -> Rule:
    """The rule with update="online", where it has that."""
    if isinstance(rule, PerLayer):
        return PerLayer(rules={layer: _online(part) for layer, part in rule.rules.items()})
    options: dict[str, Any] = {"update": "online"}
    try:
        return replace(rule, **options) if hasattr(rule, "update") else rule
    except UserError:
        return rule


def _written(rule: Rule, without: set[str]) -> str:
    options = []
    for field in fields(rule):
        value = getattr(rule, field.name)
        if field.default is MISSING or (value != field.default and field.name not in without):
            options.append(f"{field.name}={_value(value, without)}")
    return f"{type(rule).__name__}({', '.join(options)})"


def _value(value: object, without: set[str]) -> str:
    if isinstance(value, Rule):
        return _written(value, without)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_value(part, without)}" for key, part in value.items()) + "}"
    return repr(value)


def model(case: Case) -> nn.Module:
    """The network in float64; relu, so that integers can carry it; decorrelations are not at their start."""
    if case.in_time:
        made: nn.Module = networks.RNN(6, 10, 3, "relu", decorrelation_rate=1e-2 if case.decorrelates else 0.0)
    else:
        made = networks.mlp(6, (12, 8), 3, activation="relu")
        made = decorrelate(made, 1e-2) if case.decorrelates else made
    generator = torch.Generator().manual_seed(0)
    for module in decorrelations(made).values():
        module.matrix += 0.1 * torch.randn(module.matrix.shape, generator=generator)
    return made.double()


def profile(case: Case) -> HardwareProfile:
    """Injected noise of the kind that the rule reads out."""
    return load("gaussian-weight" if "injected_weight_noise" in case.rule.needs() else "gaussian-node")


def samples(case: Case, steps: int) -> Data:
    """A smooth function of random inputs."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.rand(steps, 1, 6, generator=generator, dtype=torch.float64)
    weight = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    counts = torch.ones(steps, 1, dtype=torch.float64)
    return Data(inputs, torch.tanh(inputs @ weight), counts, PERIOD if case.in_time else 0, squared_error)


def squared_error(output: Tensor, target: Tensor) -> Tensor:
    """Mean over outputs of (output - target)^2: (samples, n) -> (samples,)."""
    return F.mse_loss(output, target, reduction="none").mean(1)
