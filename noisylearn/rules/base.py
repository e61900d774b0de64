"""What a rule is: a record of its factors, of what it must observe, and of its source.

Every perturbation rule replaces the gradient at the pre-activations of a layer by

    g_l = modulator (per sample) x scale (per sample) x post (per neuron),   dW_l = g_l pre^T

with modulator = L(pass) - L(reference) and pre = the presynaptic input of the layer. `post` and `scales` use operators
alone, so that they run on torch tensors and numpy arrays alike.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

from jaxtyping import Float, Shaped
from torch import Tensor
from torch.optim import Optimizer

from noisylearn.chips.interface import AnyChip, Memory
from noisylearn.chips.readings import Plan
from noisylearn.ground.errors import UserError
from noisylearn.ground.table import Shown, Table
from noisylearn.profiles import HardwareProfile, Machine
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
from noisylearn.rules.feedback.control import ControlVariate, predicted
from noisylearn.rules.feedback.window import Window
from noisylearn.rules.in_time import CREDIT_HELP, DECAY_HELP, OF_LATER_LOSSES, UPDATE_HELP, Credit, InTime, Update
from noisylearn.rules.learner import Learner
from noisylearn.rules.observation import LossFn, Observation, StepLoss
from noisylearn.rules.options import options_of
from noisylearn.rules.sharing import Way
from noisylearn.rules.traces import credited_now, traced, with_trace

DRAWS_HELP = "Noise draws per sample and step."
OF_SEQUENCES = "goes with tasks that have sequences"
Unbiased = Literal["none", "one layer", "deep"]  # from the weakest claim to the strongest


@dataclass(frozen=True, kw_only=True)
class Rule(Shown, ABC):
    """A way to estimate gradients: a frozen record of options. What the rule remembers is kept apart from it.

    A subclass states the facts below and gives `step`; one that remembers something gives `init` as well. Generic
    tests and the conformance page check the facts.

    Attributes:
        name: on the command line.
        title: what the rule is, in words.
        equation: what it computes.
        source: where it was published.
        observes: what a machine must show to it, such as "loss" or "activity".
        perturbs: whether it learns from the machine's noise.
        stands_alone: whether it can train a network alone.
        unbiased: networks in which the mean estimate is the gradient, for small noise of equal size in every unit.
        scale_free: whether the estimate needs no variance of the noise.
        pools: whether what all samples of a batch show enters the estimate of each, so that it is no mean over them.
        tried: option -> values to test besides the default; for options that are neither a Literal nor a bool.
        tried_alone: options to test one by one rather than in combination with all others.
        tried_together: options to test besides, where some make another algorithm together than each does alone.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    equation: ClassVar[str]
    source: ClassVar[str]
    observes: ClassVar[frozenset[str]] = frozenset()
    perturbs: ClassVar[bool] = True
    stands_alone: ClassVar[bool] = True
    instead_in_time: ClassVar[str] = ""  # the rule to use for sequences, where this one does not go with them
    instead_without_time: ClassVar[str] = ""  # the rule to use for single samples, likewise
    other_labels: ClassVar[tuple[str, ...]] = ()  # further names on the command line
    unbiased: ClassVar[Unbiased] = "none"
    scale_free: ClassVar[bool] = False
    pools: ClassVar[bool] = False
    tried: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    tried_alone: ClassVar[frozenset[str]] = frozenset()
    tried_together: ClassVar[tuple[Mapping[str, Any], ...]] = ()

    def init(self, chip: AnyChip) -> Memory:
        """What the rule remembers before its first step.

        Args:
            chip: the chip that it will learn on.

        Returns:
            A tree (dicts) of tensors; empty for a rule that remembers nothing.
        """
        return {}

    def measures(self, state: Memory) -> dict[str, float]:
        """What is worth following of what the rule remembers, for run files.

        Args:
            state: what it remembers.

        Returns:
            Name of a measure -> value; empty for a rule that remembers nothing.
        """
        return {}

    @abstractmethod
    def step(self, state: Memory, seen: Observation, layers: Collection[str]) -> tuple[Estimate, Memory]:
        """Estimate gradients from one observation.

        Args:
            state: what the rule remembers: the result of the step before, or of `init`. It is not changed.
            seen: runs the passes that the rule asks for and gives their readings.
            layers: names of the layers to estimate gradients for.

        Returns:
            The estimate, and what the rule remembers from now on.

        Raises:
            UserError: the rule does not go with the network.
        """

    def estimate(self, chip: AnyChip, x: Shaped[Tensor, "..."], loss_fn: LossFn) -> Float[Tensor, ""]:
        """Run the rule's passes over samples and fill `.grad` of the model's parameters.

        Decorrelations of the model take a step as well. Call `optimizer.step()` afterwards. What the rule remembers is
        kept with the chip; see `Learner.state`.

        Args:
            chip: the chip that runs the passes.
            x: samples, (batch, ...).
            loss_fn: outputs (batch, ...) -> loss of every sample, (batch,).

        Returns:
            Mean loss of the reference pass.

        Raises:
            UserError: the machine does not show what the rule needs, or the loss is not finite.
        """
        return Learner(self, chip).estimate(x, loss_fn)

    def run(
        self,
        chip: AnyChip,
        inputs: Shaped[Tensor, "..."],
        targets: Shaped[Tensor, "..."],
        loss_fn: StepLoss,
        optimizer: Optimizer | None = None,
        mask: Shaped[Tensor, "..."] | None = None,
    ) -> Float[Tensor, " time"]:
        """Run the rule's passes along sequences, step by step; the model is a network in time.

        L is the mean loss over all steps that count. With update="sequence" this fills `.grad` with the estimate for L;
        call `optimizer.step()` and `chip.program()` afterwards. With update="online" it does both itself after every
        step that counts, on the losses of that step, summed over the samples that count and divided by the batch size.

        Args:
            chip: the chip that runs the passes.
            inputs: (time, batch, features).
            targets: (time, batch, ...).
            loss_fn: (outputs, targets) -> loss of every row, (rows,). Rows may belong to one step or to several; the
                loss of a row must not depend on the others.
            optimizer: needed for online updates.
            mask: (time, batch), 0 where the loss of a step does not count, for sequences of unequal length or a loss at
                the end alone; None where every step counts.

        Returns:
            Mean loss of every step, of the reference pass.

        Raises:
            UserError: the machine does not show what the rule needs, shapes do not fit, or a loss is not finite.
        """
        return Learner(self, chip).run(inputs, targets, loss_fn, optimizer, mask)

    def in_time(self) -> InTime:
        """How the rule goes through time."""
        return InTime()

    @property
    def on_chip(self) -> bool:
        """Whether it learns on the devices, which are then programmed after every update."""
        return True

    @property
    def shares_draws(self) -> bool:
        """Whether all samples of a batch share a perturbation, as they do one of the weights."""
        return False

    @property
    def divides(self) -> frozenset[Way]:
        """Along what an estimate is a sum of estimates made in several places: "batch", "draws".

        Neither for a rule that pools what samples show, or that remembers more than the sequence it is in.
        """
        return frozenset()

    @property
    def n_draws(self) -> int:
        """Noise draws per sample and step."""
        return 1

    def of_draws(self, n_draws: int) -> "Rule":
        """The rule with another number of draws.

        Args:
            n_draws: the number.
        """
        return self

    def check_divides(self) -> None:
        """Check that estimates can be made of those of several processes, or of several parts of a batch.

        Raises:
            UserError: they cannot; the message names rules whose estimates can.
        """
        if not self.divides:
            kinds = _complete_rules(Rule)  # type: ignore[type-abstract]
            others = ", ".join(kind.name for kind in kinds if kind().divides)
            own = self.describe() if self.name in others.split(", ") else self.name
            raise UserError(
                f"rule {own} learns from a whole batch in one place: processes and --batch-parts go with {others}"
            )

    @abstractmethod
    def forward_passes(self, n_layers: int) -> int:
        """Number of forward passes over a batch that one estimate takes, in a network of `n_layers` layers."""

    def backward_passes(self) -> int:
        """Number of backward passes of autograd over a batch that one estimate takes."""
        return 0

    def parts(self) -> tuple["Rule", ...]:
        """The rules that this one consists of: itself, or one for each layer."""
        return (self,)

    def needs(self) -> frozenset[str]:
        """What a profile must show to the rule with these options."""
        return self.observes

    def missing(self, profile: Machine) -> list[str]:
        """What a profile lacks.

        Args:
            profile: of the machine to learn on.

        Returns:
            What is missing, in words; empty if the rule can learn there.
        """
        if self.perturbs and not profile.is_noisy:
            return ["noise that perturbs the network"]
        return [_MEANING[need] for need in sorted(self.needs() - set(profile.shown))]

    def check(self, profile: Machine) -> None:
        """Check that the rule can learn on a profile.

        Args:
            profile: of the machine to learn on.

        Raises:
            UserError: it cannot; the message says why and which rules can.
        """
        lacking = self.missing(profile)
        if not lacking:
            return
        raise UserError(
            f"rule {self.name} ({type(self).__name__}) cannot learn on profile '{profile.name}': it needs "
            f"{' and '.join(lacking)}, which this machine does not offer; rules that work there: "
            f"{', '.join(rules_for(profile))}"
        )

    @property
    def label(self) -> str:
        """Name of the rule on the command line, with the options that the name states (the 5 of "tbptt5")."""
        return self.name

    @classmethod
    def from_label(cls, label: str) -> dict[str, Any] | None:
        """Options that a name on the command line states.

        Args:
            label: the name, such as "tbptt5".

        Returns:
            Option -> value; None if this is not a name of the rule.
        """
        return {} if label == cls.name else None

    @classmethod
    def settled(cls, recipe: Mapping[str, Any], stated: Mapping[str, Any], profile: HardwareProfile) -> dict[str, Any]:
        """Choose options of the rule by the profile, where nobody stated them.

        Args:
            recipe: options from recipes.
            stated: options that the user stated; they override the recipe's.
            profile: of the machine to learn on.

        Returns:
            Option -> value; options that are left out keep their default.
        """
        return {**recipe, **stated}

    @classmethod
    def idle(cls, options: Mapping[str, Any], in_time: bool) -> dict[str, str]:
        """Options of the rule that have no effect.

        Args:
            options: all options stated.
            in_time: whether the task has sequences.

        Returns:
            Option -> what it would need to have an effect, in words.
        """
        return {}

    @property
    def distinction(self) -> str:
        """What distinguishes rows of this rule in a table, in words."""
        return ""

    def terms(self, in_time: bool) -> list[str]:
        """Further settings to print in a table, in words; `in_time` says whether the task has sequences."""
        return []

    def tables(self) -> list[Table]:
        """What the rule is, and its options that differ from their defaults."""
        needs = ", ".join(sorted(self.needs())) or "-"
        facts = [["equation", self.equation], ["must observe", needs], ["source", self.source]]
        options = [
            [one.name, f"{getattr(self, one.name)}", f"{one.default}", one.help]
            for one in options_of(type(self)).values()
            if getattr(self, one.name) != one.default
        ]
        what = Table(f"{self.name}: {self.title}", ["", ""], facts)
        if not options:
            return [what]
        return [what, Table("options that are not as by default", ["option", "value", "default", "for"], options)]

    def describe(self) -> str:
        """The rule with its options, as Python code."""
        options = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in fields(self))
        return f"{type(self).__name__}({options})"


