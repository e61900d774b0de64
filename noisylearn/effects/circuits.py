"""The life of what is not programmed: neurons, converters and other circuits around the devices."""

import torch
from torch import Tensor

from noisylearn.effects.base import Effect, Setting, State
from noisylearn.ground.draws import StreamOf

PLACE = "place"  # key of a state: the shape that the effect was fabricated in


def begin(effect: Effect, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> None:
    """Fabricate and start an effect, once; `value` gives the shape of what it acts on, without passes and samples."""
    if PLACE in state:
        return
    zeros = torch.zeros_like(value)
    effect.fabricate(zeros, setting, draw, state)
    effect.start(zeros, setting, draw, state)
    state[PLACE] = torch.tensor(value.shape, dtype=torch.int64)


def elapse(effect: Effect, like: Tensor, setting: Setting, draw: StreamOf, state: State) -> None:
    """Carry an effect that has begun to the moment of `setting`; `like` gives type and device of its numbers."""
    if PLACE in state:
        effect.elapse(like.new_zeros(state[PLACE].tolist()), setting, draw, state)
