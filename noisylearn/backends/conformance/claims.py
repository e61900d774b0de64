"""What every case does on every backend: claims, their verification, and the page that is written from them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from noisylearn.backends.conformance import integer_check, lava_check, torch_check
from noisylearn.backends.conformance.backends import BACKENDS, Backend
from noisylearn.backends.conformance.cases import NETWORKS, Case, cases
from noisylearn.ground.table import Table
from noisylearn.rules import Rule


@dataclass(frozen=True)
class Claim:
    """What holds for a case on a backend; `excluded` says why nothing does."""

    case: Case
    backend: Backend
    holds: str = ""
    excluded: str = ""

    def verify(self) -> str:
        """Run it; empty if it holds, else what was found in its place. Excluded ones hold as they are.

        Those of Lava load Lava into this process, see `noisylearn.backends.lava.compat.load_lava`.
        """
        return "" if self.excluded else self.backend.verify(self.case)


def claim(case: Case, backend: Backend) -> Claim:
    """The claim for one case on one backend."""
    if reason := backend.excluded(case):
        return Claim(case, backend, excluded=reason)
    return Claim(case, backend, backend.holds(case))


def claims(backends: Sequence[Backend] = BACKENDS) -> list[Claim]:
    """What every case does on every backend, found out without running rules."""
    return [claim(case, backend) for case in cases() for backend in backends]


def of_defaults(every: Iterable[Claim]) -> list[Claim]:
    """Of the claims that hold for a rule, a network and a backend, the first: that for the rule as it comes."""
    found: dict[tuple[str, type[Rule], str], Claim] = {}
    for one in every:
        if not one.excluded:
            found.setdefault((one.case.network, type(one.case.rule), one.backend.name), one)
    return list(found.values())


def page() -> str:
    """The page of the docs, in Markdown."""
    return HEAD + table(claims())


_PERCENT, _STEPS = f"{100 * torch_check.RESOLUTION:.0f}", lava_check.STEPS
_CORES, _SAMPLES = integer_check.CORES, integer_check.SAMPLES
HEAD = f"""# Conformance: every rule on every backend

Written by `noisylearn conformance`; `noisylearn conformance --verify` runs every claim. The tests fail where this page
is stale, and run every claim but some options of rules on decorrelated inputs and numbers of draws. Rows are the rules
of the registry, with their defaults and with every other value of one option; along sequences they learn online with
local credit, where they can. What a column claims:

- **torch**: "the gradient, on average": the mean of many estimates is that of autograd, every entry in a t test, and
  the size of every layer's within an interval of at most +-{_PERCENT} %; noise is small, also where its size is an
  option of the rule. "its direction": the cosine with it is what
  theory says, or more, for pre-activations that carry the noise of the layers before ([ANP] appendix D).
- **Lava, float64**: after {_STEPS} updates with the same draws no weight, bias or decorrelating matrix differs by more.
- **integer emulator** of profile `{_CORES}`: in each of {_SAMPLES} updates every weight changes by what the rule's
  own functions give in torch, but for so many LSBs of a weight at most, which its rounding and that of traces and third
  factor explain.
- **Lava, fixed point**: all weights are those of the emulator, after {_SAMPLES} samples.

"""


def table(found: Sequence[Claim]) -> str:
    """Markdown: a table for each network, and below them the reasons, numbered."""
    reasons: list[str] = []
    backends = list(dict.fromkeys(row.backend.name for row in found))
    parts = []
    for network in NETWORKS:
        of_network = [c for c in found if c.case.network == network]
        rows = [
            [f"`{name}`", *(_cell(row, reasons) for row in of_network if row.case.name == name)]
            for name in dict.fromkeys(row.case.name for row in of_network)
        ]
        title = network.capitalize()
        parts.append(f"## {title}\n\n{Table(title, ['rule', *backends], rows).to_markdown()}")
    numbered = "\n".join(f"{i}. {reason}" for i, reason in enumerate(reasons, start=1))
    return "\n\n".join([*parts, "## Why not", numbered]) + "\n"


def _cell(row: Claim, reasons: list[str]) -> str:
    if not row.excluded:
        return row.holds
    reason = row.excluded.replace(row.case.rule.describe(), type(row.case.rule).__name__)
    if reason not in reasons:
        reasons.append(reason)
    return f"no ({reasons.index(reason) + 1})"
