"""Simultaneous perturbation stochastic approximation: two passes with all weights moved there and back."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from noisylearn.chips.interface import AnyChip, Memory
from noisylearn.profiles import HardwareProfile
from noisylearn.rules.checks import check_choice, check_positive
from noisylearn.rules.directions import STEPS, Directions, StepDraws, start
from noisylearn.rules.estimate import Estimate
from noisylearn.rules.observation import Observation
from noisylearn.rules.writing import WrittenPerturbation, parameters_of, pass_now, written_back

ABOVE_NOISE = 0.1  # in units of the weight, where these are of order 0.1 and devices add some percent


@dataclass(frozen=True, kw_only=True)
class SPSA(WrittenPerturbation):
    """dW = (L(W + c z) - L(W - c z)) / (2 c) z with a random direction z for all weights and biases at once.

    Both sets of weights are programmed before their pass, and the weights themselves after the last: 2 K + 1
    programmings for K draws, each with its programming noise. The direction is made again from its seed wherever it is
    needed, as MeZO does, and never kept; the weights are kept, so that they are the same afterwards, bit for bit.
    The estimate is that of the gradient at W up to order c^2. What a chip writes is not exactly W + c z: choose c well
    above its programming noise and its steps. On the command line c is by default 1e-3 where passes are clean and 0.1
    where they are noisy.

    Along sequences one direction serves a whole sequence, for the mean loss over its steps.

    Args:
        directions: "rademacher", every entry +1 or -1 (Spall); "gaussian", N(0, 1) (MeZO).
        epsilon: c, in units of the weights.
        draws: directions per batch; their estimates are averaged.

    Raises:
        UserError: an option has a value that is not allowed.
    """

    name = "spsa"
    title = "simultaneous perturbation of all weights (SPSA; with Gaussian directions MeZO)"
    equation = "dW = (L(W + c z) - L(W - c z)) / (2 c) z"
    source = (
        "Spall, IEEE Transactions on Automatic Control 37, 332-341, 1992; Malladi, Gao, Nichani, Damian, Lee, Chen, "
        "Arora: Fine-tuning language models with just forward passes, NeurIPS 2023"
    )

    directions: Directions = field(
        default="rademacher", metadata={"help": "Directions of SPSA: rademacher, or gaussian (as in MeZO)."}
    )
    epsilon: float = field(default=1e-3, metadata={"help": "How far SPSA moves every weight, in units of the weight."})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.name, "directions", self.directions, Directions)
        check_positive(self.name, epsilon=self.epsilon)

    @classmethod
    def settled(cls, recipe: Mapping[str, Any], stated: Mapping[str, Any], profile: HardwareProfile) -> dict[str, Any]:
        """The options given; by default a step above the noise where that cannot be switched off."""
        hidden = profile.is_noisy and "clean_pass" not in profile.observable
        return ({"epsilon": ABOVE_NOISE} if hidden else {}) | super().settled(recipe, stated, profile)

    def init(self, chip: AnyChip) -> Memory:
        """How many estimates it made, from which its directions follow."""
        return start()

    def forward_passes(self, n_layers: int) -> int:
        """Two for every direction."""
        return 2 * self.draws

    def step(self, state: Memory, seen: Observation, layers: Collection[str]) -> tuple[Estimate, Memory]:
        draws, parameters = StepDraws.of(self.name, state, seen), parameters_of(seen.chip, layers)

        def direction(k: int, name: tuple[str, str]) -> Tensor:
            return draws.direction(self.directions, f"draw {k}, {', '.join(name)}", parameters[name].detach())

        slopes, losses = [], []
        inputs: dict[str, Tensor] = {}
        with torch.no_grad(), written_back(seen, parameters) as kept:
            for k in range(self.draws):
                pair = []
                for sign in (1, -1):
                    for name, p in parameters.items():
                        p.copy_(kept[name] + sign * self.epsilon * direction(k, name))
                    readings, of_rows = pass_now(seen)
                    pair.append(of_rows.mean())
                    inputs = inputs or {name: reading.input[0] for name, reading in readings.layers.items()}
                slopes.append((pair[0] - pair[1]) / (2 * self.epsilon))
                losses += pair
        gradients: dict[str, dict[str, Tensor]] = {name: {} for name in layers}
        for layer, key in parameters:
            terms = [slope * direction(k, (layer, key)) for k, slope in enumerate(slopes)]
            gradients[layer][key] = torch.stack(terms).mean(0)
        return Estimate(torch.stack(losses).mean(), gradients, inputs), {STEPS: state[STEPS] + 1}

    def terms(self, in_time: bool) -> list[str]:
        return [f"{self.directions} directions", f"c = {self.epsilon:g}"]
