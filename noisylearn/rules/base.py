"""What a rule is: a record of its options, of what it must observe, and of its source."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, Literal

from jaxtyping import Float, Shaped
from torch import Tensor
from torch.optim import Optimizer

from noisylearn.chips.interface import AnyChip, Memory
from noisylearn.ground.errors import UserError
from noisylearn.ground.table import Shown, Table
from noisylearn.profiles import HardwareProfile, Machine
from noisylearn.rules.estimate import Estimate
from noisylearn.rules.in_time import InTime
from noisylearn.rules.learner import Learner
from noisylearn.rules.observation import LossFn, Observation, StepLoss
from noisylearn.rules.options import options_of
from noisylearn.rules.sharing import Way

NO_NOISE = "noise that perturbs the network"  # is missing
DRAWS_HELP = "Noise draws per sample and step."
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

    def shows(self, state: Memory, seen: Observation) -> Memory:
        """Sums over the rows of a segment, from which `step` finds what the rule remembers of all segments.

        Where several parts of a batch are observed in several places, their sums are added, and every part is given the
        totals as `seen.shown`. So all remember the same.

        Args:
            state: what the rule remembers. It is not changed.
            seen: of one part of the batch.

        Returns:
            A tree (dicts) of tensors of one type, whose form and shapes do not depend on the part; empty for a rule
            that remembers nothing, or only what it saw of the part.
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

        Neither for a rule that pools what samples show, or that remembers more than the sequence it is in, unless it
        learns that from sums, see `shows`.
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
            return [NO_NOISE]
        return [_MEANING[need] for need in sorted(self.needs() - set(profile.shown))]

    @classmethod
    def on(cls, profile: Machine) -> "Rule | None":
        """The rule as it can learn on a profile, with a clean baseline where the profile has one.

        Args:
            profile: of the machine to learn on.

        Returns:
            The rule, otherwise with its defaults; None if it cannot learn there.
        """
        rule = cls()
        return None if rule.missing(profile) else rule

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
        able = rules_for(profile)
        remedy = " (state some in its file: noisylearn profiles keys output-noise)" if lacking == [NO_NOISE] else ""
        raise UserError(
            f"rule {self.name} ({type(self).__name__}) cannot learn on profile '{profile.name}': it needs "
            f"{' and '.join(lacking)}, which this machine does not offer{remedy}; rules that work there: "
            f"{', '.join(rule.name for rule in able)}; in Python {', '.join(rule.call() for rule in able)}"
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

    def call(self) -> str:
        """The rule as Python code, with what depends on the profile."""
        return f"{type(self).__name__}()"

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


def draws_in_words(draws: int) -> str:
    """A number of draws, in words for a table."""
    return f"{draws} draw{'s' if draws > 1 else ''}"


def rules_for(profile: Machine) -> list[Rule]:
    """All rules that can learn on a profile.

    Args:
        profile: of the machine to learn on.

    Returns:
        The rules, with a noisy baseline where the profile has no clean one.
    """
    rules = (kind.on(profile) for kind in _complete_rules(Rule))  # type: ignore[type-abstract]
    return [rule for rule in rules if rule is not None]


def _complete_rules(kind: type[Rule]) -> list[type[Rule]]:
    """All defined subclasses that can train a network alone and have defaults, those of the user included."""
    has_defaults = all(f.default is not MISSING or f.default_factory is not MISSING for f in fields(kind))
    own = [kind] if "name" in vars(kind) and kind.stands_alone and has_defaults else []
    return own + [rule for child in kind.__subclasses__() for rule in _complete_rules(child)]
