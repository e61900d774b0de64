"""The delta rule at the readout, whose error is local."""

from collections.abc import Collection
from dataclasses import dataclass

import torch

from noisylearn.chips.interface import Memory
from noisylearn.ground.errors import UserError
from noisylearn.networks.layers import parameter_gradients
from noisylearn.rules.base import Rule
from noisylearn.rules.estimate import Estimate
from noisylearn.rules.observation import Observation
from noisylearn.rules.sharing import Way


@dataclass(frozen=True, kw_only=True)
class Delta(Rule):
    """g_K = dL/dy at the output y = a_K: exact, and known there without a backward pass.

    It serves the readout alone, inside `PerLayer`; no operation may follow that layer.
    """

    name = "delta"
    title = "delta rule (exact error at the readout)"
    equation = "g_K = dL/da_K"
    source = "Widrow and Hoff 1960"
    observes = frozenset({"input", "output", "error"})
    unbiased = "deep"
    scale_free = True
    perturbs = False
    stands_alone = False

    def step(self, state: Memory, seen: Observation, layers: Collection[str]) -> tuple[Estimate, Memory]:
        readings, losses = seen.of_any()
        output_layer = next(reversed(readings.layers))
        reading = readings.layers[output_layer]
        if list(layers) != [output_layer] or not torch.equal(reading.activity, readings.output):
            raise UserError(
                f"rule delta knows the error of the readout alone, given to {', '.join(layers)}; give it to the last "
                "layer with nothing after it, in PerLayer, and another rule to the others"
            )
        inputs = {name: r.input[0] for name, r in readings.layers.items()}
        error = seen.error(readings.output[0])
        gradients = {output_layer: parameter_gradients(reading.layer, inputs[output_layer], error)}
        return Estimate(losses[0].mean(), gradients, inputs), state

    @property
    def divides(self) -> frozenset[Way]:
        return frozenset({"batch", "draws"})

    def forward_passes(self, n_layers: int) -> int:
        return 1
