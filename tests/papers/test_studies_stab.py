"""The theory of [STAB] against known values and limits, and the measures that its studies are judged by."""

import math
from pathlib import Path

import numpy as np
import pytest

from noisylearn.papers.harness.criteria import slope
from noisylearn.papers.harness.study import Bench
from noisylearn.papers.studies.shared.linear_student import Student, student_piece
from noisylearn.papers.studies.shared.linear_theory import LinearNetwork, regression_time
from noisylearn.papers.studies.shared.relu_student import ReluStudent, begin, held_out_score
from noisylearn.papers.studies.stab_dynamics import Run, Size
from noisylearn.papers.studies.stab_representation import participation_ratio

NETWORK = LinearNetwork(100, 1000, 10)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [((100, 1000, 10), 1.20187e-4), ((100, 10_000, 10), 6.23415e-5), ((20, 200, 5), 1.25082e-3)],
)
def test_critical_rate(sizes: tuple[int, int, int], expected: float) -> None:
    assert LinearNetwork(*sizes).critical_rate == pytest.approx(expected, rel=2e-4)


@pytest.mark.parametrize("gain", [1.0, 3.0])
def test_at_the_critical_rate_the_error_is_zero_where_it_turns(gain: float) -> None:
    network = LinearNetwork(100, 1000, 10, gain)
    rate = network.critical_rate
    turn = 2 / network.coefficient(rate)
    assert turn > network.a0
    assert abs(network.error(turn, rate)) < 1e-9 * network.eps0
    assert network.error(2 / network.coefficient(1.01 * rate), 1.01 * rate) > 0


def test_trajectory() -> None:
    a, eps = NETWORK.trajectory(NETWORK.critical_rate, 10_000)
    assert eps[[1000, 10_000]] == pytest.approx([0.0158, 1.67e-3], rel=0.01)
    assert eps[3000] == pytest.approx(NETWORK.error(a[3000], NETWORK.critical_rate), rel=1e-2)


def test_training_time_is_when_the_trajectory_arrives() -> None:
    rate, target = 0.8 * NETWORK.critical_rate, NETWORK.eps0 / 10
    _, eps = NETWORK.trajectory(rate, 10_000)
    assert NETWORK.training_time(rate, target) == pytest.approx(int(np.argmax(eps <= target)), rel=1e-3)
    assert NETWORK.training_time(1.5 * NETWORK.critical_rate, target) == math.inf


def test_least_training_time_does_not_depend_on_a_large_width() -> None:
    wide, wider = (LinearNetwork(100, width, 10) for width in (10**12, 8 * 10**12))
    (time, rate), (time_wider, rate_wider) = (n.minimum_training_time(n.eps0 / 10) for n in (wide, wider))
    assert time_wider == pytest.approx(time, rel=1e-3)
    assert rate_wider == pytest.approx(rate / 2, rel=1e-2)
    for factor in (0.9, 1.1):
        assert wide.training_time(factor * rate, wide.eps0 / 10) > time


def test_with_a_noisy_teacher_the_error_turns_on_the_nullcline() -> None:
    rate = NETWORK.critical_rate
    when, error = NETWORK.lowest(rate, 0.32)
    assert when == pytest.approx(5854, rel=1e-3)
    a, _ = NETWORK.trajectory(rate, when, 0.32)
    ca = NETWORK.coefficient(rate) * a[when]
    assert error == pytest.approx(ca * 0.32**2 / (100 * (2 - ca)), rel=1e-2)


def test_regression_shrinks_the_error_as_in_closed_form(tmp_path: Path) -> None:
    """Gaussian inputs and noise: E eps' = eps (1 - 2 eta + eta^2 (Lx + 2)(Ly + 2))."""
    rate = 1 / (8 * 5)
    student = Student(6, 0, 3, "np", rate, iterations=20, every=20)
    eps = student_piece("regression", student, range(16), 1.0).work(Bench(tmp_path), lambda share: None)["eps"]
    ratios = eps[:, 1] / eps[:, 0]
    expected = (1 - rate) ** 20
    assert abs(ratios.mean() - expected) < 4 * ratios.std(ddof=1) / math.sqrt(len(ratios))
    assert regression_time(8, 5, math.e) == pytest.approx(-1 / math.log1p(-rate), rel=0.02)


def test_student_starts_at_the_order_parameters_of_the_theory(tmp_path: Path) -> None:
    student = Student(40, 400, 10, "np", 1e-9, iterations=10, gain=2.0)
    found = student_piece("start", student, range(5), 1.0).work(Bench(tmp_path), lambda share: None)
    network = LinearNetwork(40, 400, 10, gain=2.0)
    assert found["alpha"][:, 0].mean() == pytest.approx(network.alpha0, rel=0.05)
    assert found["eps"][:, 0].mean() == pytest.approx(network.eps0, rel=0.15)


def test_large_first_weights_turn_up_below_the_usual_critical_rate() -> None:
    size = Size(100, 10, 10_000, ())
    assert [size.turns(Run(1000, 0.8, gain)) for gain in (1.0, 3.0)] == [False, True]


def test_slope_and_participation_ratio() -> None:
    found, width = slope([1, 2, 4, 8], [3 * x**-0.5 for x in (1, 2, 4, 8)])
    assert (found, width) == (pytest.approx(-0.5), pytest.approx(0, abs=1e-6))
    assert participation_ratio(np.ones(7)) == pytest.approx(7)
    assert participation_ratio(np.array([5.0, 0, 0])) == pytest.approx(1)


def test_learner_starts_from_the_papers_weights_and_holds_their_norms(tmp_path: Path) -> None:
    trainer = begin(ReluStudent("digits", "np", (200,), 0.5, 5, batch=50, normalise=True), 0, Bench(tmp_path))
    first = trainer.chip.layers["hidden1"].weight.detach().clone()
    assert float(first.var()) == pytest.approx(2 / (64 + 200), rel=0.05)
    for _ in range(5):
        trainer.step()
    after = trainer.chip.layers["hidden1"].weight.detach()
    assert not after.equal(first)
    assert after.norm(dim=1).tolist() == pytest.approx(first.norm(dim=1).tolist(), rel=1e-5)
    assert 0 <= held_out_score(trainer) <= 1
    assert trainer.chip.weights()["hidden1"].equal(after), "it is what was learned that is read"
