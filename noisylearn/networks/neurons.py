"""Spiking neurons of snntorch inside a model: their spread from device to device."""

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from noisylearn.effects import State
from noisylearn.ground.draws import StreamOf
from noisylearn.profiles.neuron_spread import NeuronSpread


class FiringWarning(UserWarning):
    """Spiking neurons that never fire, or at every step: nothing passes through them."""


SPREAD = ("alpha", "beta", "threshold")


def spiking_neurons(model: nn.Module) -> dict[str, nn.Module]:
    """Name -> module of every snntorch neuron in a model."""
    snntorch = sys.modules.get("snntorch")  # a model with such neurons has imported it
    if snntorch is None:
        return {}
    return {name: module for name, module in model.named_modules() if isinstance(module, snntorch.SpikingNeuron)}


@contextmanager
def watch_firing(neurons: Mapping[str, nn.Module]) -> Iterator[None]:
    """Warns, naming the neurons and a remedy, of modules that did not fire at all inside the block, or always did."""
    rates: dict[str, list[Tensor]] = {}

    def watch(name: str) -> Any:
        def after(module: nn.Module, args: Any, output: tuple[Tensor, ...]) -> None:
            rates.setdefault(name, []).append(output[0].detach().mean())

        return after

    firing = {name: module for name, module in neurons.items() if getattr(module, "reset_mechanism", "") != "none"}
    hooks = [module.register_forward_hook(watch(name)) for name, module in firing.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    for name, found in rates.items():
        rate = float(torch.stack(found).mean())
        remedy = {
            0.0: "never fired: lower their threshold, or raise the weights before them",
            1.0: "fired at every step: raise their threshold, or lower the weights before them",
        }.get(rate)
        if remedy is not None:
            warnings.warn(f"spiking neurons '{name}' {remedy}", FiringWarning, stacklevel=4)


class SpreadNeurons:
    """One module of neurons, each with its own decays and threshold: what runs in the place of its forward."""

    def __init__(self, module: nn.Module, spread: NeuronSpread, draw: StreamOf) -> None:
        self._module, self._spread, self._draw = module, spread, draw
        self.factors: State = {}

    def __call__(self, current: Float[Tensor, " batch *neurons"], *state: Any) -> Any:
        if not self.factors:
            self._fabricate(tuple(current.shape[1:]), current)
        own = {name: getattr(self._module, name) for name in self.factors}
        try:
            for name, factor in self.factors.items():
                setattr(self._module, name, own[name] * factor)
            forward: Callable[..., Any] = type(self._module).forward
            return forward(self._module, current, *state)
        finally:
            for name, value in own.items():
                setattr(self._module, name, value)

    def _fabricate(self, shape: tuple[int, ...], like: Tensor) -> None:
        for name in (name for name in SPREAD if isinstance(getattr(self._module, name, None), Tensor)):
            sigma = self._spread.threshold_spread if name == "threshold" else self._spread.decay_spread
            self.factors[name] = (1 + sigma * self._draw.normal(name, shape)).clamp_(min=0).to(like)
