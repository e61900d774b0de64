"""What a rule is: a record of four factors, what it must observe, and where it comes from.

Every perturbation rule replaces the gradient at the pre-activation of a layer by

    g_l = modulator (per sample) x scale (per sample) x post (per neuron),   dW_l = g_l pre^T

with modulator = L(pass) - L(reference) and pre = the layer's own input. `post` and `scales` use operators alone, so
that they run on torch tensors and numpy arrays alike.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, get_args

from torch import Tensor
from torch.optim import Optimizer

from noisylearn.chips.interface import AnyChip, Memory
from noisylearn.chips.readings import Plan
from noisylearn.ground.errors import UserError
from noisylearn.profiles import HardwareProfile, Machine
from noisylearn.rules.estimate import Baseline, Estimate, estimate_nodes, reference
from noisylearn.rules.in_time import OF_LATER_LOSSES, UPDATE_HELP, Credit, InTime, Update
from noisylearn.rules.learner import Learner
from noisylearn.rules.observation import LossFn, Observation, StepLoss
from noisylearn.rules.traces import credited_now, traced, with_trace

Unbiased = Literal["none", "one layer", "deep"]  # from the weakest claim to the strongest


@dataclass(frozen=True, kw_only=True)
class Rule(ABC):
    """A way to fill `.grad`: a frozen record, with what it remembers kept apart.

    Subclasses state what they are and give `step`; those that remember something give `init` as well. Facts that the
    generic tests and the conformance page hold a rule to:

    unbiased: networks in which the mean estimate is the gradient, for small noise of the same size in every unit.
    scale_free: whether the estimate does without the variance of the noise.
    tried: values of options that are neither a Literal nor a bool, for rules to be tried with besides the default.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    equation: ClassVar[str]
    source: ClassVar[str]
    observes: ClassVar[frozenset[str]] = frozenset()
    perturbs: ClassVar[bool] = True
    stands_alone: ClassVar[bool] = True
    instead_in_time: ClassVar[str] = ""  # what to say where there are sequences, if the rule does not go with them
    instead_without_time: ClassVar[str] = ""  # and where there are none
    other_labels: ClassVar[tuple[str, ...]] = ()  # names on the command line, besides its own
    unbiased: ClassVar[Unbiased] = "none"
    scale_free: ClassVar[bool] = False
    tried: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    def init(self, chip: AnyChip) -> Memory:
        """What the rule remembers before its first step on a chip: a tree (dicts) of tensors; nothing, by default."""
        return {}

    @abstractmethod
    def step(self, state: Memory, seen: Observation, layers: Collection[str]) -> tuple[Estimate, Memory]:
        """The estimate for the named layers, and what the rule remembers from now on.

        Args:
            state: what the step before gave, or `init`; it is left as it is.
            seen: runs the passes that the rule asks for, and shows them.
            layers: names of those to estimate for.
        """

    def estimate(self, chip: AnyChip, x: Tensor, loss_fn: LossFn) -> Tensor:
        """Run the rule's passes over samples and fill `.grad` of the model's parameters.

        Decorrelations of the model take their step as well. To be followed by `optimizer.step()`. What the rule
        remembers is kept with the chip; `Learner` shows it.

        Args:
            chip: what the passes run on.
            x: samples, (batch, ...).
            loss_fn: output -> loss of every sample, (batch,).

        Returns:
            Mean loss of the reference.

        Raises:
            UserError: the machine does not show what the rule needs, or the loss is not finite.
        """
        return Learner(self, chip).estimate(x, loss_fn)

    def run(
        self,
        chip: AnyChip,
        inputs: Tensor,
        targets: Tensor,
        loss_fn: StepLoss,
        optimizer: Optimizer | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Run the rule's passes along sequences, step by step; the model is a network in time.

        L is the mean over all steps that count. With update="sequence" `.grad` is filled with the estimate for L, to be
        followed by `optimizer.step()` (and `chip.program()`); with update="online" the optimizer is stepped, and the
        chip programmed, after every step that counts, on its losses summed over the samples that count and divided by
        the batch.

        Args:
            chip: what the passes run on.
            inputs: (time, batch, features).
            targets: (time, batch, ...).
            loss_fn: (output, target) -> loss of every sample, (samples,), of rows that may be of one step or of
                several: it must treat every row alike.
            optimizer: needed by online updates.
            mask: (time, batch), 0 where a step does not count: sequences of unequal length, losses at the end alone.

        Returns:
            Mean loss of every step, (time,), of the reference.

        Raises:
            UserError: the machine does not show what the rule needs, shapes do not fit, or a loss is not finite.
        """
        return Learner(self, chip).run(inputs, targets, loss_fn, optimizer, mask)

    def in_time(self) -> InTime:
        """How the rule goes through time."""
        return InTime()

    @property
    def on_chip(self) -> bool:
        """Whether it learns on the devices, which then take every update at once."""
        return True

    @abstractmethod
    def forward_passes(self, n_layers: int) -> int:
        """Forward passes over a batch that one estimate takes."""

    def backward_passes(self) -> int:
        """Backward passes of autograd over a batch that one estimate takes."""
        return 0

    def parts(self) -> tuple["Rule", ...]:
        """The rules that it is made of: itself, or one for each layer."""
        return (self,)

    def needs(self) -> frozenset[str]:
        """What a profile must show for these options."""
        return self.observes

    def missing(self, profile: Machine) -> list[str]:
        """What this profile lacks, in words; empty if the rule can learn on it."""
        if self.perturbs and not profile.is_noisy:
            return ["noise that perturbs the network"]
        return [_MEANING[need] for need in sorted(self.needs() - set(profile.shown))]

    def check(self, profile: Machine) -> None:
        """Raises UserError if the rule cannot learn on this profile, with the reason and what would work."""
        lacking = self.missing(profile)
        if not lacking:
            return
        raise UserError(
            f"rule {self.describe()} cannot learn on profile '{profile.name}': it needs {' and '.join(lacking)}, which "
            f"this machine does not offer; rules that work there: {', '.join(rules_for(profile))}"
        )

    @property
    def label(self) -> str:
        """The rule's name on the command line, with the options that it states."""
        return self.name

    @classmethod
    def from_label(cls, label: str) -> dict[str, Any] | None:
        """Options that a name on the command line states; None if it is no name of this rule."""
        return {} if label == cls.name else None

    @classmethod
    def settled(cls, recipe: Mapping[str, Any], stated: Mapping[str, Any], profile: HardwareProfile) -> dict[str, Any]:
        """The rule's options, from those of recipes and those that a user stated; others keep their default."""
        return {**recipe, **stated}

    @classmethod
    def idle(cls, options: Mapping[str, Any], in_time: bool) -> dict[str, str]:
        """Options of this rule that have no effect beside the others, and what each goes with."""
        return {}

    @property
    def distinction(self) -> str:
        """What tells rows of this rule apart in a table, in words."""
        return ""

    def terms(self, in_time: bool) -> list[str]:
        """Further settings that a table states, in words."""
        return []

    def describe(self) -> str:
        """The rule with its options, as one would write it."""
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
class Perturbation(Rule):
    """A rule that compares noisy passes.

    baseline: what a pass is compared with: "clean", a pass without noise; "noisy", one more noisy pass; "mean", the
    mean of all draws + 1 noisy passes, which for many draws varies less than one noisy pass does.
    draws: noise draws per sample, averaged.
    credit, decay, update: in time, see `noisylearn.rules.time.InTime`.
    """

    tried: ClassVar[Mapping[str, tuple[Any, ...]]] = {"draws": (3,)}

    baseline: Baseline = field(
        default="clean", metadata={"help": "What a pass is compared with: clean, noisy, or mean (of all noisy passes)."}
    )
    draws: int = field(default=1, metadata={"help": "Noise draws per sample and step."})
    credit: Credit = field(
        default="local",
        metadata={"help": "In time, losses a perturbation is credited with: local, sequence, reward-to-go or trace."},
    )
    decay: float = field(default=0.9, metadata={"help": "Of --credit trace, per step."})
    update: Update = field(default="sequence", metadata={"help": UPDATE_HELP})

    def __post_init__(self) -> None:
        if self.baseline not in get_args(Baseline):
            raise UserError(f"rule {self.name}: baseline '{self.baseline}'; choose {', '.join(get_args(Baseline))}")
        if not isinstance(self.draws, int) or self.draws < 1:
            raise UserError(f"rule {self.name}: draws = {self.draws!r}; give a whole number, at least 1")
        self.in_time()

    def in_time(self) -> InTime:
        return InTime(self.credit, self.decay, self.update)

    @classmethod
    def settled(cls, recipe: Mapping[str, Any], stated: Mapping[str, Any], profile: HardwareProfile) -> dict[str, Any]:
        """The clean baseline where it can be had; updates by sequence where the credit stated needs later losses."""
        options = {**recipe, **stated}
        if options.get("credit") in OF_LATER_LOSSES and "update" not in stated:
            options["update"] = "sequence"
        clean = "clean_pass" in profile.observable
        return {"baseline": "clean" if clean else cls.noisy_baseline(options)} | options

    @classmethod
    def noisy_baseline(cls, options: Mapping[str, Any]) -> Baseline:
        """The baseline where there is no clean pass and none was stated."""
        return "noisy"

    @classmethod
    def idle(cls, options: Mapping[str, Any], in_time: bool) -> dict[str, str]:
        if not in_time:
            return dict.fromkeys(("credit", "decay", "update"), "goes with tasks that have sequences")
        return {} if options.get("credit") == "trace" else {"decay": "goes with --credit trace"}

    @property
    def distinction(self) -> str:
        return f"{self.draws} draw{'s' if self.draws > 1 else ''}"

    def terms(self, in_time: bool) -> list[str]:
        of_time = [f"credit {self.credit}", updates_in_words(self.update)] if in_time else []
        return [f"baseline {self.baseline}", *of_time]

    def draw_passes(self, n_layers: int) -> list[tuple[bool, ...]]:
        """The noisy passes of one draw: which layers each of them perturbs."""
        return [(True,) * n_layers]

    def plan(self, n_layers: int) -> Plan:
        """The baseline, then the passes of every draw."""
        passes = self.draw_passes(n_layers)
        baseline = tuple(self.baseline != "clean" and any(layer) for layer in zip(*passes, strict=True))
        return Plan((baseline, *passes * self.draws))

    def forward_passes(self, n_layers: int) -> int:
        return self.plan(n_layers).n_passes

    def needs(self) -> frozenset[str]:
        return self.observes | ({"clean_pass"} if self.baseline == "clean" else set())


@dataclass(frozen=True, kw_only=True)
class NodePerturbation(Perturbation):
    """A rule that learns from what happens at the nodes: states `post` and `scales`.

    Online with credit "trace" it remembers the readings of the steps before (an eligibility trace).
    """

    @abstractmethod
    def post(self, activity: Tensor, reference: Tensor, noise: Tensor | None) -> Tensor:
        """Per-neuron factor (passes, batch, ...), from pre-activations, their reference and the injected noise."""

    @abstractmethod
    def scales(self, norms: list[Tensor], sizes: list[int], variances: list[float]) -> list[Tensor | float]:
        """Factor per layer (passes, batch) or a number.

        Args:
            norms: ||post||^2 per layer, (passes, batch).
            sizes: units per layer.
            variances: of the injected noise.
        """

    def step(self, state: Memory, seen: Observation, layers: Collection[str]) -> tuple[Estimate, Memory]:
        plan, time = self.plan(len(seen.chip.layers)), self.in_time()
        readings, losses = seen.of(plan)
        if not (seen.segment.in_time and time.leaves_traces):
            return estimate_nodes(self, plan, readings, losses, layers), state
        past = traced({} if seen.starts else state, readings, time, seen.segment.batch)
        credited = credited_now(losses, time, past)
        found = estimate_nodes(self, plan, with_trace(readings, past), credited, layers)
        inputs = {name: reference(r.input, self.baseline) for name, r in readings.layers.items()}
        now = replace(found, loss=reference(losses, self.baseline).mean(), inputs=inputs)
        return now, {} if seen.ends else past


def updates_in_words(update: Update) -> str:
    """When weights change along sequences."""
    return f"updates {'every step' if update == 'online' else 'by sequence'}"


def guarded(norm: Tensor) -> Tensor:
    """A norm to divide by: where nothing moved it is zero, and so is what it divides."""
    return norm + (norm == 0)


def rules_for(profile: Machine) -> list[str]:
    """Rules, as one would write them, that can learn on a profile; the noisy baseline where the clean one cannot."""
    found = []
    for rule in _complete_rules(Rule):  # type: ignore[type-abstract]
        works = fitted(rule, profile)
        if isinstance(works, Perturbation):
            found.append(f"{rule.__name__}(baseline='{works.baseline}')")
        elif works is not None:
            found.append(f"{rule.__name__}()")
    return found


def fitted(kind: type[Rule], profile: Machine) -> Rule | None:
    """A rule of this kind that can learn on a profile, with the clean baseline if it may be; None if there is none."""
    choices = [kind(baseline=b) for b in ("clean", "noisy")] if issubclass(kind, Perturbation) else [kind()]
    return next((choice for choice in choices if not choice.missing(profile)), None)


def _complete_rules(kind: type[Rule]) -> list[type[Rule]]:
    """All rules that were defined and can train a network alone, those of the user with defaults included."""
    has_defaults = all(f.default is not MISSING or f.default_factory is not MISSING for f in fields(kind))
    own = [kind] if "name" in vars(kind) and kind.stands_alone and has_defaults else []
    return own + [rule for child in kind.__subclasses__() for rule in _complete_rules(child)]
