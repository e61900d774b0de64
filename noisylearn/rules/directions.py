"""Random directions of a rule's own, made again from seed and step wherever they are needed, and never kept."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from noisylearn.chips.interface import AnyChip, Memory
from noisylearn.ground.draws import Draws
from noisylearn.rules.observation import Observation

Directions = Literal["rademacher", "gaussian"]
OWN = "rule"  # first part of the names of streams that rules draw from
STEPS = "steps"  # of a state: how many estimates were made


@dataclass(frozen=True)
class StepDraws:
    """Random numbers of one step of a rule: the same ones whenever they are asked for.

    Args:
        draws: gives the seed: that of the chip, 0 for hardware.
        rule: name of the rule.
        purpose: of the passes, so that looking at an estimate draws other numbers than training.
        step: number of the estimate.
    """

    draws: Draws
    rule: str
    purpose: str
    step: int

    @classmethod
    def of(cls, rule: str, state: Memory, seen: Observation) -> "StepDraws":
        """The draws of the step after those that a state has counted.

        Args:
            rule: name of the rule.
            state: with the number of steps.
            seen: tells chip and purpose.
        """
        return cls(_draws(seen.chip), rule, seen.purpose, int(state[STEPS]))

    def normal(self, name: str, like: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Independent numbers ~ N(0, 1).

        Args:
            name: of what is drawn; another name gives other numbers.
            like: gives shape, kind and device.
        """
        return self.direction("gaussian", name, like)

    def direction(self, kind: Directions, name: str, like: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Independent numbers of mean 0 and variance 1.

        Args:
            kind: "gaussian", N(0, 1); "rademacher", +1 or -1 with equal probability.
            name: of what is drawn; another name gives other numbers.
            like: gives shape, kind and device.
        """
        draws, stream = self.draws.anew(), (OWN, self.rule, self.purpose, f"step {self.step}", name)
        if kind == "gaussian":
            return draws.normal(stream, tuple(like.shape)).to(like)
        signs = draws.uniform(stream, tuple(like.shape)) < 0.5
        return torch.where(signs, -1.0, 1.0).to(like)


def start() -> Memory:
    """What a rule with directions of its own remembers before its first step."""
    return {STEPS: torch.tensor(0)}


def _draws(chip: AnyChip) -> Draws:
    """Streams of the chip; hardware has none, and gets those of seed 0."""
    found = getattr(chip, "draws", None)
    return found if isinstance(found, Draws) else Draws(0, next(iter(chip.layers.values())).weight.device)
