"""Rules that write other weights to the chip for their passes, and write the weights back afterwards."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._pytree import tree_map

from noisylearn.chips.interface import AnyChip
from noisylearn.chips.readings import Plan, Readings
from noisylearn.profiles import Machine
from noisylearn.rules.base import DRAWS_HELP, Rule, draws_in_words
from noisylearn.rules.checks import check_count
from noisylearn.rules.in_time import InTime
from noisylearn.rules.observation import STILL, Observation, Trajectories

Name = tuple[str, str]  # of a layer, and of its parameter
MISSING_IN_PLACE = "weights that can be written for a pass and written back (pulses in place change them for good)"
TRAINING = "pass"  # purpose of the passes that a rule learns from


@dataclass(frozen=True, kw_only=True)
class WrittenPerturbation(Rule):
    """A rule that needs the loss alone, of passes with weights of its own choice.

    Args:
        draws: choices per batch; their estimates are averaged.

    Raises:
        UserError: it is not a whole number of at least 1.
    """

    observes = frozenset({"loss"})
    perturbs = False
    unbiased = "deep"
    scale_free = True
    tried: ClassVar[Mapping[str, tuple[Any, ...]]] = {"draws": (3,)}

    draws: int = field(default=1, metadata={"help": DRAWS_HELP})

    def __post_init__(self) -> None:
        check_count(self.name, draws=self.draws)

    @property
    def shares_draws(self) -> bool:
        return True

    def in_time(self) -> InTime:
        """Whole sequences, whose losses all depend on the one choice of weights."""
        return InTime("sequence")

    def missing(self, profile: Machine) -> list[str]:
        """What the profile lacks, in words."""
        in_place = getattr(profile, "in_place", None) is not None
        return [*super().missing(profile), *[MISSING_IN_PLACE] * in_place]

    @property
    def distinction(self) -> str:
        return draws_in_words(self.draws)


def parameters_of(chip: AnyChip, layers: Collection[str]) -> dict[Name, Tensor]:
    """Weights and biases of layers, without frozen ones.

    Args:
        chip: holds the layers.
        layers: their names.
    """
    named = ((name, key, getattr(chip.layers[name], key)) for name in layers for key in ("weight", "bias"))
    return {(name, key): p for name, key, p in named if p is not None and p.requires_grad}


@contextmanager
def written_back(seen: Observation, parameters: dict[Name, Tensor]) -> Iterator[dict[Name, Tensor]]:
    """Let a rule change parameters and program them; afterwards they are what they were, bit for bit, and programmed.

    What is programmed back has programming noise of its own, as on a real chip. Where an estimate is only looked at,
    devices and random streams of a simulated chip are put back as well.

    Args:
        seen: tells the chip, and whether it is training.
        parameters: those that may change.

    Yields:
        Copies of the parameters as they were.
    """
    state = getattr(seen.chip, "state", None)
    before = tree_map(torch.clone, state()) if callable(state) and seen.purpose != TRAINING else None
    kept = {name: p.detach().clone() for name, p in parameters.items()}
    try:
        yield kept
    finally:
        with torch.no_grad():
            for name, p in parameters.items():
                p.copy_(kept[name])
        if before is None:
            seen.chip.program()
        else:
            seen.chip.load_state(before)  # type: ignore[attr-defined]


def pass_now(seen: Observation) -> tuple[Readings, Float[Tensor, " rows"]]:
    """Program the model's present parameters and run a pass, without noise where that can be switched off.

    Args:
        seen: runs it, along whole sequences.

    Returns:
        Readings, and the weighted losses; their mean is the loss of the batch.
    """
    seen.chip.program()
    now = replace(seen, time=STILL, along=Trajectories())
    readings, losses = now.of(Plan(((False,) * len(seen.chip.layers),)))
    if seen.losses is None:
        seen.losses = now.losses
    return readings, losses[0]
