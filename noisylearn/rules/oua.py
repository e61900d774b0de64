"""Ornstein-Uhlenbeck adaptation: weights wander around means, which follow them where the reward was better."""

import math
from collections.abc import Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor

from noisylearn.chips.interface import AnyChip, Memory
from noisylearn.rules.checks import check_positive, check_share
from noisylearn.rules.directions import STEPS, StepDraws, start
from noisylearn.rules.estimate import Estimate
from noisylearn.rules.observation import Observation
from noisylearn.rules.writing import WrittenPerturbation, parameters_of, pass_now, written_back

LOSS, DEVIATION = "mean_loss", "deviation"  # keys of the state
MOVES = "moves"  # of the weights so far


@dataclass(frozen=True, kw_only=True)
class OUA(WrittenPerturbation):
    """dW = (L(W + d) - r) d / (s^2 (1 - q)): d wanders, d <- a d + sqrt(1 - a^2) s z, and r is a mean of past losses.

    The published process in continuous time, d theta = lambda (mu - theta) dt + noise, d mu = eta (R - R') (theta - mu)
    dt, d R' = rho (R - R') dt with the reward R = -L, step by step: the weights W of the model are the means mu, the
    rule keeps d = theta - mu with variance s^2, and a = exp(-reversion), r <- r + reward_rate (L - r). The optimizer
    moves W; with SGD that is the published rule.

    r remembers losses at deviations like the present one, which takes the share q of the signal away; the rule divides
    by what is left, so that its mean is the gradient at W up to order s^2. After k moves q = reward_rate a
    (1 - b^k) / (1 - b) with b = a (1 - reward_rate).

    Wandering weights are written to the chip before every pass, and W after the last. The chip's own noise on weights
    cannot take their place: it forgets from pass to pass, or cannot be read out. The first estimate takes one pass
    more, at W, to begin r with. Along sequences one deviation serves a whole sequence.

    Args:
        fluctuation: s, standard deviation of a weight around its mean, in units of the weight.
        reversion: lambda dt of one move: how fast deviations are forgotten.
        reward_rate: rho dt of one move: how fast r follows.
        draws: moves per batch, each with a pass; their estimates are averaged.

    Raises:
        UserError: an option has a value that is not allowed.
    """

    name = "oua"
    title = "Ornstein-Uhlenbeck adaptation"
    equation = "dW = (L(W + d) - r) d / (s^2 (1 - q)),  d <- a d + sqrt(1 - a^2) s z,  r <- r + rho (L - r)"
    source = (
        "Garcia Fernandez, Ahmad, van Gerven: Ornstein-Uhlenbeck adaptation as a mechanism for learning in brains and "
        "machines, Entropy 26, 1125, 2024"
    )

    fluctuation: float = field(
        default=0.1, metadata={"help": "Standard deviation of a wandering weight around its mean (OUA)."}
    )
    reversion: float = field(default=1.0, metadata={"help": "How fast wandering weights come back, per move (OUA)."})
    reward_rate: float = field(
        default=0.1, metadata={"help": "How fast the predicted reward follows the reward, per estimate."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self.name, fluctuation=self.fluctuation, reversion=self.reversion)
        check_share(self.name, reward_rate=self.reward_rate)

    @property
    def memory(self) -> float:
        """a: the share of a deviation that is left after a move."""
        return math.exp(-self.reversion)

    def share_left(self, moves: int) -> float:
        """1 - q: the share of the signal that the mean of past losses leaves.

        Args:
            moves: of the weights, before the present one.
        """
        b = self.memory * (1 - self.reward_rate)
        return 1 - self.reward_rate * self.memory * (1 - b**moves) / (1 - b)

    def init(self, chip: AnyChip) -> Memory:
        """Where the weights are, relative to their means, and the mean loss."""
        deviation = {
            name: {key: torch.zeros_like(p.detach()) for key, p in layer.named_parameters() if p.requires_grad}
            for name, layer in chip.layers.items()
        }
        return {**start(), MOVES: torch.tensor(0), LOSS: torch.zeros((), dtype=torch.float64), DEVIATION: deviation}

    def forward_passes(self, n_layers: int) -> int:
        """One for every move of the weights."""
        return self.draws

    def step(self, state: Memory, seen: Observation, layers: Collection[str]) -> tuple[Estimate, Memory]:
        draws, moves = StepDraws.of(self.name, state, seen), int(state[MOVES])
        parameters = parameters_of(seen.chip, layers)
        deviation = {
            (layer, key): state[DEVIATION][layer].get(key, torch.zeros_like(p))
            for (layer, key), p in parameters.items()
        }
        mean_loss = state[LOSS]
        total, losses = {name: torch.zeros_like(d) for name, d in deviation.items()}, []
        inputs: dict[str, Tensor] = {}
        with torch.no_grad(), written_back(seen, parameters) as kept:
            if moves == 0:
                mean_loss = pass_now(seen)[1].mean().double()
            for k in range(self.draws):
                for name, p in parameters.items():
                    z = draws.normal(f"move {k}, {', '.join(name)}", kept[name])
                    deviation[name] = self._moved(deviation[name], z, moves + k)
                    p.copy_(kept[name] + deviation[name])
                readings, of_rows = pass_now(seen)
                loss = of_rows.mean()
                scale = self.fluctuation**2 * self.share_left(moves + k) * self.draws
                for name, d in deviation.items():
                    total[name] += ((loss - mean_loss) / scale).to(d) * d
                mean_loss = mean_loss + self.reward_rate * (loss - mean_loss)
                losses.append(loss)
                inputs = inputs or {name: reading.input[0] for name, reading in readings.layers.items()}
        gradients: dict[str, dict[str, Tensor]] = {name: {} for name in layers}
        wandered = {name: dict(own) for name, own in state[DEVIATION].items()}
        for (layer, key), gradient in total.items():
            gradients[layer][key], wandered[layer][key] = gradient, deviation[layer, key]
        later = {STEPS: state[STEPS] + 1, MOVES: state[MOVES] + self.draws, LOSS: mean_loss, DEVIATION: wandered}
        return Estimate(torch.stack(losses).mean(), gradients, inputs), later

    def _moved(self, deviation: Tensor, z: Tensor, moves: int) -> Tensor:
        """The deviation after one more move; the first one is drawn from the stationary distribution."""
        if moves == 0:
            return self.fluctuation * z
        return self.memory * deviation + math.sqrt(1 - self.memory**2) * self.fluctuation * z

    def terms(self, in_time: bool) -> list[str]:
        return [f"fluctuation {self.fluctuation:g}", f"reversion {self.reversion:g}"]
