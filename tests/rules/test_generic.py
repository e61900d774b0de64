"""Every check of `support.rule_checks` on every rule of the registry; and that these checks find mistakes."""

from dataclasses import dataclass
from typing import Any

import pytest
from support import rule_checks
from support.rule_checks import CHECKS, Check, cases, check_on_profile, kinds
from torch import Tensor

from noisylearn.profiles import profile_files
from noisylearn.rules import ANP, NP, REGISTRY, Rule
from noisylearn.rules.variants import variants

pytestmark = [
    pytest.mark.filterwarnings("ignore::noisylearn.chips.simulated.NoiseLevelWarning"),  # float64 throughout
    pytest.mark.filterwarnings("ignore:layer .* has no weight other than zero"),
    pytest.mark.filterwarnings("ignore:.* sets the range of its converters from data"),
]


def _named(check: Check, rule: Rule) -> Any:
    return pytest.param(check, rule, id=f"{check.__name__.removeprefix('check_')}-{rule.describe()}")


@pytest.mark.parametrize(("check", "rule"), [_named(check, rule) for check, rule in cases()])
def test_every_rule(check: Check, rule: Rule) -> None:
    check(rule)


@pytest.mark.parametrize("name", list(profile_files()))
@pytest.mark.parametrize("rule", [rule for kind in kinds() for rule in variants(kind)], ids=lambda r: r.describe())
def test_every_rule_on_every_profile(rule: Rule, name: str) -> None:
    check_on_profile(rule, name)


# ---- a rule of one's own gets all of them, and mistakes are found ----


@dataclass(frozen=True, kw_only=True)
class Mine(NP):
    """NP with an option; `stands_alone` would offer it beside the package's rules for as long as the tests run."""

    name = "mine"
    stands_alone = False
    tried = {"draws": (2,), "factor": ()}  # noqa: RUF012
    factor: float = 1.0

    def post(self, activity: Tensor, reference: Tensor, noise: Tensor | None) -> Tensor:
        return self.factor * super().post(activity, reference, noise)


def test_a_rule_of_the_registry_gets_every_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRY, "mine", Mine)
    mine = [(check, rule) for check, rule in cases() if isinstance(rule, Mine)]
    assert {check for check, _ in mine} == set(CHECKS)
    assert {rule.draws for _, rule in mine} == {1, 2}
    for check, rule in mine:
        if rule.baseline == "clean" and rule.draws == 1:
            check(rule)


@dataclass(frozen=True, kw_only=True)
class ForgetsDraws(Mine):
    """Forgets to divide by the draws."""

    name = "forgets-draws"

    def scales(self, norms: Any, sizes: Any, variances: Any) -> Any:
        return [self.draws * scale for scale in super().scales(norms, sizes, variances)]


@dataclass(frozen=True, kw_only=True)
class Boasts(ANP):
    """Claims too much."""

    name = "boasts"
    stands_alone = False
    unbiased = "deep"


@dataclass(frozen=True, kw_only=True)
class Modest(NP):
    """Claims too little."""

    name = "modest"
    stands_alone = False
    unbiased = "one layer"


@dataclass(frozen=True, kw_only=True)
class Divides(ANP):
    """Divides by zero where nothing moves."""

    name = "divides"
    stands_alone = False

    def scales(self, norms: Any, sizes: Any, variances: Any) -> Any:
        return [sum(sizes) / sum(norms)] * len(norms)


@dataclass(frozen=True, kw_only=True)
class OverBatch(NP):
    """Takes the sum over the batch."""

    name = "over-batch"
    stands_alone = False

    def scales(self, norms: Any, sizes: Any, variances: Any) -> Any:
        return [norm.shape[1] / variance for norm, variance in zip(norms, variances, strict=True)]


@dataclass(frozen=True, kw_only=True)
class FreeOfScale(NP):
    """Claims to need no variance."""

    name = "free-of-scale"
    stands_alone = False
    scale_free = True


@pytest.mark.parametrize(
    ("check", "rule"),
    [
        (rule_checks.check_unbiased, Mine(factor=-1.0)),
        (rule_checks.check_unbiased, Mine(factor=2.0)),
        (rule_checks.check_unbiased, ForgetsDraws(draws=3)),
        (rule_checks.check_unbiased, Boasts()),
        (rule_checks.check_unbiased, Modest()),
        (rule_checks.check_convolutions, Mine(factor=-1.0)),
        (rule_checks.check_along_sequences, Mine(factor=-1.0)),
        (rule_checks.check_along_sequences, Mine(factor=2.0, update="online")),
        (rule_checks.check_along_sequences, Boasts()),
        (rule_checks.check_zero_where_nothing_moves, Divides(baseline="noisy")),
        (rule_checks.check_batch_mean, OverBatch()),
        (rule_checks.check_scale_free, FreeOfScale()),
    ],
    ids=lambda value: value.describe() if isinstance(value, Rule) else value.__name__,
)
def test_a_wrong_rule_is_caught(check: Check, rule: Rule) -> None:
    with pytest.raises(AssertionError):
        check(rule)
