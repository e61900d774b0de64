"""Every claim of the conformance suite, run; that a wrong sign or factor fails it; and the page in the docs."""

import functools
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.lava_cases import needs_lava
from torch import Tensor

from noisylearn.backends.conformance import integer_check, torch_check
from noisylearn.backends.conformance.backends import BACKENDS, Backend
from noisylearn.backends.conformance.cases import NETWORKS, Case, cases, model, profile, samples
from noisylearn.backends.conformance.claims import Claim, claim, claims, of_defaults, page, table
from noisylearn.backends.lava.export import to_lava_net
from noisylearn.backends.loihi import engine, microcode
from noisylearn.rules import ANP, BP, BPTT, INP, NP, REGISTRY, REINFORCE, WP, LearnedFeedback, PerLayer, Rule
from noisylearn.rules.writing import WrittenPerturbation

TORCH, FLOAT_LAVA, EMULATOR, FIXED_LAVA = BACKENDS
PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"
all_claims = functools.cache(claims)


def held(backend: Backend) -> list[Any]:
    return [pytest.param(case, id=f"{case.network}-{case.name}") for case in cases() if not backend.excluded(case)]


FEWER_UPDATES = """
from noisylearn.backends.conformance import lava_check
from noisylearn.cli import main
lava_check.STEPS = 100
main()
"""


