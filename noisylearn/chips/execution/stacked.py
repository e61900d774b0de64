"""One forward of all passes of a plan at once, stacked along the batch: what runs in the place of the layers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from noisylearn.chips.execution.noise import PlacedLayer, node_noise, weight_noise
from noisylearn.chips.readings import LayerReading, Plan, Readings
from noisylearn.ground.draws import Draws
from noisylearn.ground.errors import UserError
from noisylearn.networks.layers import apply_weights, columns_in_a_row

Placed = Mapping[str, PlacedLayer]
Units = Mapping[str, torch.Size]  # of every layer, the shape of a sample's pre-activations
Ahead = Mapping[str, dict[str, Tensor | None]]  # of every layer, its weight, its bias and the noise of all steps
Rows = Mapping[str, tuple[Tensor, Tensor]]  # of every layer, its inputs and pre-activations in all steps


@dataclass
class _Progress:
    """What the layers of one stacked forward, of one step or of several, share: has it forked, and where it is.

    step: the first one that runs now.  covered: how many run at once.

    In the stack the passes of a sample are neighbours: rows (steps x batch x passes, ...) are readings by pass as they
    stand, without a copy.
    """

    n_passes: int
    batch: int
    n_steps: int
    draws: Draws
    purpose: str
    forked: bool
    in_time: bool = False
    step: int = 0
    covered: int = 1
    last: str = ""

    def by_pass(self, rows: Tensor, n_passes: int) -> Tensor:
        """Rows (steps x batch x passes, ...) as (passes, steps x batch, ...)."""
        return rows.reshape(-1, n_passes, *rows.shape[1:]).transpose(0, 1)


class Forward:
    """One stacked forward: executes the layers, and gives what was read of them."""

    def __init__(
        self,
        placed: Placed,
        plan: Plan,
        batch: int,
        draws: Draws,
        purpose: str,
        forked: bool,
        n_steps: int | None = None,
    ) -> None:
        self.plan = plan
        in_time = n_steps is not None
        self.progress = _Progress(plan.n_passes, batch, n_steps or 1, draws, purpose, forked, in_time)
        self._layers = {
            name: _LayerSteps(name, layer, self.progress, [p for p in range(plan.n_passes) if plan.perturbed[p][i]])
            for i, (name, layer) in enumerate(placed.items())
        }

    @property
    def is_fresh_by_sample(self) -> bool:
        """Whether all noise is independent from sample to sample, so that steps may be taken as more of a batch."""
        return not any(steps.placed.pass_effects for steps in self._layers.values())

    @property
    def is_known_ahead(self) -> bool:
        """Whether weights and noise of all steps can be had before the first of them."""
        return self.is_fresh_by_sample and all(steps.placed.exact() is not None for steps in self._layers.values())

    def executions(self) -> dict[nn.Module, Callable[..., Any]]:
        """What takes the place of the layers' own forwards."""
        return {steps.placed.layer: steps for steps in self._layers.values()}

    def units(self) -> Units | None:
        """Of every layer, the shape of a sample's pre-activations; None where a step did not use one of them."""
        if not all(steps.is_done for steps in self._layers.values()):
            return None
        return {name: steps.units for name, steps in self._layers.items()}

    def ahead(self, units: Units) -> Ahead:
        """Weight, bias and noise of all steps, by layer."""
        return {name: steps.ahead(units[name]) for name, steps in self._layers.items()}

    def hold(self, ahead: Ahead) -> None:
        """Take what `ahead` gave in the place of weights and draws of one's own."""
        for name, steps in self._layers.items():
            steps.hold(**ahead[name])

    def rows(self) -> Rows:
        """Inputs and pre-activations of all steps, (steps x batch x passes, ...), of every layer that ran."""
        return {name: steps.rows() for name, steps in self._layers.items()}

    def ran(self, rows: Rows, last: str) -> None:
        """Take what another forward saw as one's own."""
        self.progress.last = last
        for name, steps in self._layers.items():
            steps.ran(*rows[name])

    def read(self, output: Tensor) -> Readings:
        """All readings, after the model gave its outputs, (steps x batch x passes, ...)."""
        readings = {name: steps.reading() for name, steps in self._layers.items()}
        return Readings(self.progress.by_pass(output, self.progress.n_passes), readings, self.progress.last)


