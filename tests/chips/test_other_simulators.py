"""The same layer in other simulators, by tools/compare_simulators.py; skipped where a simulator is not installed."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
from compare_simulators import CASES, Case, agreement, compared, converter, our_samples, profile


def cases() -> list:
    found = []
    for module, of_kit in CASES.items():
        is_missing = pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"{module} is not installed")
        found += [pytest.param(case, id=f"{case.kit}: {case.name}", marks=is_missing) for case in of_kit()]
    return found


@pytest.mark.parametrize("case", cases())
def test_one_layer_is_the_same_there(case: Case) -> None:
    found = compared(case, draws=400)
    assert found.holds, found


def test_what_counts_as_agreement() -> None:
    """Same normal samples agree; a mean, a variance and a shape that differ do not, each by its own measure."""
    random = np.random.default_rng(0)
    one = random.normal(size=(400, 32))
    assert agreement(one, random.normal(size=(400, 32))).holds
    moved = agreement(one, random.normal(size=(400, 32)) + 0.5 * (np.arange(32) == 3))
    assert not moved.holds
    assert moved.mean_z == pytest.approx(0.5 / (2 / 400) ** 0.5, abs=3)  # in standard errors, to 3 of them
    wider = agreement(one, 1.5 * random.normal(size=(400, 32)))
    assert not wider.holds
    assert wider.variance_ratio == pytest.approx(2.25, rel=0.1)  # its standard error is 2 %
    flat = agreement(one, random.uniform(-(3**0.5), 3**0.5, size=(400, 32)))
    assert flat.ks_p < 1e-3


def test_our_side_has_the_moments_that_theory_gives() -> None:
    """Output noise of 0.06 on a layer of one input: mean w x, standard deviation 0.06; and a converter's levels."""
    weight, x = np.eye(32, 64, dtype=np.float32), np.full(64, 0.5, dtype=np.float32)
    noisy = Case("", "", profile('kind = "output-noise"\nsigma = 0.06'), lambda *_: np.zeros(0))
    found = our_samples(noisy, weight, x, 2000)
    assert np.abs(found.mean(0) - 0.5).max() < 5 * 0.06 / 2000**0.5
    assert found.std() == pytest.approx(0.06, rel=0.02)  # 64,000 samples: 5 standard errors are 1.4 %
    coarse = profile(converters=converter("dac", "bits = 8") + converter("adc", "bits = 3\nrange = 3.0"))
    assert our_samples(Case("", "", coarse, noisy.theirs), weight, 1.6 * x, 1) == pytest.approx(1.0)
