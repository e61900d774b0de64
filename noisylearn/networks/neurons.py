"""snnTorch neurons inside a model: their spread from device to device, and whether they fire."""

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
    """Spiking neurons never fire, or fire at every step: they transmit nothing."""


SPREAD = ("alpha", "beta", "threshold")


def spiking_neurons(model: nn.Module) -> dict[str, nn.Module]:
    """Every snnTorch neuron module of a model, by name."""
    snntorch = sys.modules.get("snntorch")  # a model with such neurons has imported it
    if snntorch is None:
        return {}
    return {name: module for name, module in model.named_modules() if isinstance(module, snntorch.SpikingNeuron)}


@contextmanager
def watch_firing(neurons: Mapping[str, nn.Module]) -> Iterator[None]:
    """Warn of neurons that never fired inside the with block, or fired at every step, and say what to do.

    Args:
        neurons: name -> module, as `spiking_neurons` gives them.
    """
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
    """A forward pass of neurons of which each has decays and a threshold of its own.

        beta -> beta max(1 + decay_spread z, 0),  likewise alpha and threshold,  z ~ N(0, 1) once per neuron

    Args:
        module: snnTorch neurons, whose `forward` this replaces.
        spread: relative standard deviations.
        draw: random streams of these neurons.
    """

    def __init__(self, module: nn.Module, spread: NeuronSpread, draw: StreamOf) -> None:
        self._module, self._spread, self._draw = module, spread, draw
        self.factors: State = {}

    def __call__(self, current: Float[Tensor, " batch *neurons"], *state: Any) -> Any:
        """Run one step; the first call draws the neurons.

        Args:
            current: input currents.
            *state: as the module's own forward takes it.

        Returns:
            What the module's own forward returns.
        """
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
        """Draw the factors of every neuron."""
        for name in (name for name in SPREAD if isinstance(getattr(self._module, name, None), Tensor)):
            sigma = self._spread.threshold_spread if name == "threshold" else self._spread.decay_spread
            self.factors[name] = (1 + sigma * self._draw.normal(name, shape)).clamp_(min=0).to(like)
