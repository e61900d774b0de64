"""Different rules for different layers."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from noisylearn.chips.interface import AnyChip, Memory
from noisylearn.ground.errors import UserError
from noisylearn.ground.table import Table
from noisylearn.profiles import Machine
from noisylearn.rules.anp import ANP
from noisylearn.rules.base import Rule
from noisylearn.rules.delta import Delta
from noisylearn.rules.estimate import Estimate
from noisylearn.rules.in_time import InTime
from noisylearn.rules.observation import Observation
from noisylearn.rules.perturbation import NoisyPasses
from noisylearn.rules.sharing import Way


@dataclass(frozen=True, kw_only=True)
class PerLayer(Rule):
    """A rule for each layer, chosen by the layer's name. Rules that ask for the same passes share them.

    For example the exact delta rule at the readout, whose error is local, and ANP in the other layers:
    PerLayer(rules={"readout": Delta(), "*": ANP(baseline="noisy")}).

    Args:
        rules: name of a layer, or of a module for all layers inside it -> rule; "*" for all layers not named.
    """

    name = "per-layer"
    title = "a rule for each layer"
    equation = "each layer by its own rule"
    source = "-"
    stands_alone = False
    tried: ClassVar[Mapping[str, tuple[Any, ...]]] = {"rules": ({"readout": Delta(), "*": ANP(baseline="noisy")},)}

    rules: Mapping[str, Rule]

    def __post_init__(self) -> None:
        if any(isinstance(rule, PerLayer) for rule in self.rules.values()):
            raise UserError("rule per-layer: name the layers in one map, not in a map inside a map")

    def init(self, chip: AnyChip) -> Memory:
        """What each of the rules remembers, by its key in `rules`."""
        return {key: memory for key, rule in self.rules.items() if (memory := rule.init(chip))}

    def step(self, state: Memory, seen: Observation, layers: Collection[str]) -> tuple[Estimate, Memory]:
        given: dict[str, list[str]] = {}
        for layer in layers:
            given.setdefault(self._key(layer), []).append(layer)
        unused = set(self.rules) - set(given) - {"*"}
        if unused:
            raise UserError(
                f"rule per-layer: no layer is named {', '.join(sorted(unused))}; there are {', '.join(layers)}"
            )
        # Perturbation rules first: the others can then look at passes that were run already.
        order = sorted(given, key=lambda key: not isinstance(self.rules[key], NoisyPasses))
        shown, found = seen.shown, {}
        for key in order:
            seen.shown = None if shown is None else shown[key]
            found[key] = self.rules[key].step(state.get(key, {}), seen, given[key])
        estimates = [estimate for estimate, _ in found.values()]
        merged = {layer: g for estimate in estimates for layer, g in estimate.gradients.items()}
        memories = {key: memory for key, (_, memory) in found.items() if memory}
        return Estimate(estimates[0].loss, merged, estimates[0].inputs), memories

    def shows(self, state: Memory, seen: Observation) -> Memory:
        return {key: rule.shows(state.get(key, {}), seen) for key, rule in self.rules.items()}

    def measures(self, state: Memory) -> dict[str, float]:
        return {name: v for key, rule in self.rules.items() for name, v in rule.measures(state.get(key, {})).items()}

    def in_time(self) -> InTime:
        """The way through time that the rules share. Rules without perturbations go along with any.

        Raises:
            UserError: the rules go through time in different ways.
        """
        all_ways = [rule.in_time() for rule in self.rules.values() if rule.perturbs or rule.in_time() != InTime()]
        stepwise, ways = any(way.stepwise for way in all_ways), {replace(way, stepwise=False) for way in all_ways}
        if len(ways) > 1:
            raise UserError("rule per-layer: all rules take the same credit, decay and update through time")
        time = replace(next(iter(ways), InTime()), stepwise=stepwise)
        if stepwise and time.credit != "local":
            raise UserError(
                f"rule per-layer: wp with credit '{time.credit}' goes alone; beside other rules use 'local'"
            )
        return time

    @property
    def divides(self) -> frozenset[Way]:
        """Along what all of the rules divide; draws where one rule alone has them, whose passes the others look at."""
        ways = frozenset.intersection(*(rule.divides for rule in self.rules.values()))
        return ways if len(self._noisy) < 2 else ways - {"draws"}

    @property
    def n_draws(self) -> int:
        return max((rule.n_draws for rule in self._noisy), default=1)

    def of_draws(self, n_draws: int) -> Rule:
        return replace(self, rules={key: rule.of_draws(n_draws) for key, rule in self.rules.items()})

    @property
    def _noisy(self) -> set[Rule]:
        return {rule for rule in self.rules.values() if isinstance(rule, NoisyPasses)}

    def parts(self) -> tuple[Rule, ...]:
        """The rules of the layers."""
        return tuple(self.rules.values())

    def tables(self) -> list[Table]:
        """The rule of every layer."""
        rows = [[layer, rule.title, rule.describe()] for layer, rule in self.rules.items()]
        return [Table(f"{self.name}: {self.title}", ["layer", "learns by", "rule"], rows)]

    def needs(self) -> frozenset[str]:
        """What a profile must show for all of the rules."""
        return frozenset(need for rule in self.rules.values() for need in rule.needs())

    def forward_passes(self, n_layers: int) -> int:
        """Forward passes of all rules, shared ones counted once; the delta rule looks at the noisy ones, if any."""
        shared, own, looks = {}, 0, 0
        for rule in set(self.rules.values()):
            if isinstance(rule, NoisyPasses):
                shared[rule.plan(n_layers)] = rule.forward_passes(n_layers)
            elif isinstance(rule, Delta):
                looks = 1
            else:
                own += rule.forward_passes(n_layers)
        return (sum(shared.values()) or looks) + own

    def backward_passes(self) -> int:
        return sum(rule.backward_passes() for rule in set(self.rules.values()))

    def missing(self, profile: Machine) -> list[str]:
        """What the profile lacks for any of the rules, in words."""
        return list(dict.fromkeys(reason for rule in self.rules.values() for reason in rule.missing(profile)))

    def _key(self, layer: str) -> str:
        parts = layer.split(".")
        for i in range(len(parts), 0, -1):
            if ".".join(parts[:i]) in self.rules:
                return ".".join(parts[:i])
        if "*" not in self.rules:
            raise UserError(f"rule per-layer: no rule for layer '{layer}'; name it, or give a rule for '*'")
        return "*"
