"""Some steps of training that ranks share, for tests over threads and over processes."""

import threading
from dataclasses import dataclass

import torch
from support.checks import machine, node_profile, sample_batch, tanh_net, weight_profile
from torch import Tensor

from noisylearn import Chip, HardwareProfile, decorrelate
from noisylearn.distributed import Ranks
from noisylearn.networks import RNN
from noisylearn.profiles import load_profile
from noisylearn.rules import ANP, INP, NP, REINFORCE, WP, Delta, LearnedFeedback, Learner, PerLayer, Rule
from noisylearn.rules.sharing import Send

SIZES, BATCH, STEPS = (4, 6, 5, 3), 11, 3
NODES, WEIGHTS, PCM = node_profile(1e-2), weight_profile(1e-2), load_profile("pcm-nandakumar-2019")
TILES = load_profile("sonos-array-2022")
SLOW = machine('kind = "ornstein-uhlenbeck-node"\nsigma = 0.01\ncorrelation_time_us = 5.0', devices=True)
CLOSE = {"rtol": 1e-9, "atol": 1e-11}
ONE_AT_A_TIME = threading.Lock()  # torch initialises networks from its one generator


def squared(output: Tensor, target: Tensor) -> Tensor:
    return (output - target).square().mean(1)


@dataclass
class Outcome:
    """What a rank has after some steps."""

    losses: list[Tensor]
    weights: dict[str, Tensor]
    draws: dict[str, int]
    sent: list[int]


def learned(
    rule: Rule,
    profile: HardwareProfile,
    ranks: Ranks,
    parts: int,
    decorrelated: bool = False,
    in_time: bool = False,
    send: Send = "gradients",
) -> Outcome:
    """Some steps of training, with everything a step does."""
    with ONE_AT_A_TIME:
        model = RNN(4, 6, 3, "tanh", 1e-2 if decorrelated else 0.0, seed=0).double() if in_time else tanh_net(*SIZES)
    if decorrelated and not in_time:
        model = decorrelate(model, 1e-2)
    chip = Chip(model, profile, seed=3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    learner = Learner(rule, chip, ranks=ranks, parts=parts, send=send if ranks.count > 1 else "gradients")
    losses = []
    for step in range(STEPS):
        x, t = sample_batch(BATCH * 6, 4, 3, seed=step)
        shape = (6, BATCH) if in_time else (1, BATCH)
        x, t = (values[: shape[0] * BATCH].unflatten(0, shape) for values in (x, t))
        mask = torch.ones(shape, dtype=x.dtype)
        if in_time:
            mask[:2, : BATCH // 2] = 0
        losses.append(learner.run(x, t, squared, optimizer, mask, in_time))
        if rule.in_time().update == "sequence":
            optimizer.step()
            chip.program()
    draws = {key: int(value) for key, value in chip.state()["draws"].items()}
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    return Outcome(losses, weights | chip.weights(), draws, getattr(ranks, "sent", []))


def check_same(outcome: Outcome, alone: Outcome) -> None:
    """A rank ends as one process does, to rounding."""
    for ours, theirs in zip(outcome.losses, alone.losses, strict=True):
        torch.testing.assert_close(ours, theirs, **CLOSE)
    for name, weight in alone.weights.items():
        torch.testing.assert_close(outcome.weights[name], weight, **CLOSE)


TAUGHT = [  # rules that learn what they remember from all parts
    (LearnedFeedback(baseline="noisy"), NODES), (LearnedFeedback(baseline="noisy"), PCM),
    (LearnedFeedback(baseline="noisy"), load_profile("reram-soft-bounds-gong-2018")),
    (LearnedFeedback(draws=3, baseline="mean", regression="lms"), NODES),
    (LearnedFeedback(route="direct"), NODES), (LearnedFeedback(route="direct", regression="lms"), NODES),
    (LearnedFeedback(excitation="noise", follow_updates=False), NODES),
    (ANP(draws=2, baseline="noisy", control_variate="error"), NODES), (NP(control_variate="loss"), NODES),
    (PerLayer(rules={"4": Delta(), "*": ANP(control_variate="error")}), NODES),
]  # fmt: skip
SHARED = [
    (NP(draws=5), NODES), (NP(draws=3, baseline="noisy"), NODES), (INP(draws=2), NODES),
    (ANP(draws=4), NODES), (ANP(draws=5, baseline="noisy", scale="layer"), PCM), (WP(draws=4), WEIGHTS),
    (WP(draws=3, baseline="noisy"), WEIGHTS), (REINFORCE(draws=3), NODES), (ANP(draws=4, baseline="noisy"), TILES),
    (PerLayer(rules={"4": Delta(), "*": ANP(draws=4)}), NODES),
]  # fmt: skip
BY_SEEDS = [
    (NP(draws=4), NODES), (NP(draws=4, baseline="noisy"), NODES), (INP(draws=4), NODES), (WP(draws=4), WEIGHTS),
    (WP(draws=4, baseline="noisy"), WEIGHTS), (REINFORCE(draws=4), NODES),
    (PerLayer(rules={"4": Delta(), "*": NP(draws=4)}), NODES),
]  # fmt: skip