_MEANING = {
    "loss": "the loss of every sample",
    "output": "the output vector",
    "error": "the error at the output, dL/dy, which a teacher knows and a scalar reward does not tell",
    "input": "the input of every layer",
    "activity": "the pre-activations",
    "injected_noise": "the injected node noise itself (noise of the device's own cannot be read out)",
    "injected_weight_noise": "the injected weight noise itself (noise of the device's own cannot be read out)",
    "clean_pass": "a clean pass (noise that can be switched off)",
}


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
        """As for all perturbations; neither with a learned prediction, which is of the whole batch."""
        return super().divides if self.control_variate == "none" else frozenset()

    @property
    def _traces(self) -> bool:
        return self.credit == "trace" and self.update == "online"

    def needs(self) -> frozenset[str]:
        of_prediction = {"none": set(), "error": {"output", "error"}, "loss": {"output"}}[self.control_variate]
        return super().needs() | of_prediction


def draws_in_words(draws: int) -> str:
    """A number of draws, in words for a table."""
    return f"{draws} draw{'s' if draws > 1 else ''}"


def updates_in_words(update: Update) -> str:
    """When weights change along sequences, in words for a table."""
    return f"updates {'every step' if update == 'online' else 'by sequence'}"


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


def rules_for(profile: Machine) -> list[str]:
    """All rules that can learn on a profile.

    Args:
        profile: of the machine to learn on.

    Returns:
        The rules as Python code, with a noisy baseline where the profile has no clean one.
    """
    found = []
    for rule in _complete_rules(Rule):  # type: ignore[type-abstract]
        works = fitted(rule, profile)
        if isinstance(works, NoisyPasses):
            found.append(f"{rule.__name__}(baseline='{works.baseline}')")
        elif works is not None:
            found.append(f"{rule.__name__}()")
    return found


def fitted(kind: type[Rule], profile: Machine) -> Rule | None:
    """A rule that can learn on a profile, with a clean baseline where the profile has one.

    Args:
        kind: class of the rule.
        profile: of the machine to learn on.

    Returns:
        The rule; None if no baseline works.
    """
    choices = [kind(baseline=b) for b in ("clean", "noisy")] if issubclass(kind, NoisyPasses) else [kind()]
    return next((choice for choice in choices if not choice.missing(profile)), None)


def _complete_rules(kind: type[Rule]) -> list[type[Rule]]:
    """All defined subclasses that can train a network alone and have defaults, those of the user included."""
    has_defaults = all(f.default is not MISSING or f.default_factory is not MISSING for f in fields(kind))
    own = [kind] if "name" in vars(kind) and kind.stands_alone and has_defaults else []
    return own + [rule for child in kind.__subclasses__() for rule in _complete_rules(child)]
