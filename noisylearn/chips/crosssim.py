"""Analog cores of Sandia's CrossSim, used in place of hardware."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from noisylearn.chips.converted import ConvertedNetwork
from noisylearn.ground.errors import UserError


class CrossSimCores(ConvertedNetwork):
    """A network on the cores of CrossSim: `OwnChip(model, CrossSimCores(model, parameters))` trains it.

    Every pass is a forward of the kit in evaluation mode; every `program` sets the matrices of its cores anew, with
    new programming errors. Biases are digital. CrossSim draws from numpy's global generator: `np.random.seed` sets it.

    Args:
        model: the network on the host; a copy of its Linear and Conv layers is placed on cores, and everything else
            stays digital.
        parameters: CrossSimParameters of all cores, or a list with those of each layer.

    Raises:
        UserError: the kit is not installed.

    Source:
        Xiao et al., CrossSim: accuracy simulation of analog in-memory computing, https://github.com/sandialabs/cross-sim
    """

    def __init__(self, model: nn.Module, parameters: Any) -> None:
        network = _kit().from_torch(model, parameters)
        super().__init__(network, {n: layer for n, layer in network.named_modules() if hasattr(layer, "core")})

    @torch.no_grad()
    def program(self, state: Mapping[str, Tensor]) -> None:
        """Write weights to the cores, and what is digital (biases, decorrelations) into the copy.

        Args:
            state: parameters and buffers of the model, by name.
        """
        self.load(state)
        _kit().synchronize(self.network)


def _kit() -> Any:
    try:
        from simulator.algorithms.dnn.torch import convert
    except ImportError as error:
        raise UserError(
            f"CrossSim is not installed here ({error}); get it from https://github.com/sandialabs/cross-sim, and say "
            "pip install . in it (it is on no index)"
        ) from None
    return convert
