"""Random streams: reproducible, independent of one another, recordable. Statistical budget: 1e-4 a test."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from support.checks import DRIFT, ONE_OVER_F, PROGRAMMING, machine, tanh_net

from noisylearn import Chip
from noisylearn.chips.readings import Plan
from noisylearn.ground.draws import Draws, RecordedDraws, ReplayedDraws, StreamOf, stream_seed

NAME = st.lists(st.text("abcdef.-0123", min_size=1, max_size=6), min_size=1, max_size=4).map(tuple)


def test_same_seed_and_name_give_the_same_numbers() -> None:
    assert torch.equal(Draws(3).normal(("a", "b"), (5, 2)), Draws(3).normal(("a", "b"), (5, 2)))
    assert torch.equal(Draws(3).uniform(("a",), (7,)), Draws(3).uniform(("a",), (7,)))


@given(seed=st.integers(0, 2**31), other=st.integers(0, 2**31), name=NAME, another=NAME)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_seed_and_name_both_choose_the_stream(
    seed: int, other: int, name: tuple[str, ...], another: tuple[str, ...]
) -> None:
    assert 0 <= stream_seed(seed, name) < 2**32
    assert (stream_seed(seed, name) == stream_seed(other, name)) == (seed == other)
    assert (stream_seed(seed, name) == stream_seed(seed, another)) == (name == another)


def test_one_stream_does_not_shift_another() -> None:
    alone, beside = Draws(0), Draws(0)
    first = alone.normal(("a",), (4,)), alone.normal(("a",), (4,))
    second = beside.normal(("a",), (4,))
    beside.normal(("b",), (100,))
    assert torch.equal(torch.stack(first), torch.stack([second, beside.normal(("a",), (4,))]))


def test_streams_are_standard_normal_uniform_and_uncorrelated() -> None:
    n = 50_000
    draws = [Draws(seed) for seed in (0, 1)]
    z = np.stack([d.normal((name,), (n,)).double().numpy() for d in draws for name in ("a", "b")])
    assert all(stats.kstest(row, "norm").pvalue > 1e-5 for row in z)
    assert stats.kstest(draws[0].uniform(("u",), (n,)).numpy(), "uniform").pvalue > 1e-5
    correlations = np.corrcoef(z)[np.triu_indices(4, 1)] * np.sqrt(n)
    assert np.abs(correlations).max() < stats.norm.ppf(1 - 5e-5 / 6)


def test_state_continues_every_stream_and_forgets_the_others() -> None:
    draws = Draws(5)
    draws.normal(("layer", "x"), (3,))
    state = draws.state()
    ahead = draws.normal(("layer", "x"), (6,))
    again = Draws(99)
    again.normal(("other",), (2,))
    again.seed = 5
    again.load_state(state)
    assert torch.equal(again.normal(("layer", "x"), (6,)), ahead)
    assert torch.equal(again.normal(("other",), (2,)), Draws(5).normal(("other",), (2,)))


def test_recorded_draws_replay_in_order_and_complain() -> None:
    recorder = RecordedDraws(0)
    given_out = [recorder.normal(("a",), (2, 3)), recorder.normal(("a",), (1,)), recorder.normal(("b",), (2,))]
    assert torch.equal(given_out[0], Draws(0).normal(("a",), (2, 3)))
    replay = ReplayedDraws(recorder.record)
    assert torch.equal(replay.normal(("a",), (2, 3)), given_out[0])
    with pytest.raises(ValueError, match="recorded shape"):
        replay.normal(("b",), (3,))
    replay.normal(("a",), (1,))
    with pytest.raises(IndexError, match="exhausted"):
        replay.normal(("a",), (1,))


def test_stream_of_a_place_prefixes_the_name() -> None:
    expected = Draws(1).normal(("hidden", "drift", "exponent"), (3,))
    assert torch.equal(StreamOf(Draws(1), "hidden", "drift").normal("exponent", (3,)), expected)
    assert torch.equal(
        StreamOf(Draws(1), "h").uniform("u", (3,)),
        Draws(1).uniform(("h", "u"), (3,)),
    )


def _numbers_of(*effects: str) -> dict[tuple[str, ...], list[torch.Tensor]]:
    draws = RecordedDraws(7)
    chip = Chip(tanh_net(3, 4, 2), machine(*effects, devices=True), draws=draws)
    chip.passes(torch.ones(2, 3, dtype=torch.float64), Plan(((True, True),) * 2))
    chip.advance(10.0)
    chip.passes(torch.ones(2, 3, dtype=torch.float64), Plan(((True, True),) * 2))
    return draws.record


def test_adding_an_effect_does_not_shift_the_numbers_of_another() -> None:
    few, many = _numbers_of(PROGRAMMING, ONE_OVER_F), _numbers_of(PROGRAMMING, DRIFT, ONE_OVER_F)
    assert set(few) < set(many)
    for name, tensors in few.items():
        assert all(torch.equal(a, b) for a, b in zip(tensors, many[name], strict=True)), name


def test_a_look_before_time_passes_does_not_shift_later_numbers() -> None:
    found = []
    for look in (False, True):
        chip = Chip(tanh_net(3, 4, 2), machine(PROGRAMMING, DRIFT, ONE_OVER_F, devices=True), seed=0)
        if look:
            chip(torch.ones(2, 3, dtype=torch.float64))
        chip.advance(10.0)
        chip.program()
        found.append(chip.weights()["0"])
    assert torch.equal(*found)


def test_adding_a_layer_does_not_shift_the_numbers_of_another() -> None:
    short, long = tanh_net(3, 4, 2), tanh_net(3, 4, 2, 5)
    chips = [Chip(model, machine(PROGRAMMING, DRIFT, ONE_OVER_F, devices=True), seed=0) for model in (short, long)]
    for chip in chips:
        chip.program()
        chip.advance(10.0)
    for layer in ("0", "2"):
        assert torch.equal(*(chip.weights()[layer] for chip in chips)), layer


def test_streams_are_named_by_layer_effect_and_purpose() -> None:
    kinds = {("programming-noise", "write"), ("power-law-drift", "exponent"), ("one-over-f-read-noise", "slow")}
    expected = {(layer, *kind) for layer in ("0", "2") for kind in kinds}
    assert set(_numbers_of(PROGRAMMING, DRIFT, ONE_OVER_F)) == expected | {(n, "read", "pass") for n in ("0", "2")}


def test_looking_at_the_chip_does_not_shift_the_numbers_of_training() -> None:
    def train(look: bool) -> torch.Tensor:
        chip = Chip(tanh_net(3, 4, 2), machine(PROGRAMMING, DRIFT, ONE_OVER_F, devices=True), seed=0)
        x, outputs = torch.ones(2, 3, dtype=torch.float64), []
        for _ in range(3):
            outputs.append(chip.passes(x, Plan(((True, True),) * 2)).output)
            if look:
                chip(x)
                chip.weights()
            chip.program()
            if look:
                chip(x)
        return torch.stack(outputs)

    assert torch.equal(train(look=False), train(look=True))


def test_uniform_numbers_are_recorded_and_replayed_too() -> None:
    recorded = RecordedDraws(3)
    given = [recorded.uniform(("a",), (4,)), recorded.normal(("a",), (2,)), recorded.uniform(("b",), (1,))]
    replayed = ReplayedDraws(recorded.record)
    again = [replayed.uniform(("a",), (4,)), replayed.normal(("a",), (2,)), replayed.uniform(("b",), (1,))]
    assert all(torch.equal(a, b) for a, b in zip(given, again, strict=True))
