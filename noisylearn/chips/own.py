"""A chip that is not simulated here: hardware, or another simulator, behind two methods."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from noisylearn.chips.crossbar import Digital
from noisylearn.chips.execution.executor import StackedExecutor
from noisylearn.chips.execution.transfer import Transfers
from noisylearn.chips.interface import Hardware, Memory, Placed
from noisylearn.chips.readings import LayerReading, Plan, Readings
from noisylearn.chips.segments import START, Segment, Trajectory, as_segment
from noisylearn.chips.shown import LAYER_COLUMNS, layer_cells
from noisylearn.ground.draws import Draws
from noisylearn.ground.errors import UserError
from noisylearn.ground.table import Shown, Table
from noisylearn.networks.layers import weight_layers
from noisylearn.networks.transfer import Transfer
from noisylearn.profiles import Observable

_Seen = tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]  # output, and by layer its input and pre-activation
SILENT_STEPS = 5  # of one sample and coarse codes, some steps are silent on a noisy machine


class SilentChipWarning(UserWarning):
    """Passes of a machine do not differ, so that there is nothing to learn from."""


@dataclass(frozen=True)
class Offer:
    """What a rule may expect of a machine.

    Args:
        name: for messages.
        shown: what can be observed of a pass.
        is_noisy: whether two passes of the same sample differ.
    """

    name: str
    shown: tuple[Observable, ...] = ("loss", "output", "error", "input", "activity")
    is_noisy: bool = True


class OwnChip(Shown):
    """A model on hardware of one's own, in place of `Chip`: rules that need no knowledge of the noise work on it.

    Every pass is one call of `hardware.forward`; along sequences every step of a pass is one call of `hardware.step`,
    the passes of a step after each other. A pass without noise is never asked for.

    Args:
        model: the network on the host, whose weight layers have the names that the driver reports; its parameters are
            the digital copy that `program` sends.
        hardware: the driver.
        name: for messages.
        shown: what can be observed of a pass; without "output" and "error" the outputs serve the losses alone.

    Raises:
        UserError: the driver lacks a method, or a reading is missing, not finite, or does not have the shape that the
            layer gives.
    """

    def __init__(
        self,
        model: nn.Module,
        hardware: Hardware,
        name: str = "own chip",
        shown: tuple[Observable, ...] = Offer.shown,
    ) -> None:
        self.model, self.hardware = model, hardware
        if missing := [method for method in ("forward", "program") if not callable(getattr(hardware, method, None))]:
            raise UserError(f"chip '{name}': {type(hardware).__name__} has no method {' and no '.join(missing)}")
        self.profile = Offer(name, shown)
        self.layers = weight_layers(model)
        self.memories: dict[str, Memory] = {}
        self._digital: Placed = {n: Digital(layer) for n, layer in self.layers.items()}
        self._digital_executor = StackedExecutor(model, Draws(0))
        self._transfers = Transfers(model)
        self._silent_steps = 0
        self.program()

    def __repr__(self) -> str:
        return f"<OwnChip {self.profile.name}: {', '.join(self.layers)}>"

    def tables(self) -> list[Table]:
        """What drives the machine, and the layers on it."""
        facts = [["driver", type(self.hardware).__name__], ["observable", ", ".join(self.profile.shown)]]
        rows = [layer_cells(name, layer) for name, layer in self.layers.items()]
        return [Table(f"chip {self.profile.name}", ["", ""], facts), Table("layers", LAYER_COLUMNS, rows)]

    @torch.no_grad()
    def __call__(self, x: Shaped[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """Output of one noisy pass.

        Args:
            x: samples (batch, ...).

        Returns:
            (batch, ...).
        """
        return self._one_step(as_segment(x).inputs[0], False, None)[0][0]

    @torch.no_grad()
    def follow(self, x: Shaped[Tensor, "time batch ..."] | Segment) -> Float[Tensor, "time batch ..."]:
        """Outputs of one noisy pass along sequences.

        Args:
            x: sequences (time, batch, ...), or a segment.

        Returns:
            (time, batch, ...).
        """
        segment = as_segment(x if isinstance(x, Segment) else Segment(x, in_time=True))
        readings = self.passes(segment, Plan(((True,) * len(self.layers),)))
        return readings.output[0].unflatten(0, segment.inputs.shape[:2])

    @torch.no_grad()
    def passes(self, x: Shaped[Tensor, "batch ..."] | Segment, plan: Plan, purpose: str = "pass") -> Readings:
        """As many passes as the plan has, with what was read in them.

        Args:
            x: samples (batch, ...), or a segment.
            plan: its number of passes counts; the machine's noise is in all of them.
            purpose: unused.

        Returns:
            What was observed of the passes.
        """
        segment = as_segment(x)
        states = segment.start.network or [None] * plan.n_passes
        steps = []
        for x_t in segment.inputs:
            passes = [self._one_step(x_t, segment.in_time, state) for state in states]
            steps.append([seen for seen, _ in passes])
            states = [after for _, after in passes]
        layers = {}
        for name, layer in self.layers.items():
            inputs, activity = (_merged([[read[name][side] for _, read in step] for step in steps]) for side in (0, 1))
            layers[name] = LayerReading(layer, inputs, activity)
        if plan.n_passes > 1:
            self._warn_of_silence(layers)
        output = _merged([[output for output, _ in step] for step in steps])
        end = Trajectory(states) if segment.in_time else START
        return Readings(output, layers, next(reversed(layers)), end)

    def _one_step(self, x: Tensor, in_time: bool, state: Any) -> tuple[_Seen, Any]:
        """What one pass showed in one step, and the state after it."""
        if not in_time:
            output, read = self._answer(self.hardware.forward(x), 2)
            return self._seen(output, read, len(x)), None
        step = getattr(self.hardware, "step", None)
        if not callable(step):
            raise UserError(
                f"chip '{self.profile.name}': {type(self.hardware).__name__} has no method step(x, state), which "
                "networks in time need"
            )
        output, read, after = self._answer(step(x, state), 3)
        return self._seen(output, read, len(x)), after

    def _answer(self, answer: Any, n_parts: int) -> Any:
        """What a driver returned, if it has the parts that it has to have."""
        if isinstance(answer, tuple) and len(answer) == n_parts and isinstance(answer[1], Mapping):
            return answer
        call = ("forward", "(output, readings by layer)") if n_parts == 2 else ("step", "(output, readings, state)")
        raise UserError(f"chip '{self.profile.name}': {call[0]} has to return {call[1]}, not {type(answer).__name__}")

    def _seen(self, output: Tensor, read: Mapping[str, tuple[Tensor, Tensor]], n_samples: int) -> _Seen:
        """Output and readings of one pass, copied: a driver may use its buffers again for the next."""
        found = {}
        for name, layer in self.layers.items():
            if name not in read:
                names = ", ".join(read) or "none"
                raise UserError(f"chip '{self.profile.name}' gave no reading of layer '{name}'; it gave: {names}")
            n_outputs, n_inputs = layer.weight.shape[:2]
            channels = n_inputs * getattr(layer, "groups", 1)
            entered, left = read[name]
            inputs = self._checked(name, entered, n_samples, channels)
            found[name] = inputs, self._checked(name, left, n_samples, n_outputs)
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

    def _warn_of_silence(self, layers: Mapping[str, LayerReading]) -> None:
        """Once, where passes were the same in several steps in a row."""
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

    def digital_pass(
        self, x: Shaped[Tensor, "batch ..."] | Segment, on_devices: bool = False, through: Placed | None = None
    ) -> Readings:
        """One differentiable pass of the host's model.

        Args:
            x: samples (batch, ...), or a segment.
            on_devices: False.
            through: what runs in place of the layers; None for their own parameters.

        Returns:
            Readings from which autograd leads to the parameters of the model, or through what runs in place of layers.

        Raises:
            UserError: `on_devices`, which hardware cannot serve.
        """
        if on_devices:
            raise UserError(f"chip '{self.profile.name}' has no weights that the host could differentiate: use BP()")
        plan = Plan(((False,) * len(self.layers),))
        return self._digital_executor.run(through or self._digital, as_segment(x), plan, "digital")

    def transfers(self, x: Shaped[Tensor, "batch ..."] | Segment) -> dict[str, Transfer]:
        """The function x = f(a) of the neurons after every layer of the host's model.

        Args:
            x: samples (batch, ...), or a segment, that the model takes.
        """
        return self._transfers.of(as_segment(x))

    def sent(self) -> dict[str, Float[Tensor, "_ ..."]]:
        """Layer name -> the host's weight, which every `program` sends; see `AnyChip.sent`."""
        return {name: layer.weight.detach() for name, layer in self.layers.items()}

    def program(self) -> None:
        """Send the model's present parameters and buffers to the chip."""
        self.hardware.program({name: value.detach() for name, value in self.model.state_dict().items()})


def _merged(steps: list[list[Tensor]]) -> Tensor:
    """Values (batch, ...) by step and pass as (passes, steps x batch, ...)."""
    return torch.stack([torch.cat(values) for values in zip(*steps, strict=True)])
