"""The transfer functions of a model's neurons, found at the first step that asks for them."""

import torch
from torch import nn

from noisylearn.chips.execution.calls import one_sample_each, step_by_step
from noisylearn.chips.execution.purity import two_samples
from noisylearn.chips.segments import Segment
from noisylearn.networks.layers import weight_layers
from noisylearn.networks.transfer import Transfer, transfer_functions


class Transfers:
    """Finds and keeps the function x = f(a) after every weight layer of a model.

    Args:
        model: the network.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._found: dict[str, Transfer] | None = None

    @torch.no_grad()
    def of(self, segment: Segment) -> dict[str, Transfer]:
        """The functions by layer; see `noisylearn.networks.transfer.transfer_functions`.

        Args:
            segment: inputs that the model takes.
        """
        if self._found is None:
            step = step_by_step(self._model) if segment.in_time else one_sample_each(self._model)
            x = two_samples(segment.inputs[0])
            self._found = transfer_functions(weight_layers(self._model), lambda: step(x, None))
        return self._found
