"""Weight perturbation."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from noisylearn.rules.base import Perturbation
from noisylearn.rules.estimate import Estimate, Observation, Values, reference


class NoisyWeights(Protocol):
    """The noise that every pass had on the parameters of a layer, and the variance of one of them."""

    @property
    def weight_noise(self) -> Sequence[Mapping[str, Values]]: ...
    @property
    def weight_variance(self) -> float: ...


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
        modulator = self.modulators(losses)
        inputs = {name: reference(r.input, self.baseline) for name, r in readings.layers.items()}
        gradients = {name: self.from_noise(modulator, readings.layers[name]) for name in layers}
        return Estimate(reference(losses.mean(1), self.baseline), gradients, inputs)

    def modulators(self, losses: Values) -> Values:
        """dL of every pass, (passes,), from losses (passes, batch); operators alone."""
        means = losses.mean(1)
        return means - reference(means, self.baseline)

    def from_noise(self, modulator: Values, reading: NoisyWeights) -> dict[str, Values]:
        """Gradient of every parameter of a layer, from modulators (passes,); operators alone."""
        passes = range(0 if self.baseline == "mean" else 1, len(modulator))
        scale = 1 / (self.draws * reading.weight_variance)
        return {
            key: sum(modulator[p] * scale * reading.weight_noise[p][key] for p in passes)
            for key in reading.weight_noise[passes[0]]
        }
