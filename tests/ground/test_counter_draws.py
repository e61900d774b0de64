"""Numbers by counter, against an independent Philox, check vectors and numpy. Budget of a statistical test: 1e-4."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

import noisylearn as nl
from noisylearn import UserError
from noisylearn.ground.counter_draws import CounterDraws
from noisylearn.ground.draws import Draws
from noisylearn.ground.philox import LOW, philox

# Of Philox 4 x bits: multipliers, increments of the key (Salmon et al. 2011, table 2 and section 3.3).
CONSTANTS = {
    32: ((0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)),
    64: ((0xD2E7470EE14C6C93, 0xCA5A826395121157), (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)),
}
PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0)
# Counter, key, words: the file kat_vectors of Random123, lines philox4x32 10.
PUBLISHED = [
    ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((LOW,) * 4, (LOW,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (*PI, (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
]


def by_hand(counter: tuple[int, ...], key: tuple[int, ...], bits: int = 32) -> tuple[int, ...]:
    """Ten rounds in Python's integers."""
    (m0, m1), increments = CONSTANTS[bits]
    low = 2**bits - 1
    for _ in range(10):
        first, second = m0 * counter[0], m1 * counter[2]
        counter = (second >> bits ^ counter[1] ^ key[0], second & low, first >> bits ^ counter[3] ^ key[1], first & low)
        key = tuple((k + step) & low for k, step in zip(key, increments, strict=True))
    return counter


def ours(counter: tuple[int, ...], key: tuple[int, ...]) -> tuple[int, ...]:
    words = philox(tuple(torch.tensor(c) for c in counter), tuple(torch.tensor(k) for k in key))
    return tuple(int(word) for word in words)


@pytest.mark.parametrize(("counter", "key", "words"), PUBLISHED)
def test_published_check_vectors(counter: tuple[int, ...], key: tuple[int, ...], words: tuple[int, ...]) -> None:
    assert ours(counter, key) == words


def test_every_word_of_many_blocks_is_that_of_an_independent_philox_which_is_numpys_at_64_bits() -> None:
    generator = np.random.default_rng(0)
    for row in generator.integers(0, 2**32, (200, 6)).tolist():
        assert ours(tuple(row[:4]), tuple(row[4:])) == by_hand(tuple(row[:4]), tuple(row[4:]))
    numpys = np.random.Philox(counter=[7, 8, 9, 10], key=[11, 12])
    assert tuple(numpys.random_raw(4).tolist()) == by_hand((8, 8, 9, 10), (11, 12), 64)  # numpy counts up first


def test_number_of_a_row_and_column_is_that_of_its_counter() -> None:
    draws, again = (CounterDraws(5, dtype=torch.float64) for _ in range(2))
    drawn, (key,) = draws.normal(("a",), (2, 3, 7)), again.keys(("a",)).tolist()
    uniform = CounterDraws(5).uniform(("a",), (2, 3, 7))
    for row in range(6):
        for column in range(7):
            words = by_hand((column // 4, row, 0, 0), (key & LOW, key >> 32 & LOW))
            pair = words[:2] if column % 4 < 2 else words[2:]
            u, v = ((word + 0.5) / 2**32 for word in pair)
            expected = math.sqrt(-2 * math.log(u)) * (math.cos, math.sin)[column % 2](2 * math.pi * v)
            assert float(drawn.flatten(0, 1)[row, column]) == pytest.approx(expected, rel=1e-12)
            assert float(uniform.flatten(0, 1)[row, column]) == (words[column % 4] >> 8) / 2**24


def test_normal_and_uniform_numbers_have_their_distributions_and_are_uncorrelated() -> None:
    draws = CounterDraws(0)
    z = torch.stack([draws.normal((name,), (200, 251)).flatten() for name in "aab"]).double().numpy()
    n = z.shape[1]
    assert all(stats.kstest(row, "norm").pvalue > 1e-5 for row in z)
    assert stats.kstest(draws.uniform(("u",), (n,)).numpy(), "uniform").pvalue > 1e-5
    lagged = np.stack([*z, *(np.roll(z[0], lag) for lag in (1, 2, 3, 251))])
    correlations = np.corrcoef(lagged)[np.triu_indices(len(lagged), 1)] * np.sqrt(n)
    assert np.abs(correlations).max() < stats.norm.ppf(1 - 5e-5 / 21)


def test_passes_and_calls_have_streams_of_their_own_as_those_of_plain_draws() -> None:
    two, many, some = CounterDraws(1), CounterDraws(1), CounterDraws(1)
    drawn = many.normal(("a",), (5, 3, 4), range(5))
    assert torch.equal(two.normal(("a",), (2, 3, 4), range(2)), drawn[:2])
    with some.numbered((3, 1)):
        assert torch.equal(some.normal(("a",), (2, 3, 4), range(2)), drawn[[3, 1]])
    assert len(torch.cat([drawn, many.normal(("a",), (5, 3, 4), range(5))]).unique()) == 2 * drawn.numel()
    assert torch.equal(many.anew().normal(("a",), (5, 3, 4), range(5)), drawn)
    with pytest.raises(ValueError, match="the first axis is theirs"):
        many.normal(("a",), (2, 3), range(3))


def test_both_precisions_have_the_same_numbers() -> None:
    single, double = (CounterDraws(2, dtype=dtype).normal(("a",), (64, 64)) for dtype in (torch.float32, torch.float64))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=3e-5)


def test_shapes_without_rows_or_numbers() -> None:
    draws = CounterDraws(0)
    assert [tuple(draws.normal(("a",), shape).shape) for shape in ((), (3,), (0, 2), (2, 0))] == [
        (), (3,), (0, 2), (2, 0),
    ]  # fmt: skip


def test_a_chip_continues_from_a_saved_state_and_refuses_that_of_another_kind_of_draws() -> None:
    model = nl.networks.mlp(3, (4,), 2)
    x = torch.rand(2, 3)
    chip = nl.Chip(model, "pcm-nandakumar-2019", draws=CounterDraws(7))
    state, expected = chip.state(), chip(x)
    other = nl.Chip(model, "pcm-nandakumar-2019", draws=CounterDraws(8))
    other.load_state(state)
    assert torch.equal(other(x), expected)
    with pytest.raises(UserError, match="by counter or not"):
        nl.Chip(model, "pcm-nandakumar-2019", seed=7).load_state(state)
    with pytest.raises(UserError, match="by counter or not"):
        CounterDraws(7).load_state(Draws(7).state())
