"""Random streams: reproducible, independent of one another, recordable. Statistical budget: 1e-4 a test."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from support.checks import DRIFT, ONE_OVER_F, PROGRAMMING, machine, tanh_net

from noisylearn import Chip, UserError
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


def test_the_first_call_of_a_stream_gives_what_its_generator_gave_before() -> None:
    """So that data drawn from a seed, orders of samples and the first programming are those of version 0.1.0."""
    generator = torch.Generator().manual_seed(stream_seed(3, ("a", "b")))
    assert torch.equal(Draws(3).normal(("a", "b"), (5, 7)), torch.randn((5, 7), generator=generator))
    assert torch.equal(torch.randperm(9, generator=Draws(3).stream("o")), torch.tensor([4, 5, 7, 2, 1, 8, 3, 6, 0]))


def test_numbers_of_a_call_depend_on_seed_name_and_call_alone() -> None:
    """Not on how much earlier calls drew, and of what."""
    much, little = Draws(0), Draws(0)
    for _ in range(3):
        much.normal(("a",), (1000,))
        little.uniform(("a",), (1,))
    assert torch.equal(much.normal(("a",), (4,)), little.normal(("a",), (4,)))
    assert not torch.equal(much.normal(("a",), (4,)), much.normal(("a",), (4,)))


def test_a_generator_for_library_functions_is_a_call_like_any_other_and_stays_ones_own() -> None:
    draws, other = Draws(0), Draws(0)
    held = draws.stream("a")
    draws.normal(("b",), (4,))
    assert torch.equal(torch.randn(4, generator=held), other.normal(("a",), (4,)))
    assert torch.equal(torch.randn(4, generator=draws.stream("a")), other.normal(("a",), (4,)))


@given(split=st.sets(st.integers(1, 5)), calls=st.integers(1, 3))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_numbers_of_a_pass_do_not_depend_on_the_passes_drawn_beside_it(split: set[int], calls: int) -> None:
    """Six passes in one call, or in several, in any order, by one process or by more."""
    together, one_by_one = Draws(0), Draws(0)
    edges = [0, *sorted(split), 6]
    parts = [range(start, end) for start, end in pairwise(edges)]
    apart = [Draws(0) for _ in parts]
    for _ in range(calls):
        whole = together.normal(("noise",), (6, 3, 2), range(6))
        pieces = [one_by_one.normal(("noise",), (len(part), 3, 2), part) for part in reversed(parts)]
        assert torch.equal(torch.cat(pieces[::-1]), whole)
        of_processes = [d.normal(("noise",), (len(part), 3, 2), part) for d, part in zip(apart, parts, strict=True)]
        assert torch.equal(torch.cat(of_processes), whole)
    assert not torch.equal(whole[0], whole[1])


def test_passes_have_to_lie_along_the_first_axis() -> None:
    with pytest.raises(ValueError, match="the first axis is theirs"):
        Draws(0).normal(("noise",), (3, 2), range(2))


def test_calls_and_passes_of_a_stream_are_independent() -> None:
    """Correlations of 12 streams of two calls, two passes or none, two seeds and names; 5e-5 for all of them."""
    n = 50_000
    rows = []
    for seed, name in ((0, "a"), (0, "b"), (1, "a")):
        draws = Draws(seed)
        for _ in range(2):
            rows += [draws.normal((name,), (n,)), *draws.normal((name,), (2, n), range(2))]
    z = np.stack([row.double().numpy() for row in rows])
    pairs = np.corrcoef(z)[np.triu_indices(len(z), 1)] * np.sqrt(n)
    assert np.abs(pairs).max() < stats.norm.isf(2.5e-5 / len(pairs))


def test_first_numbers_of_many_calls_are_normal_uniform_and_independent() -> None:
    """20,000 calls of three numbers: their distribution, and correlations of neighbours, calls, passes; 1e-5 each."""
    draws, n = Draws(0), 20_000
    z = torch.stack([draws.normal(("z",), (2, 3), range(2)) for _ in range(n)]).double().numpy()
    u = torch.stack([draws.uniform(("u",), (3,)) for _ in range(n)]).double().numpy()
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-5
    assert stats.kstest(u.ravel(), "uniform").pvalue > 1e-5
    pairs = (z[:, 0, 0], z[:, 0, 1]), (z[:, 0, 0], z[:, 1, 0]), (z[:-1, 0, 0], z[1:, 0, 0]), (u[:-1, 0], u[1:, 0])
    for first, second in pairs:
        assert abs(np.corrcoef(first, second)[0, 1]) < stats.norm.isf(5e-6) / np.sqrt(n - 3)


def test_a_state_is_small_and_carries_the_seed_and_every_stream() -> None:
    """Also to a generator of another seed that drew before: streams that the saved one had not used go on alike."""
    draws = Draws(5)
    draws.normal(("layer", "x"), (3,))
    draws.normal(("", "noise"), (2, 3), range(2))
    draws.stream("order")
    state = draws.state()
    assert sum(value.nbytes for value in state.values()) == 8 * 5, "a seed, and a counter for each of four streams"
    again = Draws(99)
    again.normal(("other",), (2,))
    again.normal(("layer", "x"), (2,))
    again.load_state({key: value.clone() for key, value in state.items()})
    assert again.seed == 5
    assert again.state() == state
    for name, passes in ((("layer", "x"), None), (("", "noise"), range(2)), (("other",), None)):
        ahead = draws.normal(name, (2, 3), passes)
        assert torch.equal(again.normal(name, (2, 3), passes), ahead)
    assert torch.equal(
        torch.randperm(9, generator=again.stream("order")), torch.randperm(9, generator=draws.stream("order"))
    )


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"layer|x": torch.Generator().get_state()},
        {"seed": torch.tensor(3), "layer|x": torch.Generator().get_state()},
        {"seed": torch.tensor(3), "calls|x": torch.Generator().get_state()},
    ],
)
def test_a_state_of_an_earlier_version_is_one_line_and_changes_nothing(state: dict[str, torch.Tensor]) -> None:
    draws = Draws(0)
    draws.normal(("a",), (2,))
    before = draws.state()
    with pytest.raises(UserError, match=r"0\.1\.0 kept positions") as caught:
        draws.load_state(state)
    assert "\n" not in str(caught.value)
    assert draws.state() == before


def test_a_seed_that_no_file_can_hold_is_one_line() -> None:
    with pytest.raises(UserError, match="63 bits"):
        Draws(2**63)


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


def test_all_passes_of_a_draw_are_recorded_and_replayed_together() -> None:
    recorder = RecordedDraws(0)
    drawn = recorder.normal(("a",), (2, 3), (0, 4))
    assert list(recorder.record) == [("a",)]
    assert torch.equal(drawn, Draws(0).normal(("a",), (2, 3), (0, 4)))
    assert torch.equal(ReplayedDraws(recorder.record).normal(("a",), (2, 3), (0, 4)), drawn)


def test_stream_of_a_place_prefixes_the_name() -> None:
    expected = Draws(1).normal(("hidden", "drift", "exponent"), (3,))
    assert torch.equal(StreamOf(Draws(1), "hidden", "drift").normal("exponent", (3,)), expected)
    assert torch.equal(
        StreamOf(Draws(1), "h").uniform("u", (3,)),
        Draws(1).uniform(("h", "u"), (3,)),
    )
    of_passes = StreamOf(Draws(1), "h", passes=(0, 3)).normal("z", (2, 3))
    assert torch.equal(of_passes, Draws(1).normal(("h", "z"), (2, 3), (0, 3)))


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
