"""Recurrent networks, run step by step: forward(x_t, state) -> (y_t, state)."""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from noisylearn.networks.decorrelation import Decorrelation
from noisylearn.networks.feedforward import Activation, activation_type, hidden_sizes, seeded
from noisylearn.networks.read_afterwards import ReadAfterwards

State = tuple[Float[Tensor, "batch _"], ...]


class RNN(ReadAfterwards):
    """A recurrent network, [RNN] section 2: x_t = f(A u_t + R x*_{t-1}), x*_t = D x_t, y_t = B x*_t.

    n_hidden: units of the hidden layer, or of several, each fed by the x*_t of the one below.  activation: f.
    decorrelation_rate: of the D of every hidden layer; 0 for none (x* = x).  bias: off, as in the paper.
    A and R are one Linear layer, hidden1, hidden2, ..., over (u_t, x*_{t-1}): one pre-activation, one noise.
    forward(u_t, state) takes (batch, n_in) and the tuple of x*_{t-1} of all hidden layers, or None for zeros.
    Initialised by torch's defaults from `seed`; the global random state is left alone.
    """

    def __init__(
        self,
        n_in: int,
        n_hidden: int | Sequence[int],
        n_out: int,
        activation: Activation = "tanh",
        decorrelation_rate: float = 0.0,
        bias: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        sizes = hidden_sizes(n_hidden)
        self.sizes = sizes
        self.activation = activation_type(activation)()
        with seeded(seed):
            for i, (fan_in, size) in enumerate(zip([n_in, *sizes], sizes, strict=False), start=1):
                self.add_module(f"hidden{i}", nn.Linear(fan_in + size, size, bias=bias))
                if decorrelation_rate:
                    above = f"hidden{i + 1}" if i < len(sizes) else "readout"
                    self.add_module(f"decorrelation{i}", Decorrelation(size, decorrelation_rate, before=above))
            self.readout = nn.Linear(sizes[-1], n_out, bias=bias)
        self._decorrelates = bool(decorrelation_rate)

    def hidden(
        self, x: Float[Tensor, "batch n_in"], state: State | None = None
    ) -> tuple[Float[Tensor, "batch n_hidden"], State]:
        if state is None:
            state = tuple(x.new_zeros(len(x), size) for size in self.sizes)
        layers = cast(dict[str, nn.Module], self._modules)  # an attribute takes three times as long
        below, new = x, []
        for i, before in enumerate(state, start=1):
            below = self.activation(layers[f"hidden{i}"](torch.cat([below, before], 1)))
            if self._decorrelates:
                below = layers[f"decorrelation{i}"](below)
            new.append(below)
        return below, tuple(new)

    def read(self, hidden: Float[Tensor, "rows n_hidden"]) -> Float[Tensor, "rows n_out"]:
        outputs: Tensor = self.readout(hidden)
        return outputs
