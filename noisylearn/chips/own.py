"""A chip that is not simulated here: hardware on a bench, or another simulator, behind two methods."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from noisylearn.chips.crossbar import Digital
from noisylearn.chips.execution.runner import PassRunner, check_samples
from noisylearn.chips.readings import LayerReading, Plan, Readings
from noisylearn.ground.draws import Draws
from noisylearn.ground.errors import UserError
from noisylearn.networks.layers import weight_layers
from noisylearn.profiles import Observable

SILENT_STEPS = 5  # of one sample and coarse codes, some steps are silent on a noisy machine


class SilentChipWarning(UserWarning):
    """Passes of a machine that do not differ, so that there is nothing to learn from."""


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
    missing, not finite, or has not the shape that the layer gives.
    """

    def __init__(self, model: nn.Module, hardware: Hardware, name: str = "own chip") -> None:
        self.model, self.hardware = model, hardware
        if missing := [method for method in ("forward", "program") if not callable(getattr(hardware, method, None))]:
            raise UserError(f"chip '{name}': {type(hardware).__name__} has no method {' and no '.join(missing)}")
        self.profile = Offer(name)
        self.layers = weight_layers(model)
        self._runner = PassRunner(model, Draws(0))
        self._silent_steps = 0
        self.program()

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Output (batch, ...) of one noisy pass."""
        return self._one_pass(x)[0]

    @torch.no_grad()
    def passes(self, x: Tensor, plan: Plan, purpose: str = "pass") -> Readings:
        """As many passes as the plan has over the samples x (batch, ...), with what was read in them."""
        check_samples(x)
        runs = [self._one_pass(x) for _ in range(plan.n_passes)]
        layers = {}
        for name, layer in self.layers.items():
            inputs, activity = (torch.stack([read[name][i] for _, read in runs]) for i in (0, 1))
            layers[name] = LayerReading(layer, inputs, activity)
        if plan.n_passes > 1:
            self._warn_of_silence(layers)
        return Readings(torch.stack([output for output, _ in runs]), layers, last=next(reversed(layers)))

    def _warn_of_silence(self, layers: Mapping[str, LayerReading]) -> None:
        silent = all(bool((reading.activity == reading.activity[:1]).all()) for reading in layers.values())
        self._silent_steps = self._silent_steps + 1 if silent else 0
        if self._silent_steps == SILENT_STEPS:
            warnings.warn(
                f"chip '{self.profile.name}': all passes of {SILENT_STEPS} steps in a row read the same "
                "pre-activations, to the last bit: without noise nothing is learned; is it switched off, too small for "
                "the converters, or does the driver give an earlier reading again?",
                SilentChipWarning,
                stacklevel=4,
            )

    def _one_pass(self, x: Tensor) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
        """Output and readings of one pass, copied: a driver may use its buffers again for the next."""
        answer = self.hardware.forward(x)
        if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], Mapping)):
            raise UserError(
                f"chip '{self.profile.name}': forward has to return (output, readings by layer), not "
                f"{type(answer).__name__}"
            )
        output, read = answer
        found = {}
        for name, layer in self.layers.items():
            if name not in read:
                names = ", ".join(read) or "none"
                raise UserError(f"chip '{self.profile.name}' gave no reading of layer '{name}'; it gave: {names}")
            n_outputs, n_inputs = layer.weight.shape[:2]
            channels = n_inputs * getattr(layer, "groups", 1)
            entered, left = read[name]
            found[name] = self._checked(name, entered, len(x), channels), self._checked(name, left, len(x), n_outputs)
        return torch.as_tensor(output).to(next(self.model.parameters()), copy=True), found

    def _checked(self, name: str, values: Tensor, n_samples: int, n_units: int) -> Tensor:
        """A copy of what was read at one side of a layer, in the layer's own precision."""
        layer, who = self.layers[name], f"chip '{self.profile.name}': layer '{name}'"
        copied = torch.as_tensor(values).to(layer.weight, copy=True)
        if len(copied) != n_samples:
            raise UserError(f"{who} was read for {len(copied)} samples, not {n_samples}")
        units = copied.shape[-1 if isinstance(layer, nn.Linear) else 1]
        if units != n_units:
            raise UserError(f"{who} was read with {units} units where it has {n_units}: (input, pre-activation) is due")
        if not bool(torch.isfinite(copied).all()):
            raise UserError(f"{who}: a reading is not finite")
        return copied

    def digital_pass(self, x: Tensor, on_devices: bool = False) -> Readings:
        """One pass of the host's model that autograd can go back through. Raises UserError for `on_devices`."""
        if on_devices:
            raise UserError(f"chip '{self.profile.name}' has no weights that the host could differentiate: use BP()")
        placed = {name: Digital(layer) for name, layer in self.layers.items()}
        return self._runner.run(placed, x, Plan(((False,) * len(placed),)), "digital")

    def program(self) -> None:
        """Send the model's present parameters and buffers to the chip."""
        self.hardware.program({name: value.detach() for name, value in self.model.state_dict().items()})
