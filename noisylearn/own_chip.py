"""A chip that is not simulated here: hardware on a bench, or another simulator, behind two methods."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from noisylearn.crossbar import Digital
from noisylearn.draws import Draws
from noisylearn.errors import UserError
from noisylearn.layers import weight_layers
from noisylearn.passes import LayerReading, PassRunner, Plan, Readings
from noisylearn.profiles import Observable


class Hardware(Protocol):
    """What a chip of one's own has to offer."""

    def forward(self, x: Tensor) -> tuple[Tensor, Mapping[str, tuple[Tensor, Tensor]]]:
        """One noisy pass over samples x (batch, ...): the output, and by layer its input and its pre-activation."""
        ...

    def program(self, state: Mapping[str, Tensor]) -> None:
        """Bring these parameters and buffers of the model, by name as in its state_dict, onto the chip."""
        ...


@dataclass(frozen=True)
class Offer:
    """What a rule may expect of a machine: its name, what can be seen of it, and whether passes differ by noise."""

    name: str
    observable: tuple[Observable, ...] = ("loss", "input", "activity")
    is_noisy: bool = True


class OwnChip:
    """A model on hardware of one's own, in the place of `Chip`: rules that need no knowledge of the noise work on it.

    model: the network on the host, whose weight layers have the names that `hardware.forward` reports; its parameters
    are the digital copy that `program` sends.  name: for messages.
    Every pass is one call of `hardware.forward`; a clean pass is not asked for. Raises UserError for a reading that is
    missing, or has not the shape that the layer gives.
    """

    def __init__(self, model: nn.Module, hardware: Hardware, name: str = "own chip") -> None:
        self.model, self.hardware = model, hardware
        self.profile = Offer(name)
        self.layers = weight_layers(model)
        self._runner = PassRunner(model, Draws(0))
        self.program()

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Output (batch, ...) of one noisy pass."""
        return self.hardware.forward(x)[0]

    @torch.no_grad()
    def passes(self, x: Tensor, plan: Plan, purpose: str = "pass") -> Readings:
        """As many passes as the plan has over the samples x (batch, ...), with what was read in them."""
        runs = [self.hardware.forward(x) for _ in range(plan.n_passes)]
        output = torch.stack([run[0] for run in runs])
        layers = {}
        for name, layer in self.layers.items():
            if missing := [run for run in runs if name not in run[1]]:
                found = ", ".join(missing[0][1]) or "none"
                raise UserError(f"chip '{self.profile.name}' gave no reading of layer '{name}'; it gave: {found}")
            inputs, activity = (torch.stack([run[1][name][i] for run in runs]) for i in (0, 1))
            if len(inputs[0]) != len(x) or len(activity[0]) != len(x):
                raise UserError(
                    f"chip '{self.profile.name}': layer '{name}' was read for {len(activity[0])} samples, not {len(x)}"
                )
            layers[name] = LayerReading(layer, inputs, activity)
        return Readings(output, layers, last=next(reversed(layers)))

    def digital_pass(self, x: Tensor, on_devices: bool = False) -> Readings:
        """One pass of the host's model that autograd can go back through. Raises UserError for `on_devices`."""
        if on_devices:
            raise UserError(f"chip '{self.profile.name}' has no weights that the host could differentiate: use BP()")
        placed = {name: Digital(layer) for name, layer in self.layers.items()}
        return self._runner.run(placed, x, Plan(((False,) * len(placed),)), "digital")

    def program(self) -> None:
        """Send the model's present parameters and buffers to the chip."""
        self.hardware.program({name: value.detach() for name, value in self.model.state_dict().items()})
