"""One forward of all passes of a plan at once, stacked along the batch: what runs in place of the layers."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from noisylearn.chips.execution.products import (
    DeviceReads,
    KnownWeights,
    NodeNoise,
    NoisyWeights,
    Product,
    Stack,
    by_pass,
)
from noisylearn.chips.interface import Placed, PlacedLayer
from noisylearn.chips.readings import LateNoise, LayerReading, Plan, Readings
from noisylearn.chips.segments import Segment, Trajectory
from noisylearn.ground.draws import Draws
from noisylearn.ground.errors import UserError

Units = Mapping[str, torch.Size]  # of every layer, the shape of a sample's pre-activations
Ahead = Mapping[str, dict[str, Tensor | None]]  # of every layer, its weight, its bias and the noise of all steps
Rows = Mapping[str, tuple[Tensor, Tensor]]  # of every layer, its inputs and pre-activations in all steps


class StackedForward:
    """One stacked forward over a segment: executes the layers, and gives what was read of them.

    Args:
        placed: name of a layer -> what runs in place of it.
        segment: inputs.
        plan: which passes have injected noise, and in which layers.
        draws: random streams.
        purpose: names the random streams.
        parted: whether the passes are separate from the start.
    """

    def __init__(self, placed: Placed, segment: Segment, plan: Plan, draws: Draws, purpose: str, parted: bool) -> None:
        self.plan = plan
        self.stack = Stack(plan.n_passes, segment.n_steps, segment.batch, segment.in_time, parted)
        self._layers = {}
        for i, (name, layer) in enumerate(placed.items()):
            perturbed = [p for p in range(plan.n_passes) if plan.perturbed[p][i]]
            left = segment.start.noise.get(name) or [{} for _ in layer.node_effects]
            trail = [dict(state) for state in left]
            self._layers[name] = _LayerSteps(name, layer, self.stack, perturbed, (draws, purpose), trail)

    @property
    def is_fresh_by_sample(self) -> bool:
        """Whether all noise is independent from sample to sample, so that steps may be taken as more of a batch."""
        return not any(steps.placed.pass_effects for steps in self._layers.values())

    @property
    def is_known_ahead(self) -> bool:
        """Whether weights and noise of all steps are known before the first of them."""
        return self.is_fresh_by_sample and all(steps.placed.exact() is not None for steps in self._layers.values())

    def executions(self) -> dict[nn.Module, Callable[..., Any]]:
        """Layer -> what runs in place of its own forward."""
        return {steps.placed.layer: steps for steps in self._layers.values()}

    def units(self) -> Units | None:
        """Of every layer, the shape of a sample's pre-activations; None where a step did not use one of them."""
        if not all(steps.is_done for steps in self._layers.values()):
            return None
        return {name: steps.units for name, steps in self._layers.items()}

    def ahead(self, units: Units) -> Ahead:
        """Weight, bias and noise of all steps, by layer.

        Args:
            units: of every layer, the shape of a sample's pre-activations.
        """
        return {name: steps.ahead(units[name]) for name, steps in self._layers.items()}

    def hold(self, ahead: Ahead) -> None:
        """Use given weights and noise in place of the forward's own.

        Args:
            ahead: as `ahead` gave it.
        """
        for name, steps in self._layers.items():
            steps.hold(**ahead[name])

    def rows(self) -> Rows:
        """Inputs and pre-activations of all steps, (steps x batch x passes, ...), of every layer that ran."""
        return {name: steps.rows() for name, steps in self._layers.items()}

    def ran(self, rows: Rows, last: str) -> None:
        """Take over what a captured forward showed.

        Args:
            rows: of every layer, inputs and pre-activations of all steps.
            last: name of the layer that ran last.
        """
        self.stack.last = last
        for name, steps in self._layers.items():
            steps.ran(*rows[name])

    def tanh_units(self, name: str, x: Float[Tensor, "time rows n_in"], state: Any) -> tuple[Tensor, tuple[Tensor]]:
        """Run a layer of recurrent tanh units through all steps.

            a_t = W (u_t, x_{t-1}) + noise,   x_t = tanh(a_t)

        Args:
            name: of the layer.
            x: stacked inputs u_t.
            state: x of the step before the first, alone in a tuple; None for zeros.

        Returns:
            x of all steps, (steps x rows, units), and the state after the last.
        """
        self.stack.last = name
        states, end = self._layers[name].tanh_units(x, None if state is None else state[0])
        return states, (end,)

    def read(self, output: Float[Tensor, "_ ..."], network: Any) -> Readings:
        """All readings, after the model gave its outputs.

        Args:
            output: of all steps, (steps x batch x passes, ...).
            network: state of the network after the last step.

        Raises:
            UserError: a layer was not used.
        """
        readings = {name: steps.reading() for name, steps in self._layers.items()}
        noise = {name: steps.noise.trail for name, steps in self._layers.items() if any(steps.noise.trail)}
        end = Trajectory(network, noise)
        return Readings(by_pass(output, self.stack.n_passes), readings, self.stack.last, end)


