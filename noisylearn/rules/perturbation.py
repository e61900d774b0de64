"""Rules that compare noisy passes with a reference.

Every perturbation rule replaces the gradient at the pre-activations of a layer by

    g_l = modulator (per sample) x scale (per sample) x post (per neuron),   dW_l = g_l pre^T

with modulator = L(pass) - L(reference) and pre = the presynaptic input of the layer. `post` and `scales` use operators
alone, so that they run on torch tensors and numpy arrays alike.
"""

from abc import abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from noisylearn.chips.interface import Memory
from noisylearn.chips.readings import Plan
from noisylearn.ground.errors import UserError
from noisylearn.profiles import HardwareProfile, Machine
from noisylearn.rules.base import DRAWS_HELP, Rule, draws_in_words
from noisylearn.rules.checks import check_choice, check_count
from noisylearn.rules.estimate import (
    Baseline,
    Estimate,
    NodePasses,
    NodeValues,
    Values,
    estimate_nodes,
    reference,
)
from noisylearn.rules.feedback.control import ControlVariate, predicted, shown
from noisylearn.rules.feedback.window import Window
from noisylearn.rules.in_time import (
    CREDIT_HELP,
    DECAY_HELP,
    OF_LATER_LOSSES,
    OF_SEQUENCES,
    UPDATE_HELP,
    Credit,
    InTime,
    Update,
    updates_in_words,
)
from noisylearn.rules.observation import Observation
from noisylearn.rules.sharing import Way
from noisylearn.rules.traces import credited_now, traced, with_trace


@dataclass(frozen=True, kw_only=True)
class NoisyPasses(Rule):
    """A rule that compares noisy passes with a reference.

    Args:
        baseline: the reference: "clean", a pass without noise; "noisy", one more noisy pass; "mean", the mean of all
            draws + 1 noisy passes, which for many draws has less variance than one noisy pass.
        draws: noise draws per sample; what they show is averaged.
        update: when weights change along sequences.

    Raises:
        UserError: an option has a value that is not allowed.
    """

    tried: ClassVar[Mapping[str, tuple[Any, ...]]] = {"draws": (3,)}

    baseline: Baseline = field(
        default="clean",
        metadata={"help": "Reference of noisy passes: clean, noisy, or mean (of all noisy passes)."},
    )
    draws: int = field(default=1, metadata={"help": DRAWS_HELP})
    update: Update = field(default="sequence", metadata={"help": UPDATE_HELP})

    def __post_init__(self) -> None:
        check_choice(self.name, "baseline", self.baseline, Baseline)
        check_count(self.name, draws=self.draws)
        self.in_time()

    def in_time(self) -> InTime:
        return InTime(update=self.update)

    @classmethod
    def settled(cls, recipe: Mapping[str, Any], stated: Mapping[str, Any], profile: HardwareProfile) -> dict[str, Any]:
        """The options given; by default a clean baseline where the profile has one."""
        options = {**recipe, **stated}
        clean = "clean_pass" in profile.observable
        return {"baseline": "clean" if clean else cls.noisy_baseline(options)} | options

    @classmethod
    def noisy_baseline(cls, options: Mapping[str, Any]) -> Baseline:
        """The default baseline where the profile has no clean pass."""
        return "noisy"

    @classmethod
    def on(cls, profile: Machine) -> Rule | None:
        rules = (cls(baseline=baseline) for baseline in ("clean", "noisy"))
        return next((rule for rule in rules if not rule.missing(profile)), None)

    def call(self) -> str:
        return f"{type(self).__name__}(baseline={self.baseline!r})"

    @classmethod
    def idle(cls, options: Mapping[str, Any], in_time: bool) -> dict[str, str]:
        return {} if in_time else {"update": OF_SEQUENCES}

    @property
    def distinction(self) -> str:
        return draws_in_words(self.draws)

    def terms(self, in_time: bool) -> list[str]:
        return [f"baseline {self.baseline}", *([updates_in_words(self.update)] if in_time else [])]

    @property
    def n_draws(self) -> int:
        return self.draws

    def of_draws(self, n_draws: int) -> Rule:
        return self if n_draws == self.draws else replace(self, draws=n_draws)

    def draw_passes(self, n_layers: int) -> list[tuple[bool, ...]]:
        """The noisy passes of one draw.

        Args:
            n_layers: layers of the network.

        Returns:
            For every pass, whether it perturbs each of the layers.
        """
        return [(True,) * n_layers]

    def plan(self, n_layers: int) -> Plan:
        """All passes of one estimate: the baseline, then those of every draw.

        Args:
            n_layers: layers of the network.
        """
        passes = self.draw_passes(n_layers)
        baseline = tuple(self.baseline != "clean" and any(layer) for layer in zip(*passes, strict=True))
        return Plan((baseline, *passes * self.draws))

    def forward_passes(self, n_layers: int) -> int:
        return self.plan(n_layers).n_passes

    def needs(self) -> frozenset[str]:
        return self.observes | ({"clean_pass"} if self.baseline == "clean" else set())


