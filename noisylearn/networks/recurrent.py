"""Recurrent networks that run step by step: forward(x_t, state) -> (y_t, state)."""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from noisylearn.networks.decorrelation import Decorrelation
from noisylearn.networks.feedforward import Activation, activation_type, hidden_sizes, seeded
from noisylearn.networks.read_afterwards import ReadAfterwards, has_hooks

State = tuple[Float[Tensor, "batch _"], ...]
HIDDEN = "hidden1"  # the first hidden layer


class RNN(ReadAfterwards):
    """A recurrent network with one or several hidden layers and a linear readout.

        x_t = f(A u_t + R x*_{t-1}),   x*_t = D x_t,   y_t = B x*_t

    A and R are one Linear layer over (u_t, x*_{t-1}), named hidden1, hidden2, ...: one pre-activation, with one noise.
    The state is the tuple of x*_t of all hidden layers, zeros at the start. Torch's defaults initialise the weights.

    Args:
        n_in: size of u_t.
        n_hidden: units of the hidden layer, or of several, each of which takes the x*_t of the one below as its input.
        n_out: size of y_t.
        activation: f.
        decorrelation_rate: learning rate of every hidden layer's D; 0 for no decorrelation (x* = x).
        bias: whether hidden layers and readout have biases; the paper's have none.
        seed: of the initial weights; torch's global generator is not used.

    Raises:
        UserError: the activation is unknown, or there is no hidden layer, or one without units.

    Source:
        [RNN] section 2.
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
        """Run one step of the hidden layers.

        Args:
            x: u_t.
            state: x*_{t-1} of every hidden layer; None for zeros.

        Returns:
            x*_t of the last hidden layer, and the new state.
        """
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
        """Read the outputs y = B x*.

        Args:
            hidden: x* of the last hidden layer, for any number of samples and steps.

        Returns:
            y of every row.
        """
        outputs: Tensor = self.readout(hidden)
        return outputs


def is_one_tanh_layer(model: nn.Module) -> bool:
    """Whether a network is an `RNN` with one hidden layer, of tanh units, and nothing but the readout beside it.

    Args:
        model: any network. With a decorrelation, with hooks or with a forward of its own it is none.
    """
    if type(model) is not RNN or len(model.sizes) > 1 or model._decorrelates:
        return False
    is_tanh = type(model.activation) is nn.Tanh
    return is_tanh and not any(has_hooks(module) or "forward" in vars(module) for module in model.modules())