class _LayerSteps:
    """One layer in a stacked forward: executes it, and keeps what was seen of it, step by step."""

    def __init__(self, name: str, placed: PlacedLayer, progress: _Progress, perturbed: list[int]) -> None:
        self.placed = placed
        self._name, self._progress, self._perturbed = name, progress, perturbed
        self._is_noisy = bool(placed.node_effects and perturbed)
        self._inputs: list[Tensor] = []
        self._activities: list[Tensor] = []
        self._weight_noise: list[dict[str, Tensor]] = []
        self._noise: Tensor | None = None
        self._noise_rows: Tensor | None = None
        self._noise_of_step: tuple[Tensor, ...] = ()
        self._exact: tuple[Tensor, Tensor | None] | None = None
        self._transposed: Tensor | None = None
        self._seen = 1
        self._done = 0

    def __call__(self, inputs: Tensor) -> Tensor:
        progress = self._progress
        if self._done > progress.step:
            raise UserError(f"layer '{self._name}' is used twice in one forward pass; give each use a layer of its own")
        if not self._inputs:
            self._begin(inputs)
        if self._transposed is not None:
            activity = torch.addmm(self._noise_of_step[progress.step], inputs, self._transposed)
        else:
            activity = self._linear(inputs)
            if self._is_noisy:
                activity = activity + self._noise_now(activity, activity.shape[1:])
        progress.last = self._name
        self._done += progress.covered
        self._inputs.append(inputs)
        self._activities.append(activity)
        return activity

    def reading(self) -> LayerReading:
        """What was seen of all steps, merged along the batch. Raises UserError if a step did not use the layer."""
        progress = self._progress
        if not self.is_done:
            raise UserError(f"layer '{self._name}' was not used in the forward pass; remove it from the model")
        self._noise_rows, self._noise_of_step = None, ()
        return LayerReading(
            self.placed.layer,
            progress.by_pass(joined(self._inputs), self._seen),
            progress.by_pass(joined(self._activities), progress.n_passes),
            self._noise,
            self._weight_noise if progress.n_steps == 1 else [],
            self.placed.node_variance,
            self.placed.weight_variance,
        )

    @property
    def is_done(self) -> bool:
        return self._done == self._progress.n_steps

    @property
    def units(self) -> torch.Size:
        return self._activities[0].shape[1:]

    def ahead(self, units: torch.Size) -> dict[str, Tensor | None]:
        weight, bias = self.placed.exact() or (None, None)
        if self._is_noisy and weight is not None:
            self._draw_noise(weight, units)
        return {"weight": weight, "bias": bias, "noise": self._noise_rows}

    def hold(self, weight: Tensor | None, bias: Tensor | None, noise: Tensor | None) -> None:
        assert weight is not None
        self._take(weight, bias)
        self._noise_rows = noise

    def rows(self) -> tuple[Tensor, Tensor]:
        return joined(self._inputs), joined(self._activities)

    def ran(self, inputs: Tensor, activities: Tensor) -> None:
        self._inputs, self._activities, self._done = [inputs], [activities], self._progress.n_steps
        self._seen = self._progress.n_passes

    def _begin(self, inputs: Tensor) -> None:
        self._seen = self._progress.n_passes if self._progress.forked else 1
        exact = None if self._exact or self.placed.pass_effects else self.placed.exact()
        if exact is not None:
            self._take(*exact)
        if self._progress.in_time and self._is_noisy and self._exact is not None and inputs.dim() == 2:
            self._add_noise_in_products(inputs)

    def _take(self, weight: Tensor, bias: Tensor | None) -> None:
        self._exact = columns_in_a_row(weight) if self._progress.n_steps > 1 else weight, bias

    def _add_noise_in_products(self, inputs: Tensor) -> None:
        """Where a step's pre-activations are a product and noise, one call of torch makes both."""
        assert self._exact is not None
        weight, bias = self._exact
        if bias is None and weight.dim() == 2:
            self._transposed = weight.T
            self._noise_now(inputs, weight.shape[:1])

    def _linear(self, inputs: Tensor) -> Tensor:
        """Pre-activations of rows (steps x batch x passes, ...) without noise on the nodes."""
        if self._exact is None or not self._progress.forked:
            return self._read(inputs)
        return apply_weights(self.placed.layer, *self._exact, inputs)

    def _read(self, inputs: Tensor) -> Tensor:
        """Pre-activations (batch x passes, ...) with the noise of devices and weights."""
        progress = self._progress
        inputs = progress.by_pass(inputs, self._seen)
        activity = self.placed.read(inputs, progress.n_passes, progress.purpose)
        progress.forked = True
        if activity.shape[0] != progress.n_passes:
            activity = activity.expand(progress.n_passes, *activity.shape[1:])
        if self.placed.pass_effects:
            activity = self._add_weight_noise(inputs, activity)
        return _stacked(activity)

    def _add_weight_noise(self, inputs: Tensor, activity: Tensor) -> Tensor:
        """Noise on the weights that is the same for all samples of a pass."""
        drawn: list[dict[str, Tensor]] = []
        rows, draws, purpose = [], self._progress.draws, self._progress.purpose
        for p, row in enumerate(activity):
            noise = weight_noise(self.placed, self._name, draws, purpose) if p in self._perturbed else {}
            if noise:
                x = inputs[min(p, inputs.shape[0] - 1)]
                row = row + apply_weights(self.placed.layer, noise["weight"], noise.get("bias"), x)
            drawn.append(noise)
            rows.append(row)
        self._weight_noise = drawn
        return torch.stack(rows)

    def _noise_now(self, like: Tensor, units: torch.Size) -> Tensor:
        """On the pre-activations of the steps that run now, (their batch x passes, ...)."""
        progress = self._progress
        if not self._noise_of_step:
            rows = self._draw_noise(like, units) if self._noise_rows is None else self._noise_rows
            n_rows = progress.covered * progress.batch * progress.n_passes
            self._noise_of_step = rows.split(n_rows) if len(rows) > n_rows else (rows,)
        return self._noise_of_step[progress.step]

    def _draw_noise(self, like: Tensor, units: torch.Size) -> Tensor:
        """Additive noise on the pre-activations of all steps, as rows; zero in passes that are not perturbed.

        Independent from sample to sample, and so from step to step: the steps are more of a batch.
        """
        progress = self._progress
        zeros = like.new_zeros(()).expand(progress.n_passes, progress.n_steps * progress.batch, *units)
        self._noise = node_noise(self.placed, self._name, zeros, self._perturbed, progress.draws, progress.purpose)
        self._noise_rows = _stacked(self._noise)
        return self._noise_rows


def joined(steps: list[Tensor]) -> Tensor:
    """Rows of all steps; the list is emptied, so that none of them is held twice for long."""
    rows = torch.cat(steps) if len(steps) > 1 else steps[0]
    steps.clear()
    return rows


def _stacked(by_pass: Tensor) -> Tensor:
    """Values (passes, samples, ...) as rows of a stack, (samples x passes, ...)."""
    return by_pass.transpose(0, 1).flatten(0, 1)
