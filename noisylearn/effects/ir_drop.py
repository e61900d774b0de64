"""Voltage that is lost along the wires of a tile."""

from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Product, Setting, Site, State
from noisylearn.ground.draws import StreamOf
from noisylearn.ground.quantities import Conductance


class IrDrop(Effect):
    """Loss of voltage along the wires of a tile, for n inputs in their order.

        y_i -> y_i - scale c_i sum_j w_ij x_j (1 - (1 - j / n)^2)
        c = 0.5 a - 0.2 a^2 + 0.05 a^3,   a_i = n R_wire G_device sum_j |w_ij| |x_j|

    An approximation of the solution of the resistor network. Costs two more products.

    Args:
        scale: factor on the loss.
        wire_resistance_ohm: R_wire, of the wire between two neighbouring devices, in ohms.
        device_conductance_us: G_device, of a device at full scale, in microsiemens.
    """

    site: ClassVar[Site] = "output"
    lifetime: ClassVar[Lifetime] = "device"

    kind: Literal["ir-drop"] = "ir-drop"
    scale: float = Field(ge=1e-6, le=100)
    wire_resistance_ohm: float = Field(ge=1e-9, le=1e9)
    device_conductance_us: Conductance

    @model_validator(mode="after")
    def _wires_conduct(self) -> "IrDrop":
        """Check that a wire conducts better than a device."""
        if self.wire_resistance_ohm * self.device_conductance_us * 1e-6 > 1:
            raise ValueError(
                f"wire_resistance_ohm = {self.wire_resistance_ohm:g} is more than that of a device of "
                f"{self.device_conductance_us:g} uS; check the units"
            )
        return self

    def carry(self, product: Product, setting: Setting, draw: StreamOf, state: State) -> None:
        """Subtract the loss from the products."""
        product.mean = product.mean - self.drop(product)

    def drop(self, product: Product) -> Tensor:
        """What is lost of every product.

        Args:
            product: products with their inputs and weights.

        Returns:
            Loss (tiles, samples, columns), in units of one full-scale product.
        """
        n = product.inputs.shape[2]
        load = torch.bmm(product.inputs.abs(), product.weights.abs())
        a = load * (n * self.wire_resistance_ohm * self.device_conductance_us * 1e-6)
        place = torch.arange(n, dtype=load.dtype, device=load.device) / n
        far = torch.bmm(product.inputs * (1 - (1 - place) ** 2), product.weights)
        return self.scale * a * (a * (0.05 * a - 0.2) + 0.5) * far
