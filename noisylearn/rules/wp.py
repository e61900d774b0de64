"""Weight perturbation."""

from collections.abc import Collection
from dataclasses import dataclass

from torch import Tensor

from noisylearn.estimate import Estimate, Observation, reference
from noisylearn.passes import LayerReading
from noisylearn.rules.base import Perturbation


@dataclass(frozen=True, kw_only=True)
class WP(Perturbation):
    """dW = dL xi / sigma^2 with noise xi on the weights and biases, one draw for a whole pass over the batch.

    dL is the difference of the batch's mean losses. Unbiased; its variance grows with the number of weights.
    """

    name = "wp"
    title = "weight perturbation"
    equation = "dW = dL xi / sigma^2"
    source = "[RNN] eq. 4"
    observes = frozenset({"loss", "injected_weight_noise"})

    def gradients(self, seen: Observation, layers: Collection[str]) -> Estimate:
        plan = self.plan(len(seen.chip.layers))
        readings, losses = seen.of(plan)
        losses = losses.mean(1)
        modulator = losses - reference(losses, self.baseline)
        inputs = {name: reference(r.input, self.baseline) for name, r in readings.layers.items()}
        gradients = {name: self._layer(readings.layers[name], modulator) for name in layers}
        return Estimate(reference(losses, self.baseline), gradients, inputs)

    def _layer(self, reading: LayerReading, modulator: Tensor) -> dict[str, Tensor]:
        passes = range(0 if self.baseline == "mean" else 1, len(modulator))
        scale = 1 / (self.draws * reading.weight_variance)
        return {
            key: sum(
                (modulator[p] * scale * reading.weight_noise[p][key] for p in passes),
                start=modulator.new_zeros(()),
            )
            for key in reading.weight_noise[passes[0]]
        }