@dataclass(frozen=True, kw_only=True)
class Perturbation(NoisyPasses):
    """A rule that credits the difference of the losses of noisy passes to what differed in them.

    Args:
        credit: see `noisylearn.rules.in_time.InTime`, as for `decay`.
        decay: of an eligibility trace, per step.
    """

    credit: Credit = field(
        default="local",
        metadata={"help": CREDIT_HELP},
    )
    decay: float = field(default=0.9, metadata={"help": DECAY_HELP})

    @property
    def divides(self) -> frozenset[Way]:
        """Both, unless it remembers; with the mean as baseline every draw is compared with all others."""
        if type(self).init is not Rule.init:
            return frozenset()
        return frozenset({"batch"} if self.baseline == "mean" else {"batch", "draws"})

    def in_time(self) -> InTime:
        return InTime(self.credit, self.decay, self.update)

    @classmethod
    def settled(cls, recipe: Mapping[str, Any], stated: Mapping[str, Any], profile: HardwareProfile) -> dict[str, Any]:
        """As for all noisy passes; updates are by sequence where the stated credit needs later losses."""
        options = super().settled(recipe, stated, profile)
        if options.get("credit") in OF_LATER_LOSSES and "update" not in stated:
            options["update"] = "sequence"
        return options

    @classmethod
    def idle(cls, options: Mapping[str, Any], in_time: bool) -> dict[str, str]:
        if not in_time:
            return dict.fromkeys(("credit", "decay", "update"), OF_SEQUENCES)
        return {} if options.get("credit") == "trace" else {"decay": "goes with --credit trace"}

    def terms(self, in_time: bool) -> list[str]:
        first, *others = super().terms(in_time)
        return [first, *([f"credit {self.credit}"] if in_time else []), *others]


@dataclass(frozen=True, kw_only=True)
class NodePerturbation(Perturbation):
    """A perturbation rule that learns from the pre-activations or their noise: a subclass gives `post` and `scales`.

    With online updates and credit "trace" it remembers the readings of the steps before (an eligibility trace).

    Args:
        control_variate: what predicts the loss differences, so that the rule estimates the rest alone: "none"; "error",
            learned feedback of the error at the output; "loss", the same with an error predicted from loss differences.

    Raises:
        UserError: the option has a value that is not allowed, or goes with an eligibility trace.
    """

    tried_alone = frozenset({"control_variate"})

    control_variate: ControlVariate = field(
        default="none",
        metadata={"help": "Learned prediction of loss differences, for less variance: none, error, or loss."},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.name, "control_variate", self.control_variate, ControlVariate)
        if self.control_variate != "none" and self._traces:
            raise UserError(
                f"rule {self.name}: control_variate '{self.control_variate}' does not go with eligibility traces; use "
                "credit 'local', or update 'sequence'"
            )

    @abstractmethod
    def post(self, activity: NodePasses, reference: NodeValues, noise: NodePasses | None) -> NodePasses:
        """Factor per neuron; uses operators alone.

        Args:
            activity: pre-activations of the passes, in units of the model.
            reference: pre-activations of the reference.
            noise: noise injected into the passes; None where it cannot be read out, or the rule does not observe it.

        Returns:
            One factor for every pass, sample and unit.
        """

    @abstractmethod
    def scales(self, norms: list[Values], sizes: list[int], variances: list[float]) -> list[Values]:
        """Factor per layer; uses operators alone.

        Args:
            norms: ||post||^2 of every layer, (passes, batch).
            sizes: units of every layer.
            variances: of the noise injected into one unit of every layer.

        Returns:
            For every layer (passes, batch), or one number.
        """

    def step(self, state: Memory, seen: Observation, layers: Collection[str]) -> tuple[Estimate, Memory]:
        plan = self.plan(len(seen.chip.layers))
        readings, losses = seen.of(plan)
        if self.control_variate != "none":
            return self._from_what_is_left(state, seen, plan, layers)
        if not (seen.segment.in_time and self._traces):
            return estimate_nodes(self, plan, readings, losses, layers), state
        time = self.in_time()
        past = traced({} if seen.starts else state, readings, time.trace_window, seen.segment.batch)
        credited = credited_now(losses, time, past)
        found = estimate_nodes(self, plan, with_trace(readings, past), credited, layers)
        inputs = {name: reference(r.input, self.baseline) for name, r in readings.layers.items()}
        now = replace(found, loss=reference(losses, self.baseline).mean(), inputs=inputs)
        return now, {} if seen.ends else past

    def _from_what_is_left(
        self, state: Memory, seen: Observation, plan: Plan, layers: Collection[str]
    ) -> tuple[Estimate, Memory]:
        """The estimate from the loss differences that a learned prediction leaves, and the prediction added."""
        readings, losses = seen.of(plan)
        window, knows_noise = Window(readings, losses, seen.segment), "injected_noise" in self.observes
        found, after = predicted(self.control_variate, state, seen, window, self.baseline, knows_noise)
        estimate = estimate_nodes(self, plan, readings, losses - found.losses, layers, found.signals)
        return replace(estimate, loss=reference(losses, self.baseline).mean()), after

    @property
    def divides(self) -> frozenset[Way]:
        """As for all perturbations; the batch alone with a learned prediction, which is of all draws."""
        return super().divides if self.control_variate == "none" else super().divides & {"batch"}

    def shows(self, state: Memory, seen: Observation) -> Memory:
        if self.control_variate == "none":
            return {}
        window = Window(*seen.of(self.plan(len(seen.chip.layers))), seen.segment)
        return shown(self.control_variate, state, seen, window, self.baseline, alone=False)

    @property
    def _traces(self) -> bool:
        return self.credit == "trace" and self.update == "online"

    def needs(self) -> frozenset[str]:
        of_prediction = {"none": set(), "error": {"output", "error"}, "loss": {"output"}}[self.control_variate]
        return super().needs() | of_prediction


def guarded(norm: Values) -> Values:
    """A norm to divide by: 1 in place of 0, where the numerator is 0 as well; uses operators alone.

    Args:
        norm: of any shape.

    Returns:
        Same shape.
    """
    return norm + (norm == 0)


def network_scale(norms: list[Values], sizes: list[int]) -> list[Values]:
    """N / ||post||^2 with units and norm of the whole network, for every layer; uses operators alone.

    Args:
        norms: ||post||^2 of every layer, (passes, batch).
        sizes: units of every layer.
    """
    return [sum(sizes) / guarded(sum(norms[1:], norms[0]))] * len(norms)
