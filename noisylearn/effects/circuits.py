"""Fabrication, start and ageing of what is not programmed: neurons, converters, circuits around the devices."""

import torch
from torch import Tensor

from noisylearn.effects.base import Effect, Setting, State
from noisylearn.ground.draws import StreamOf

PLACE = "place"  # key of a state: the shape that the effect was fabricated in


def begin(effect: Effect, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> None:
    """Fabricate and start an effect, once.

    Args:
        effect: one of site "input", "node" or "output".
        value: gives the shape of what it acts on, without passes and samples.
        setting: what is known of the chip.
        draw: random numbers.
        state: what the circuits hold; filled in place if it is empty.
    """
    if PLACE in state:
        return
    zeros = torch.zeros_like(value)
    effect.fabricate(zeros, setting, draw, state)
    effect.start(zeros, setting, draw, state)
    state[PLACE] = torch.tensor(value.shape, dtype=torch.int64)


def elapse(effect: Effect, like: Tensor, setting: Setting, draw: StreamOf, state: State) -> None:
    """Bring an effect that has begun to the time of `setting`.

    Args:
        effect: one of site "input", "node" or "output".
        like: gives type and device of its numbers.
        setting: what is known of the chip, at the new time.
        draw: random numbers.
        state: what the circuits hold; updated in place.
    """
    if PLACE in state:
        effect.elapse(like.new_zeros(state[PLACE].tolist()), setting, draw, state)
