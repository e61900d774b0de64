"""Backpropagation, the reference in every table of results."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from noisylearn.chips.interface import AnyChip, Memory
from noisylearn.chips.readings import Readings
from noisylearn.ground.errors import UserError
from noisylearn.profiles import HardwareProfile
from noisylearn.rules.base import Rule
from noisylearn.rules.checks import check_choice, check_depends
from noisylearn.rules.estimate import Estimate
from noisylearn.rules.in_time import UPDATE_HELP, InTime, Update, updates_in_words
from noisylearn.rules.observation import Observation
from noisylearn.rules.sharing import Way

Forward = Literal["digital", "chip"]


@dataclass(frozen=True, kw_only=True)
class BP(Rule):
    """g_l = dL/da_l by autograd, off the chip.

    Args:
        forward: "digital" trains the digital model, which is programmed onto the chip afterwards. "chip" takes the
            forward pass from the devices with their noise, and the backward pass through the weights read there, with
            the noise held constant (hardware-aware training with the chip in the loop).
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
        default="digital", metadata={"help": "Forward pass of BP: digital, or chip (hardware-aware)."}
    )

    def __post_init__(self) -> None:
        check_choice(BP.name, "forward", self.forward, Forward)

    def step(self, state: Memory, seen: Observation, layers: Collection[str]) -> tuple[Estimate, Memory]:
        with torch.enable_grad():
            readings, losses = seen.digital(on_devices=self.forward == "chip")
            return autograd_estimate(seen.chip, readings, losses, layers), state

    @property
    def divides(self) -> frozenset[Way]:
        """By batch, where no noise of the chip enters: that of its digital passes has no streams by part."""
        return frozenset({"batch"} if self.forward == "digital" else ())

    @property
    def distinction(self) -> str:
        return "chip in the loop" if self.forward == "chip" else "then programmed"

    @classmethod
    def settled(cls, recipe: Mapping[str, Any], stated: Mapping[str, Any], profile: HardwareProfile) -> dict[str, Any]:
        """The options given; the forward pass is by default on the chip where weights exist in its devices alone."""
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
    """g_t = sum_{s >= t} dl_s/da_t by autograd, through all steps of a sequence or through `truncate` of them.

    Args:
        truncate: k: the state is detached from its past before steps 0, k, 2k, ...; None for all steps. With k = 1
            the gradient of every loss stays within its own step.
        update: "online": the optimizer steps after every k steps, on the sum of their losses; needs `truncate`.

    Raises:
        UserError: an option has a value that is not allowed.
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
        default=None, metadata={"help": "Largest number of steps that gradients go back.", "in_label": True}
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
        truncated = re.fullmatch(rf"t{cls.name}(\d{{1,9}})", label)
        return {"truncate": int(truncated[1])} if truncated else super().from_label(label)

    @classmethod
    def idle(cls, options: Mapping[str, Any], in_time: bool) -> dict[str, str]:
        return {} if options.get("truncate") else {"update": f"has no effect on rule {cls.name}"}

    def terms(self, in_time: bool) -> list[str]:
        return [updates_in_words(self.update)] if in_time else []


def autograd_estimate(
    chip: AnyChip, readings: Readings, losses: Float[Tensor, " rows"], layers: Collection[str]
) -> Estimate:
    """Gradients of the mean loss with respect to the digital parameters of the named layers.

    Args:
        chip: holds the layers.
        readings: of the digital pass that gave the losses.
        losses: of every row, with autograd's history.
        layers: names of those to differentiate by; parameters that are frozen have no gradient.

    Returns:
        Loss, gradients, and the inputs of all layers.

    Raises:
        UserError: the loss does not depend on the output.
    """
    named = ((name, key, p) for name in layers for key, p in chip.layers[name].named_parameters())
    parameters = {(name, key): p for name, key, p in named if p.requires_grad}
    check_depends(losses)
    found = torch.autograd.grad(losses.mean(), list(parameters.values()), materialize_grads=True)
    gradients: dict[str, dict[str, Tensor]] = {name: {} for name in layers}
    for (name, key), gradient in zip(parameters, found, strict=True):
        gradients[name][key] = gradient
    inputs = {name: reading.input[0].detach() for name, reading in readings.layers.items()}
    return Estimate(losses.detach().mean(), gradients, inputs)
