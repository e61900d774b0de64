"""Weight perturbation."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from torch import Tensor

from noisylearn.chips.interface import Memory
from noisylearn.rules.estimate import Estimate, Values, reference
from noisylearn.rules.in_time import InTime
from noisylearn.rules.observation import Observation
from noisylearn.rules.perturbation import Perturbation


class NoisyWeights(Protocol):
    """What `WP.from_noise` needs to know of a layer."""

    @property
    def weight_noise(self) -> Sequence[Mapping[str, Values]]:
        """Of every pass, parameter name -> noise on that parameter, in its unit and shape."""
        ...

    @property
    def weight_variance(self) -> float:
        """Variance of the noise on one weight."""
        ...


@dataclass(frozen=True, kw_only=True)
class WP(Perturbation):
    """dW = dL xi / sigma^2 with noise xi on weights and biases, one draw for a pass over the whole batch.

    dL is the difference of the mean losses of the batch. The estimate is unbiased; its variance grows with the number
    of weights. Along sequences the rule remembers the eligibility E_t = decay E_{t-1} + xi_t and learns dL_t E_t.
    """

    name = "wp"
    title = "weight perturbation"
    equation = "dW = dL xi / sigma^2"
    source = "[RNN] eq. 4"
    observes = frozenset({"loss", "injected_weight_noise"})
    unbiased = "deep"

    @property
    def shares_draws(self) -> bool:
        return True

    def in_time(self) -> InTime:
        """One step at a time: the noise of every weight in every step would take too much memory."""
        return replace(super().in_time(), stepwise=True)

    def step(self, state: Memory, seen: Observation, layers: Collection[str]) -> tuple[Estimate, Memory]:
        readings, losses = seen.of(self.plan(len(seen.chip.layers)))
        past = {"layers": {}} if seen.starts or not state else state
        traces = {n: self._traced(past["layers"].get(n, {}), readings.layers[n].weight_noise) for n in layers}
        if self.credit == "sequence" and not seen.starts:
            losses = past["losses"] + losses
        inputs = {name: reference(r.input, self.baseline) for name, r in readings.layers.items()}
        gradients = {}
        if self.credit != "sequence" or seen.ends:
            modulator = self.modulators(losses)
            for name, trace in traces.items():
                gradients[name] = self.from_noise(modulator, replace(readings.layers[name], weight_noise=trace))
        estimate = Estimate(reference(losses.mean(1), self.baseline), gradients, inputs)
        if seen.ends or self.credit == "local":
            return estimate, {}
        kept = {name: {str(p): noise for p, noise in enumerate(trace)} for name, trace in traces.items()}
        return estimate, {"layers": kept, "losses": losses}

    def _traced(self, past: Memory, noise: Sequence[Mapping[str, Tensor]]) -> list[dict[str, Tensor]]:
        """E_t = decay E_{t-1} + xi_t of every pass; without decay unless the credit is "trace"."""
        if not past:
            return [dict(drawn) for drawn in noise]
        decay = self.decay if self.credit == "trace" else 1.0
        return [{k: past[str(p)][k] * decay + x for k, x in drawn.items()} for p, drawn in enumerate(noise)]

    def modulators(self, losses: Values) -> Values:
        """dL of every pass; uses operators alone, for torch tensors and numpy arrays alike.

        Args:
            losses: (passes, batch).

        Returns:
            (passes,).
        """
        means = losses.mean(1)
        return means - reference(means, self.baseline)

    def from_noise(self, modulator: Values, reading: NoisyWeights) -> dict[str, Values]:
        """Estimates for the parameters of a layer; uses operators alone.

        Args:
            modulator: dL, (passes,).
            reading: noise on the weights of the layer.

        Returns:
            Name of a parameter -> estimate of dL/dp, in the parameter's shape.
        """
        passes = range(0 if self.baseline == "mean" else 1, len(modulator))
        scale = 1 / (self.draws * reading.weight_variance)
        return {
            key: sum(modulator[p] * scale * reading.weight_noise[p][key] for p in passes)
            for key in reading.weight_noise[passes[0]]
        }
