"""Estimates that several ranks share: the same numbers as of one process with the same parts and draws."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from support.checks import sample_batch, tanh_net
from support.shared_steps import (
    BATCH,
    BY_SEEDS,
    CLOSE,
    NODES,
    SHARED,
    SIZES,
    SLOW,
    STEPS,
    TAUGHT,
    WEIGHTS,
    Outcome,
    check_same,
    learned,
    squared,
)
from support.thread_ranks import ThreadRanks, in_threads
from torch import Tensor

from noisylearn import Chip, HardwareProfile, UserError, decorrelate
from noisylearn.chips.own import Offer
from noisylearn.distributed import Ranks
from noisylearn.networks.decorrelation import decorrelations
from noisylearn.rules import ANP, BP, NP, REGISTRY, WP, LearnedFeedback, Learner, Rule
from noisylearn.rules.sharing import Share, share_of
from noisylearn.rules.variants import variants


def check_equal(rule: Rule, profile: HardwareProfile, count: int, parts: int, **options: Any) -> list[Outcome]:
    """Ranks end as one process does, all of them alike; their streams together are those of one process."""
    alone = learned(rule, profile, Ranks(), parts, **options)
    together = in_threads(count, lambda ranks: learned(rule, profile, ranks, parts, **options))
    for outcome in together:
        check_same(outcome, alone)
        for name in alone.weights:
            assert torch.equal(outcome.weights[name], together[0].weights[name]), "ranks differ"
    union = {key: max(o.draws.get(key, 0) for o in together) for o in together for key in o.draws}
    assert union == alone.draws
    return together


@pytest.mark.parametrize(("count", "parts"), [(2, 1), (2, 2), (2, 3), (4, 2), (3, 4)])
@pytest.mark.parametrize(("rule", "profile"), SHARED, ids=lambda value: getattr(value, "name", None))
def test_ranks_equal_one_process(rule: Rule, profile: HardwareProfile, count: int, parts: int) -> None:
    if rule.n_draws < count // 2 or (parts == 1 and rule.n_draws < count):
        pytest.skip("no work for all")
    outcomes = check_equal(rule, profile, count, parts)
    assert all(len(outcome.sent) == STEPS for outcome in outcomes), "one sum a step"


@pytest.mark.parametrize("rule", [ANP(baseline="mean", draws=3), NP(baseline="mean", draws=3), BP()], ids=str)
def test_what_keeps_its_draws_together_is_shared_by_batch(rule: Rule) -> None:
    check_equal(rule, NODES, 2, 2)
    together = "3 draws, which stay together as the rule compares them all"
    with pytest.raises(UserError, match=together if rule.n_draws > 1 else "1 draw: give"):
        share_of(rule, NODES, Ranks(0, 2))


@pytest.mark.parametrize(("count", "parts"), [(2, 2), (2, 3), (3, 4)])
@pytest.mark.parametrize(("rule", "profile"), TAUGHT, ids=str)
def test_what_a_rule_remembers_is_learned_from_all_parts(
    rule: Rule, profile: HardwareProfile, count: int, parts: int
) -> None:
    check_equal(rule, profile, count, parts)
    with pytest.raises(UserError, match=f"give --batch-parts {count}"):
        share_of(rule, profile, Ranks(0, count))


@pytest.mark.parametrize("options", [{}, {"update": "online"}, {"update": "online", "horizon": 2, "route": "direct"}])
def test_feedback_along_sequences_is_learned_from_all_parts(options: dict[str, Any]) -> None:
    check_equal(LearnedFeedback(baseline="noisy", **options), NODES, 2, 3, in_time=True)


def test_noise_that_lasts_from_pass_to_pass_is_shared_by_batch() -> None:
    rule = ANP(baseline="noisy", draws=4)
    check_equal(rule, SLOW, 2, 2)
    with pytest.raises(UserError, match=r"4 draws, which stay together as noise lasts from pass to pass \(ornstein"):
        share_of(rule, SLOW, Ranks(0, 2))


@pytest.mark.parametrize(("count", "parts"), [(2, 1), (2, 2), (4, 2)])
def test_decorrelations_learn_from_all_rows(count: int, parts: int) -> None:
    outcomes = check_equal(ANP(draws=4), NODES, count, parts, decorrelated=True)
    matrices = [value for name, value in outcomes[0].weights.items() if name.endswith("matrix")]
    assert len(matrices) == 3
    assert all(not torch.equal(value, torch.eye(len(value), dtype=value.dtype)) for value in matrices)


IN_TIME = [
    ANP(draws=2), NP(draws=4, update="online"), NP(draws=2, update="online", credit="trace"),
    ANP(draws=2, baseline="noisy", credit="reward-to-go"),
]  # fmt: skip


@pytest.mark.parametrize(("count", "parts"), [(2, 1), (2, 2), (4, 2)])
@pytest.mark.parametrize("rule", IN_TIME, ids=str)
def test_sequences(rule: Rule, count: int, parts: int) -> None:
    outcomes = check_equal(rule, NODES, count, parts, decorrelated=True, in_time=True)
    each = 6 if rule.in_time().update == "online" else 1
    assert all(len(outcome.sent) == STEPS * each for outcome in outcomes), "one sum an update"


@pytest.mark.parametrize("credit", ["local", "sequence", "trace"])
def test_weight_perturbation_along_sequences(credit: Any) -> None:
    for count, parts in ((2, 1), (2, 2), (4, 2)):
        check_equal(WP(draws=2, credit=credit), WEIGHTS, count, parts, in_time=True)


def test_parts_of_one_process_change_the_noise_and_not_the_gradient() -> None:
    """BP has no noise: parts give its gradient. A perturbation rule has other draws with other parts."""
    for rule, same in ((BP(), True), (ANP(), False)):
        one, two = (learned(rule, NODES, Ranks(), parts) for parts in (1, 2))
        close = torch.allclose(one.weights["0.weight"], two.weights["0.weight"], rtol=1e-9)
        assert close == same


def test_every_part_has_noise_of_its_own() -> None:
    chip = Chip(tanh_net(*SIZES), NODES, seed=0)
    x, t = sample_batch(3, 4, 3)
    both = torch.cat([x, x]).unsqueeze(0), torch.cat([t, t]).unsqueeze(0)
    Learner(ANP(), chip, parts=2).run(*both, squared, in_time=False)
    streams = [key for key in chip.state()["draws"] if "gaussian-node" in key]
    assert len(streams) == 2 * 3 * 1, "two parts, three layers, one noisy pass"


def test_estimate_without_targets_is_shared_by_draws() -> None:
    x, t = sample_batch(BATCH, 4, 3)

    def gradient(ranks: Ranks) -> Tensor:
        model = tanh_net(*SIZES)
        loss = Learner(NP(draws=4), Chip(model, NODES), ranks=ranks).estimate(x, lambda output: squared(output, t))
        return torch.cat([loss.reshape(1), *(p.grad.flatten() for p in model.parameters())])

    alone = gradient(Ranks())
    for found in in_threads(2, gradient):
        torch.testing.assert_close(found, alone, **CLOSE)
    with pytest.raises(UserError, match="need its targets"):
        Learner(NP(), Chip(tanh_net(*SIZES), NODES), parts=2).estimate(x, lambda output: squared(output, t))


def test_a_loss_that_is_not_finite_on_one_rank_stops_all() -> None:
    x, t = sample_batch(4, 4, 3)
    t[3] = torch.nan

    def run(ranks: ThreadRanks) -> str:
        learner = Learner(ANP(), Chip(tanh_net(*SIZES), NODES), ranks=ranks, parts=2)
        try:
            learner.run(x.unsqueeze(0), t.unsqueeze(0), squared, in_time=False)
        except UserError as error:
            return str(error)
        return ""

    one, two = in_threads(2, run)
    assert one == two
    assert one.startswith("the loss is not finite")


def test_rules_that_remember_or_pool_are_refused_by_name() -> None:
    for kind in REGISTRY.values():
        for rule in variants(kind):
            if rule.divides:
                assert rule.init(None) == {}  # type: ignore[arg-type]
                assert not rule.pools or type(rule).shows is not Rule.shows
                continue
            with pytest.raises(UserError, match=r"in one place: .*go with anp, inp, np, reinforce, wp") as error:
                rule.check_divides()
            assert "\n" not in str(error.value)


def test_shares_cover_the_grid_once() -> None:
    """Every pair of part and draw is computed by exactly one rank, and work is shared as equally as it goes."""
    for count, parts, draws in itertools.product(range(1, 7), range(1, 6), range(1, 6)):
        ranks = [Ranks(r, count) for r in range(count)]
        if not any(count % n == 0 and n <= parts and count // n <= draws for n in range(1, count + 1)):
            with pytest.raises(UserError, match="cannot share"):
                share_of(NP(draws=draws), NODES, ranks[0], parts)
            continue
        shares = [share_of(NP(draws=draws), NODES, one, parts) for one in ranks]
        cells = [(part, draw) for share in shares for part in share.parts for draw in share.draws]
        assert sorted(cells) == [(p, d) for p in range(parts) for d in range(draws)]
        assert sum(share.weight * len(share.parts) for share in shares) == pytest.approx(parts)


def test_a_batch_is_split_before_its_draws_where_both_are_possible() -> None:
    two = [share_of(NP(draws=8), NODES, Ranks(r, 2), 2) for r in (0, 1)]
    assert two == [Share(range(r, 2, 2), 2, range(8), 8) for r in (0, 1)]


@pytest.mark.parametrize(("count", "parts"), [(2, 1), (2, 2), (4, 1)])
@pytest.mark.parametrize(("rule", "profile"), BY_SEEDS, ids=lambda value: getattr(value, "name", None))
def test_losses_and_seeds_give_the_whole_estimate(rule: Rule, profile: HardwareProfile, count: int, parts: int) -> None:
    """They give what gradients give, and move 8 bytes for every draw, pass of a draw and row."""
    decorrelated = rule.name != "per-layer"  # where the layers have other names
    outcomes = check_equal(rule, profile, count, parts, decorrelated=decorrelated, send="losses")
    passes = 4 * (3 if rule.name == "inp" else 1)
    assert sum(outcomes[0].sent) == STEPS * (passes * BATCH + parts) * 8, "with one number more in every sum"


@pytest.mark.parametrize("rule", [NP(draws=2, update="online", credit="trace"), NP(draws=4, credit="reward-to-go")])
def test_losses_and_seeds_along_sequences(rule: Rule) -> None:
    check_equal(rule, NODES, 2, 1, decorrelated=True, in_time=True, send="losses")
    check_equal(WP(draws=2, credit="trace"), WEIGHTS, 2, 2, in_time=True, send="losses")


@pytest.mark.parametrize(
    ("rule", "profile", "count", "says"),
    [
        (ANP(draws=2), NODES, 2, "rule anp learns from pre-activations, which the process that ran a pass has alone"),
        (NP(draws=2, baseline="mean"), NODES, 2, "which stay together here as the rule compares them all"),
        (NP(draws=3), NODES, 2, "3 are no multiple of 2 processes"),
        (NP(draws=2), NODES, 1, "--send losses is for several processes"),
    ],
)
def test_what_losses_and_seeds_do_not_serve(rule: Rule, profile: HardwareProfile, count: int, says: str) -> None:
    with pytest.raises(UserError, match=says):
        share_of(rule, profile, Ranks(0, count), 1, "losses")
    with pytest.raises(UserError, match="send 'weights'; choose gradients or losses"):
        share_of(rule, profile, Ranks(0, count), 1, "weights")  # type: ignore[arg-type]


def test_bad_shares_are_one_line() -> None:
    x, t = (values.unsqueeze(0) for values in sample_batch(2, 4, 3))
    chip = Chip(tanh_net(*SIZES), NODES)
    with pytest.raises(UserError, match="a batch of 2 has no 3 parts"):
        Learner(NP(), chip, parts=3).run(x, t, squared, in_time=False)
    with pytest.raises(UserError, match="'a board' is no simulated chip"):
        share_of(ANP(), Offer("a board"), Ranks(0, 2))
    with pytest.raises(UserError, match="0 parts of a batch"):
        Learner(NP(), chip, parts=0)
    with pytest.raises(UserError, match="3 processes cannot share 1 part of the batch and 2 draws: give"):
        share_of(NP(draws=2), NODES, Ranks(0, 3))


def test_a_learned_prediction_is_shared_by_batch_alone() -> None:
    assert NP().divides == {"batch", "draws"}
    assert replace(NP(), control_variate="error").divides == {"batch"}


def test_decorrelations_learn_alike_from_samples_and_from_their_products() -> None:
    x, _ = sample_batch(40, 5, 1)
    one, other = (next(iter(decorrelations(decorrelate(tanh_net(5, 2), 0.1)).values())) for _ in range(2))
    one.update(x)
    (first, n), (second, m) = other.products(x[:10]), other.products(x[10:])
    other.learn((first + second) / (n + m))
    torch.testing.assert_close(one.matrix, other.matrix)
    torch.testing.assert_close(one.covariance_loss, other.covariance_loss)
