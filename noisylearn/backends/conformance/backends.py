"""The backends: one record for each, which drives claims, their verification, the table and the page."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

from noisylearn.backends.conformance import integer_check, lava_check, torch_check
from noisylearn.backends.conformance.cases import Case
from noisylearn.chips.own import Offer
from noisylearn.profiles import Observable

OF_LOSS: tuple[Observable, ...] = ("loss", "input", "activity", "injected_noise", "clean_pass")


@dataclass(frozen=True)
class Backend:
    """Something that executes rules.

    observable: what it shows to a rule; a critic in integers shows the loss alone, neither the output nor its error.
    why_not: why it cannot execute a case besides that, or None.  holds: what is claimed of a case that it can execute.
    verify: runs that claim; empty if it holds, else what was found in its place.
    """

    name: str
    observable: tuple[Observable, ...]
    why_not: Callable[[Case], str | None]
    holds: Callable[[Case], str]
    verify: Callable[[Case], str]

    def excluded(self, case: Case) -> str:
        """Why it cannot execute a case; empty if it can."""
        if hidden := case.rule.missing(Offer(self.name, self.observable)):
            return f"rule {type(case.rule).__name__}: this backend does not show {'; nor '.join(hidden)}"
        return self.why_not(case) or ""


def _anything(case: Case) -> None:
    return None


BACKENDS = (
    Backend("torch, float64", get_args(Observable), _anything, torch_check.holds, torch_check.check),
    Backend(
        "Lava, float64", (*OF_LOSS, "output", "error", "injected_weight_noise"), lava_check.why_not,
        lambda case: f"torch within {lava_check.tolerance(case):g}", lava_check.check,
    ),
    Backend(
        "integer emulator", OF_LOSS, integer_check.why_not,
        lambda case: f"the rule within {integer_check.bound(case):.1f} LSB", integer_check.check,
    ),
    Backend(
        "Lava, fixed point", OF_LOSS, integer_check.why_not,
        lambda case: "the emulator bit for bit", integer_check.check_lava,
    ),
)  # fmt: skip
