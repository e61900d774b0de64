"""Backpropagation: the reference that every table shows."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from noisylearn.chips.interface import AnyChip, Memory
from noisylearn.chips.readings import Readings
from noisylearn.ground.errors import UserError
from noisylearn.profiles import HardwareProfile
from noisylearn.rules.base import Rule, updates_in_words
from noisylearn.rules.estimate import Estimate
from noisylearn.rules.in_time import UPDATE_HELP, InTime, Update
from noisylearn.rules.observation import Observation

Forward = Literal["digital", "chip"]


@dataclass(frozen=True, kw_only=True)
class BP(Rule):
    """Exact gradients by autograd, off the chip.

    forward: "digital" trains the digital model, to be programmed onto the chip afterwards; "chip" takes the forward
    pass from the devices with their noise and the backward pass through the weights that were read there, as if
    the noise were constant (hardware-aware training with the chip in the loop).
    """

    name = "bp"
    title = "backpropagation (autograd, off the chip)"
    equation = "g_l = dL/da_l"
    source = "[ANP] eq. 1"
    perturbs = False
    instead_in_time = "bptt, or tbptt<k> for k steps back at most"
    unbiased = "deep"
    scale_free = True

    forward: Forward = field(
        default="digital", metadata={"help": "BP's forward pass: digital, or chip (hardware-aware)."}
    )

    def __post_init__(self) -> None:
        if self.forward not in get_args(Forward):
            raise UserError(f"rule bp: forward '{self.forward}'; choose {', '.join(get_args(Forward))}")

    def step(self, state: Memory, seen: Observation, layers: Collection[str]) -> tuple[Estimate, Memory]:
        with torch.enable_grad():
            readings, losses = seen.digital(on_devices=self.forward == "chip")
            return autograd_estimate(seen.chip, readings, losses, layers), state

    @property
    def distinction(self) -> str:
        return "chip in the loop" if self.forward == "chip" else "then programmed"

    @classmethod
    def settled(cls, recipe: Mapping[str, Any], stated: Mapping[str, Any], profile: HardwareProfile) -> dict[str, Any]:
        """On devices that keep what pulses leave there is no digital model to train first."""
        return ({} if profile.in_place is None else {"forward": "chip"}) | super().settled(recipe, stated, profile)

    @property
    def on_chip(self) -> bool:
        return self.forward == "chip"

    def forward_passes(self, n_layers: int) -> int:
        return 1

    def backward_passes(self) -> int:
        return 1


@dataclass(frozen=True, kw_only=True)
class BPTT(BP):
    """Exact gradients by autograd through all steps of a sequence, or through `truncate` steps at most.

    truncate: the state is cut off its past before step 0, k, 2k, ...: of one step every loss sees its own step alone.
    update: "online" steps the optimizer after every k steps, on the sum of their losses, and needs truncate.
    """

    name = "bptt"
    title = "backpropagation through time (autograd, off the chip)"
    equation = "g_t = sum_{s >= t} dl_s/da_t, s in the same segment of k steps where truncated"
    source = "Werbos, Proceedings of the IEEE 78, 1990; Williams and Peng, Neural Computation 2, 1990"

    stands_alone = False  # without time it is BP
    instead_in_time, instead_without_time = "", "bp"
    other_labels = ("tbptt<k>",)
    tried: ClassVar[Mapping[str, tuple[Any, ...]]] = {"truncate": (1, 3)}

    truncate: int | None = field(
        default=None, metadata={"help": "Steps that gradients go back at most.", "in_label": True}
    )
    update: Update = field(default="sequence", metadata={"help": UPDATE_HELP})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.in_time()

    def in_time(self) -> InTime:
        if self.update == "online" and self.truncate is None:
            raise UserError('rule bptt: update="online" needs truncate=k, a number of steps')
        return InTime(update=self.update, truncate=self.truncate)

    @property
    def label(self) -> str:
        return self.name if self.truncate is None else f"t{self.name}{self.truncate}"

    @classmethod
    def from_label(cls, label: str) -> dict[str, Any] | None:
        truncated = re.fullmatch(rf"t{cls.name}(\d+)", label)
        return {"truncate": int(truncated[1])} if truncated else super().from_label(label)

    @classmethod
    def idle(cls, options: Mapping[str, Any], in_time: bool) -> dict[str, str]:
        return {} if options.get("truncate") else {"update": f"has no effect on rule {cls.name}"}

    def terms(self, in_time: bool) -> list[str]:
        return [updates_in_words(self.update)] if in_time else []


def autograd_estimate(chip: AnyChip, readings: Readings, losses: Tensor, layers: Collection[str]) -> Estimate:
    """Gradients of the mean of `losses` (batch,) with respect to the digital parameters of the named layers.

    Frozen parameters have none.
    """
    named = ((name, key, p) for name in layers for key, p in chip.layers[name].named_parameters())
    parameters = {(name, key): p for name, key, p in named if p.requires_grad}
    found = torch.autograd.grad(losses.mean(), list(parameters.values()), materialize_grads=True)
    gradients: dict[str, dict[str, Tensor]] = {name: {} for name in layers}
    for (name, key), gradient in zip(parameters, found, strict=True):
        gradients[name][key] = gradient
    inputs = {name: reading.input[0].detach() for name, reading in readings.layers.items()}
    return Estimate(losses.detach().mean(), gradients, inputs)
