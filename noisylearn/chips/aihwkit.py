"""Analog tiles of IBM's Analog Hardware Acceleration Kit (aihwkit), used in place of hardware."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from noisylearn.chips.interface import Seen
from noisylearn.ground.errors import UserError


class AihwkitTiles:
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
        UserError: the kit is not installed.

    Source:
        Rasch et al., IEEE AICAS 2021, arXiv:2104.02184.
    """

    def __init__(self, model: nn.Module, rpu_config: Any, drift_s: float | None = None) -> None:
        self._drift_s = drift_s
        self._readings: dict[str, tuple[Tensor, Tensor]] = {}
        self.network = _kit().convert_to_analog(model, rpu_config).eval()
        self._tiled = {name: layer for name, layer in self.network.named_modules() if hasattr(layer, "analog_module")}
        self._digital = {
            **dict(self.network.named_buffers()),
            **{name: value for name, value in self.network.named_parameters() if value.numel()},
        }
        self._is_inference = hasattr(rpu_config, "noise_model")
        for name, layer in self._tiled.items():
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
    def program(self, state: Mapping[str, Tensor]) -> None:
        """Write weights to the tiles, and what is digital (decorrelations) into the copy.

        Args:
            state: parameters and buffers of the model, by name.
        """
        for name, layer in self._tiled.items():
            layer.set_weights(state[f"{name}.weight"], state.get(f"{name}.bias"))
            if self._is_inference:
                layer.program_analog_weights()
                if self._drift_s is not None:
                    layer.drift_analog_weights(self._drift_s)
        for name, value in self._digital.items():
            if name in state:
                value.copy_(state[name])

    def _read(self, name: str, inputs: Tensor, output: Tensor) -> None:
        self._readings[name] = inputs.detach(), output.detach()


def _kit() -> Any:
    try:
        from aihwkit.nn import conversion
    except ImportError as error:
        raise UserError(
            f"aihwkit is not installed here ({error}); install it with: pip install aihwkit (it may need a C++ "
            "compiler and a BLAS library)"
        ) from None
    return conversion
