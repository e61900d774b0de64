"""A network whose weight layers another simulator computes, as hardware for `OwnChip`."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from noisylearn.chips.interface import Seen


class ConvertedNetwork:
    """A copy of a network in which a simulator's layers stand in place of its own; everything else runs digitally.

    Args:
        network: the copy; set to evaluation mode.
        layers: the simulator's layers in it, by name.
    """

    def __init__(self, network: nn.Module, layers: Mapping[str, Any]) -> None:
        self.network, self.layers = network.eval(), layers
        self._readings: dict[str, tuple[Tensor, Tensor]] = {}
        for name, layer in layers.items():
            layer.register_forward_hook(lambda _, args, output, name=name: self._read(name, args[0], output))

    @torch.no_grad()
    def forward(self, x: Float[Tensor, "batch ..."]) -> tuple[Float[Tensor, "batch ..."], Seen]:
        """One noisy pass.

        Args:
            x: samples (batch, ...).

        Returns:
            The output, and by layer its input and its pre-activation.
        """
        return self.network(x), dict(self._readings)

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Copy what has the name of a parameter or buffer of the copy (decorrelations, digital biases) into it.

        Args:
            state: parameters and buffers of the model, by name.
        """
        own = {**dict(self.network.named_buffers()), **dict(self.network.named_parameters())}
        for name, value in own.items():
            if name in state and value.numel():
                value.copy_(state[name])

    def _read(self, name: str, inputs: Tensor, output: Tensor) -> None:
        self._readings[name] = inputs.detach(), output.detach()
