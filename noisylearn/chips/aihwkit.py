"""Analog tiles of IBM's Analog Hardware Acceleration Kit (aihwkit), used in place of hardware."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from noisylearn.chips.converted import ConvertedNetwork
from noisylearn.ground.errors import UserError


class AihwkitTiles(ConvertedNetwork):
    """A network on the tiles of aihwkit: `OwnChip(model, AihwkitTiles(model, rpu_config))` trains it.

    Every pass is a forward of the kit in evaluation mode, with its input and output converters and noise; every
    `program` sets the weights of the tiles, through the kit's programming noise where the configuration has a noise
    model for inference. Pulsed updates of the kit are not used.

    Args:
        model: the network on the host; a copy of its Linear and Conv layers is placed on tiles, and everything else
            stays digital.
        rpu_config: configuration of the tiles.
        drift_s: time since programming at which tiles with a noise model for inference are read, in seconds; None for
            no drift.

    Raises:
        UserError: the kit is not installed, or its compiled part does not go with this torch.

    Source:
        Rasch et al., IEEE AICAS 2021, arXiv:2104.02184.
    """

    def __init__(self, model: nn.Module, rpu_config: Any, drift_s: float | None = None) -> None:
        network = _converted(model, rpu_config)
        super().__init__(network, {n: layer for n, layer in network.named_modules() if hasattr(layer, "analog_module")})
        self._drift_s = drift_s
        self._is_inference = hasattr(rpu_config, "noise_model")

    @torch.no_grad()
    def program(self, state: Mapping[str, Tensor]) -> None:
        """Write weights to the tiles, and what is digital (decorrelations) into the copy.

        Args:
            state: parameters and buffers of the model, by name.
        """
        for name, layer in self.layers.items():
            layer.set_weights(state[f"{name}.weight"], state.get(f"{name}.bias"))
            if self._is_inference:
                layer.program_analog_weights()
                if self._drift_s is not None:
                    layer.drift_analog_weights(self._drift_s)
        self.load(state)


def _converted(model: nn.Module, rpu_config: Any) -> nn.Module:
    """A copy of the model on tiles."""
    try:
        from aihwkit.nn import conversion
    except ImportError as error:
        raise UserError(
            f"aihwkit is not installed here ({error}); install it with: pip install aihwkit (docs/other-simulators.md "
            "says for which Pythons it comes compiled)"
        ) from None
    try:
        return conversion.convert_to_analog(model, rpu_config)
    except RuntimeError as error:
        raise UserError(
            f"aihwkit cannot place the network ({str(error).splitlines()[0]}): its compiled part may be made for "
            f"another torch than {torch.__version__}; TorchInferenceRPUConfig does without that part"
        ) from None
