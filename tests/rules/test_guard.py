"""The guard against a loss that grows."""

import warnings

import pytest

from noisylearn.rules import LossWatch


@pytest.mark.parametrize(
    ("losses", "warned_at"),
    [
        ([2.3] * 20 + [8.5] * 40, 40),
        ([2.3] * 20 + [6.8] * 40, None),  # not three times as large
        ([2.3] * 5 + [9.0] * 5 + [1.0] * 30, None),
        ([2.3] * 30 + [float("nan")], None),  # the next window is not full
        ([2.3] * 39 + [float("nan")], 40),
        ([9.0, 3.0, 1.0] * 20, None),
    ],
    ids=["grows", "grows less", "for a moment", "not finite, later", "not finite", "falls"],
)
def test_a_growing_loss_is_told_once(losses, warned_at):
    watch, told = LossWatch(first=5, last=20), []
    for step, loss in enumerate(losses, start=1):
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            watch(loss)
        told += [step] * len(found)
    assert told == ([warned_at] if warned_at else [])


def test_the_warning_says_how_much_and_what_to_do():
    watch = LossWatch(1, 1, "try lr 0.1")
    watch(2.0)
    with pytest.warns(UserWarning, match=r"the loss grew from 2 to 7 while it learned: try lr 0\.1"):
        watch(7.0)