def verified_elsewhere(*options: str) -> list[dict[str, str]]:
    """Rows of `noisylearn conformance --verify`, in a process of its own: Lava changes the one it is loaded in.

    In float64 after 100 updates, which find a wrong factor as the 500 of the command do.
    """
    command = [sys.executable, "-c", FEWER_UPDATES, "conformance", "--verify", "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=570)
    assert done.returncode == 0, done.stderr
    return [row for row in json.loads(done.stdout) if row["holds"]]


# ---- the page and its rows ----


def test_page_is_written_from_the_claims() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write it anew: noisylearn conformance -o docs/conformance.md"


def test_nothing_is_left_out_in_silence() -> None:
    by_case: dict[tuple[str, str], list[Claim]] = {}
    for found in all_claims():
        by_case.setdefault((found.case.name, found.case.network), []).append(found)
        assert bool(found.holds) != bool(found.excluded)
    assert all([found.backend for found in row] == list(BACKENDS) for row in by_case.values())
    for network in NETWORKS:
        assert {type(case.rule) for case in cases() if case.network == network} == {*REGISTRY.values(), PerLayer}


def test_every_option_has_its_row() -> None:
    rules = [case.rule for case in cases() if case.network == "feed-forward"]
    for rule in (NP(), NP(baseline="noisy"), ANP(baseline="mean"), ANP(scale="layer"), WP(draws=3), BP(forward="chip")):
        assert rules.count(rule) == 1, rule.describe()
    assert REINFORCE(hidden_noise=True) in rules
    assert rules.count(LearnedFeedback(route="direct", regression="lms", baseline="noisy")) == 1  # what a chip would do
    in_time = [case.rule for case in cases() if case.network == "recurrent"]
    for rule in (INP(update="online"), BPTT(truncate=1, update="online"), BPTT()):
        assert in_time.count(rule) == 1, rule.describe()


def test_a_rule_of_the_registry_gets_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Mine(NP):
        name = "mine"
        stands_alone = False
        gain: float = 1.0
        tried = {"draws": (2,), "gain": (0.5,)}  # noqa: RUF012

    monkeypatch.setitem(REGISTRY, "mine", Mine)
    names = [case.name for case in cases() if case.network == "feed-forward" and isinstance(case.rule, Mine)]
    assert names == [
        "Mine()", "Mine(baseline='noisy')", "Mine(baseline='mean')", "Mine(draws=2)",
        "Mine(control_variate='error')", "Mine(control_variate='loss')", "Mine(gain=0.5)",
    ]  # fmt: skip


def test_a_backend_that_shows_too_little_is_excluded_with_what_is_missing() -> None:
    blind = Backend("blind", ("loss",), lambda case: None, lambda case: "yes", lambda case: "")
    found = claim(Case(ANP(baseline="noisy"), "feed-forward"), blind)
    assert found.excluded == "rule ANP: this backend does not show the pre-activations; nor the input of every layer"
    assert not claim(Case(BP(), "feed-forward"), blind).excluded


@pytest.mark.parametrize("backend", [EMULATOR, FIXED_LAVA], ids=lambda backend: backend.name)
def test_a_critic_in_integers_shows_the_loss_alone(backend: Backend) -> None:
    reasons = {c.excluded for c in all_claims() if c.backend is backend and isinstance(c.case.rule, PerLayer)}
    assert len(reasons) == 1
    assert "does not show the error at the output" in reasons.pop()


# ---- every claim ----


def held_once() -> list[Any]:
    """Of rows that are tried alike, the first: other draws where many are drawn anyway, options of decorrelated inputs.

    Likewise for rules that write weights, whose every option `tests/rules/test_generic.py` checks to be unbiased; on
    decorrelated inputs, of which they see nothing, none. `noisylearn conformance --verify` tries all.
    """
    found: dict[tuple[str, str], Any] = {}
    for row in held(TORCH):
        (case,) = row.values
        rule = torch_check.tried(case)[0]
        if isinstance(rule, WrittenPerturbation) and case.decorrelates:
            continue
        once = case.decorrelates or isinstance(rule, WrittenPerturbation)
        found.setdefault((case.network, type(rule).__name__ if once else rule.describe()), row)
    return list(found.values())


@pytest.mark.parametrize("case", held_once())
def test_torch(case: Case) -> None:
    assert TORCH.verify(case) == ""


@pytest.mark.parametrize("case", held(EMULATOR))
def test_emulator(case: Case) -> None:
    assert EMULATOR.verify(case) == ""


@pytest.mark.slow
@needs_lava
@pytest.mark.timeout(600)
@pytest.mark.parametrize("network", NETWORKS)
def test_float_lava(network: str) -> None:
    every = [c for c in all_claims() if c.backend is FLOAT_LAVA and c.case.network == network and not c.excluded]
    decorrelates = every[0].case.decorrelates  # which is alike whatever the options of the rule
    every = of_defaults(every) if decorrelates else every
    rows = verified_elsewhere("--backend", FLOAT_LAVA.name, "--network", network, *["--defaults"] * decorrelates)
    assert [row["rule"] for row in rows] == [c.case.name for c in every]
    assert len(rows) > 4
    assert not any(row["failure"] for row in rows)


@pytest.mark.slow
@needs_lava
@pytest.mark.timeout(600)
def test_fixed_lava() -> None:
    rows = verified_elsewhere("--backend", FIXED_LAVA.name)
    assert len(rows) == len(held(FIXED_LAVA)) > 0
    assert not any(row["failure"] for row in rows)


# ---- one more backend is one more record ----


def numpy_anp(case: Case) -> str:
    """ANP with two noisy passes through an MLP, in numpy, with torch's draws; what differs from torch."""
    net = to_lava_net(model(case), case.rule, profile(case), samples(case, 50), 1e-3)
    connections = net.netlist.connections
    layers = [(c.weight.copy(), c.bias.copy()) for c in connections if c.bias is not None]
    noise = [1e-3 * net.draws[f"{c.layer}|gaussian-node|pass|read"][:, 0, :, 0] for c in connections]
    for t, (x, y) in enumerate(zip(net.inputs[:, 0], net.targets[:, 0], strict=True)):
        losses, pre, activities = [], [], []
        for p in range(2):
            h = x
            for (W, b), e in zip(layers, noise, strict=True):
                a = W @ h + b + e[t, p]
                pre.append(h)
                activities.append(a)
                h = np.maximum(a, 0)
            losses.append(np.mean((a - y) ** 2))
        da = [noisy - reference for reference, noisy in zip(activities[:3], activities[3:], strict=True)]
        step = 1e-3 * (losses[1] - losses[0]) * sum(d.size for d in da) / sum(d @ d for d in da)
        for (W, b), d, h in zip(layers, da, pre[:3], strict=True):
            W -= step * np.outer(d, h)
            b -= step * d
    found = {f"{c.layer}.weight": W for c, (W, _) in zip(connections, layers, strict=True)}
    difference = max(float(np.abs(W - net.torch[name]).max()) for name, W in found.items())
    return "" if difference < 1e-12 else f"differs by {difference:.1e}"


def test_another_backend_is_one_record() -> None:
    def why_not(case: Case) -> str | None:
        known = case.rule == ANP(baseline="noisy") and case.network == "feed-forward"
        return None if known else "numpy here knows ANP(baseline='noisy') on a plain feed-forward network alone"

    shows = ("loss", "input", "activity")
    toy = Backend("numpy", shows, why_not, lambda case: "torch within 1e-12", numpy_anp)
    found = [row for row in claims((toy,)) if not row.excluded]
    assert [row.case.name for row in found] == ["ANP(baseline='noisy')"]
    assert found[0].verify() == ""
    text = table(claims((*BACKENDS[:1], toy)))
    assert "| rule | torch, float64 | numpy |" in text
    assert "| `ANP(baseline='noisy')` | its direction, cosine at least 0.97 | torch within 1e-12 |" in text
    assert "numpy here knows ANP" in text


# ---- a wrong sign or factor is found ----


@dataclass(frozen=True, kw_only=True)
class Wrong(NP):
    """NP with one mistake."""

    name = "wrong"
    stands_alone = False
    factor: float = 1.0

    def post(self, activity: Tensor, reference: Tensor, noise: Tensor | None) -> Tensor:
        return self.factor * super().post(activity, reference, noise)


@dataclass(frozen=True, kw_only=True)
class WrongANP(ANP):
    """ANP the other way."""

    name = "wrong-anp"
    stands_alone = False

    def post(self, activity: Tensor, reference: Tensor, noise: Tensor | None) -> Tensor:
        return reference - activity


@pytest.mark.parametrize("network", ["feed-forward", "recurrent"])
@pytest.mark.parametrize(
    ("rule", "found"),
    [
        (Wrong(factor=-1.0, update="online"), "layer hidden1: -(1|0.9)"),
        (Wrong(factor=2.0, update="online"), "times the gradient"),
        (Wrong(factor=0.5, update="online"), "times the gradient"),
        (WrongANP(update="online"), "cosine -0.9"),
        (BPTT(truncate=1, update="online"), ""),
    ],
    ids=["sign", "double", "half", "anp sign", "nothing"],
)
def test_torch_is_caught_with_a_wrong_sign_or_factor(rule: Rule, found: str, network: str) -> None:
    said = torch_check.check(Case(rule, network))
    assert bool(said) == bool(found)
    assert re.search(found, said), said


def test_wrong_credit_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient through all steps in the place of one that is cut off, and the other way round."""
    case = Case(NP(update="online"), "recurrent")
    assert torch_check.check(case) == ""
    monkeypatch.setattr(torch_check, "_cut", lambda rule: None)
    assert torch_check.check(Case(BPTT(truncate=1, update="online"), "recurrent"))


EMULATED = [Case(ANP(baseline="noisy", update="online"), network) for network in ("feed-forward", "recurrent")]


@pytest.mark.parametrize("case", EMULATED, ids=lambda case: case.network)
@pytest.mark.parametrize("factors", [(1, -1), (-2, 2), (-4, 2), (4, 4)])
def test_the_emulator_is_caught_with_a_wrong_product(
    case: Case, factors: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place of -4 x0 x1 y1 + 4 x0 x1 y2."""

    def string(mantissa: int, exponent: int) -> str:
        return f"{factors[0]}*2^{exponent}*x0*x1*y1 + {factors[1]}*2^{exponent}*x0*x1*y2".replace("+ -", "- ")

    assert EMULATOR.verify(case) == ""
    monkeypatch.setattr(microcode, "_string", string)
    assert "further off than rounding explains" in EMULATOR.verify(case)


@pytest.mark.parametrize("case", EMULATED, ids=lambda case: case.network)
def test_the_emulator_is_caught_with_a_wrong_engine(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    change = engine.Engine._change
    monkeypatch.setattr(engine.Engine, "_change", lambda *given: -change(*given))
    assert "further off than rounding explains" in EMULATOR.verify(case)


BREAK_LAVA = """
from noisylearn.backends.conformance import lava_check
from noisylearn.backends.conformance.cases import Case
from noisylearn.backends.lava import process_specs
from noisylearn.rules import ANP
factors = process_specs.node_factors
process_specs.node_factors = lambda *given: [-factor for factor in factors(*given)]
lava_check.STEPS = 20
print(lava_check.check(Case(ANP(baseline="noisy"), "feed-forward")))
"""


@pytest.mark.slow
@needs_lava
def test_lava_is_caught_with_a_wrong_sign() -> None:
    done = subprocess.run([sys.executable, "-c", BREAK_LAVA], capture_output=True, text=True, timeout=250)
    assert "differs by" in done.stdout, done.stderr


def test_an_emulator_that_hardly_learns_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integer_check, "LR", 1e-4)
    assert "too small to tell a sign" in EMULATOR.verify(EMULATED[0])
