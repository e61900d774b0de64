"""The global generators of torch, numpy and Python, for code of users that draws from them."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

States = tuple[Any, Any, Any]


class GlobalNumbers:
    """Random numbers of a seed, which code in a block draws from the global generators; outside, they are untouched.

    Args:
        seed: of all three generators, 32 bits.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._states: States | None = None

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """In this block the generators go on where they stood at the end of the block before."""
        before = _states()
        if self._states is None:
            torch.manual_seed(self.seed)
            np.random.seed(self.seed)
            random.seed(self.seed)
        else:
            _set(self._states)
        try:
            yield
        finally:
            self._states = _states()
            _set(before)


def _states() -> States:
    return torch.get_rng_state(), np.random.get_state(), random.getstate()


def _set(states: States) -> None:
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])
    random.setstate(states[2])
