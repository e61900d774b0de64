"""The forms of criteria: what holds, what does not, and how it is shown."""

import math

import numpy as np
import pytest
from scipy.stats import t

from noisylearn.papers.harness.criteria import (
    above,
    at_most,
    below,
    exponent_below,
    exponent_within,
    falling,
    ordered,
    reaches,
    rising,
    slope,
    turn,
    within,
)


@pytest.mark.parametrize(
    ("form", "holds"),
    [
        (below, (True, False, False)),
        (at_most, (True, True, False)),
        (reaches, (False, True, True)),
        (above, (False, False, True)),
    ],
)
def test_comparisons(form, holds):
    found = [form("it is so", value, 2.0) for value in (1.0, 2.0, 3.0)]
    assert tuple(one.holds for one in found) == holds
    assert [one.measured for one in found] == ["1 against 2", "2 against 2", "3 against 2"]
    assert form("it is so", math.nan, 2.0).holds is False


def test_of_several_numbers_all_have_to_hold():
    found = below("every seed", np.array([1.0, 2.0]), np.array([2.0, 3.0]), "{:.1f} < {:.1f}")
    assert (found.statement, found.measured, found.holds) == ("every seed", "1.0 < 2.0, 2.0 < 3.0", True)
    assert not below("every seed", np.array([1.0, 3.5]), np.array([2.0, 3.0])).holds
    with pytest.raises(ValueError, match="broadcast"):
        below("every seed", np.array([1.0, 2.0]), np.array([1.0, 2.0, 3.0]))


@pytest.mark.parametrize(
    ("value", "holds"), [(0.75, True), (1.25, True), (0.7, False), (1.3, False), (math.inf, False)]
)
def test_within_counts_both_ends(value, holds):
    assert within("near", value, 1.0, 0.25).holds == holds
    assert within("near", [1.0, value], 1.0, 0.25).holds == holds


def test_within_shows_all_values_together():
    assert within("near", [0.9, 1.1], 1.0, 0.2, "{:.1f}", "{} times that").measured == "0.9, 1.1 times that"


@pytest.mark.parametrize(
    ("values", "rises", "falls"),
    [
        ((1.0, 2.0, 3.0), True, False), ((3.0, 2.0, 1.0), False, True), ((1.0, 2.0, 2.0), False, False),
        ((2.0, 2.0, 1.0), False, False), ((1.0, math.inf, math.inf), False, False), ((1.0, 3.0, 2.0), False, False),
    ],
)  # fmt: skip
def test_trends_are_strict(values, rises, falls):
    assert rising("it rises", values).holds == rises
    assert falling("it falls", values).holds == falls
    assert falling("it falls", (3.0, 1.0), "{:.0f}", "iterations {}").measured == "iterations 3, 1"


def test_an_error_turns_up_where_it_ends_above_a_multiple_of_its_lowest():
    errors = np.array([4.0, 1.0, 3.0])
    up, down = turn("a run", errors, 2.0, turns=True), turn("a run", errors, 2.0, turns=False, note=" (at all)")
    assert (up.statement, up.holds) == ("a run: the error turns up", True)
    assert (down.statement, down.holds) == ("a run: the error does not turn up (at all)", False)
    assert up.measured == down.measured == "ends at 3 times its lowest"
    assert not turn("a run", errors, 4.0, turns=True).holds
    astray = turn("a run", errors, 4.0, turns=True, ran_away=True)
    assert (astray.holds, astray.measured) == (True, "ran away")


def test_slope_and_its_interval_against_the_formula_of_least_squares():
    x, noise = np.array([1.0, 2.0, 4.0, 8.0]), np.array([0.1, -0.1, -0.1, 0.1])
    y = np.exp(1.5 * np.log(x) + noise)
    u = np.log(x) - np.log(x).mean()
    expected = float(u @ np.log(y) / (u @ u))
    residuals = np.log(y) - np.log(y).mean() - expected * u
    stderr = math.sqrt(residuals @ residuals / 2 / (u @ u))
    assert slope(x, y) == pytest.approx((expected, t.ppf(0.975, 2) * stderr))
    assert slope([1, 4], [1, 2]) == (pytest.approx(0.5), 0.0)


def test_exponents():
    x, y = [1, 2, 4], [1.0, 2**0.5, 2.0]
    assert exponent_within("it is so", x, y, 0.6, 0.11).holds
    assert not exponent_within("it is so", x, y, 0.7, 0.11).holds
    assert exponent_below("it is so", x, y, 0.6).holds
    assert not exponent_below("it is so", x, y, 0.4).holds
    assert exponent_within("it is so", x[:2], y[:2], 0.5, 0.1).measured == "0.50"
    assert exponent_within("it is so", x, [1.0, 2.0, 3.0], 0.5, 0.1).measured.endswith("(95 %)")
    missed = exponent_below("it is so", x, [1.0, 2.0, math.inf], 1.0)
    assert (missed.holds, missed.measured) == (False, "the target was not reached everywhere")


def test_an_order_against_runs_that_ran_away():
    values = {"good": np.array([1.0, 3.0]), "bad": np.array([1.0]), "gone": np.array([])}
    assert ordered("good", "bad", values).holds
    assert not ordered("good", "bad", values, higher=False).holds
    assert ordered("good", "gone", values).holds
    assert not ordered("gone", "good", values).holds


def test_an_order_that_the_seeds_leave_open_says_so():
    """Means 2 apart: 0.7 standard errors of the difference for the first pair, 14 for the second."""
    wide = {"a": np.array([1.0, 5.0]), "b": np.array([-1.0, 3.0])}
    narrow = {"a": np.array([2.9, 3.1]), "b": np.array([0.9, 1.1])}
    for values, ends in ((wide, ", within the noise of the seeds"), (narrow, "against 1")):
        found = ordered("a", "b", values)
        assert found.holds
        assert found.measured.endswith(ends)
    assert "noise" not in ordered("a", "b", {"a": np.array([3.0]), "b": np.array([2.9])}).measured, "of one seed"


def test_whether_it_holds_is_a_plain_bool_that_json_takes():
    array = np.array([1.0, 2.0])
    found = [below("", array[0], array[1]), rising("", list(array)), turn("", array, 2.0, turns=False)]
    found += [exponent_below("", [1, 2], array, 2.0), within("", array[0], 1.0, 0.0)]
    assert {type(one.holds) for one in found} == {bool}