class _LayerSteps:
    """One layer in a stacked forward: executes it, and keeps its inputs and pre-activations step by step."""

    def __init__(
        self,
        name: str,
        placed: PlacedLayer,
        stack: Stack,
        perturbed: list[int],
        streams: tuple[Draws, str],
        trail: list[dict[str, Tensor]],
    ) -> None:
        self.placed = placed
        self.noise = NodeNoise(name, placed, stack, perturbed, streams, trail)
        self._name, self._stack = name, stack
        self._perturbed, self._streams = perturbed, streams
        self._product: Product | None = None
        self._inputs: list[Tensor] = []
        self._activities: list[Tensor] = []
        self._seen = 1
        self._done = 0

    def __call__(self, inputs: Tensor) -> Tensor:
        stack = self._stack
        if self._done > stack.step:
            raise UserError(f"layer '{self._name}' is used twice in one forward pass; give each use a layer of its own")
        if self._product is None:
            self._product = self._chosen_product()
        if not self._inputs:
            self._seen = stack.n_passes if stack.parted else 1
        activity = self._product(inputs, self.noise)
        stack.parted, stack.last = True, self._name
        self._done += stack.covered
        self._inputs.append(inputs)
        self._activities.append(activity)
        return activity

    def tanh_units(self, x: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `StackedForward.tanh_units`. Each state is written to where the next step reads it."""
        n_steps, n_rows, n_in = x.shape
        product, n_units = self._product or self._chosen_product(), len(self.placed.layer.weight)
        inputs = x.new_empty(n_steps + 1, n_rows, n_in + n_units)
        inputs[:-1, :, :n_in], states = x, inputs[..., n_in:]
        states[0].zero_() if start is None else states[0].copy_(start)
        for seen, state in zip(inputs[:-1].unbind(), states[1:].unbind(), strict=True):
            activity = product(seen, self.noise)
            torch.tanh(activity, out=state)
            self._activities.append(activity)
            self._stack.step += 1
        self._product, self._inputs, self._done = product, [inputs[:-1].flatten(0, 1)], n_steps
        self._seen = self._stack.n_passes
        return states[1:].flatten(0, 1), states[-1].clone()

    def reading(self) -> LayerReading:
        """What was observed in all steps, merged along the batch.

        Raises:
            UserError: a step did not use the layer.
        """
        if not self.is_done:
            raise UserError(f"layer '{self._name}' was not used in the forward pass; remove it from the model")
        inputs, activities = self.rows()
        of_weights = self._product.drawn if isinstance(self._product, NoisyWeights) and self._stack.n_steps == 1 else []
        reading = LateNoise(
            self.placed.layer,
            by_pass(inputs, self._seen),
            by_pass(activities, self._stack.n_passes),
            weight_noise=of_weights,
            node_variance=self.placed.node_variance,
            weight_variance=self.placed.weight_variance,
        )
        noise = self.noise
        reading.noise = lambda: noise.by_pass
        return reading

    @property
    def is_done(self) -> bool:
        """Whether every step used the layer."""
        return self._done == self._stack.n_steps

    @property
    def units(self) -> torch.Size:
        """Shape of a sample's pre-activations."""
        return self._activities[0].shape[1:]

    def ahead(self, units: torch.Size) -> dict[str, Tensor | None]:
        """Weight, bias and noise of all steps, each None where it is not known or not there."""
        weight, bias = self.placed.exact() or (None, None)
        drawn = weight is not None and not self.noise.is_silent
        noise = self.noise.rows(weight, units) if weight is not None and drawn else None
        return {"weight": weight, "bias": bias, "noise": noise}

    def hold(self, weight: Tensor | None, bias: Tensor | None, noise: Tensor | None) -> None:
        """Use given weights and noise in place of the layer's own."""
        assert weight is not None
        self._product = KnownWeights(self.placed.layer, weight, bias, self._stack)
        if noise is not None:
            self.noise.hold(noise)

    def rows(self) -> tuple[Tensor, Tensor]:
        """Inputs and pre-activations of all steps."""
        if self.noise.sums is not None:
            return joined(self._inputs), self.noise.sums
        return joined(self._inputs), joined(self._activities)

    def ran(self, inputs: Tensor, activities: Tensor) -> None:
        """Take over what a captured forward showed of the layer."""
        self._inputs, self._activities, self._done = [inputs], [activities], self._stack.n_steps
        self._seen = self._stack.n_passes

    def _chosen_product(self) -> Product:
        if self.placed.pass_effects:
            return NoisyWeights(self._name, self.placed, self._stack, self._perturbed, self._streams)
        exact = self.placed.exact()
        if exact is None:
            return DeviceReads(self.placed, self._stack, self._streams[1])
        return KnownWeights(self.placed.layer, *exact, self._stack)


def joined(steps: list[Float[Tensor, "_ ..."]]) -> Float[Tensor, "_ ..."]:
    """Rows of all steps; the list is emptied, so that memory for both is needed only briefly.

    Args:
        steps: rows of every step.

    Returns:
        (rows of all steps, ...).
    """
    rows = torch.cat(steps) if len(steps) > 1 else steps[0]
    steps.clear()
    return rows
