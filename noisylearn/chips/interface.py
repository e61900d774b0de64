"""Interfaces between the parts of this package, and to the packages that use it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from noisylearn.chips.readings import Plan, Readings
from noisylearn.chips.segments import Segment
from noisylearn.effects import Effect, Setting, State
from noisylearn.ground.draws import Draws
from noisylearn.networks.layers import WeightLayer
from noisylearn.networks.transfer import Transfer
from noisylearn.profiles import Machine

Memory = dict[str, Any]  # of a rule: a plain tree of tensors
# Name of a layer -> its input and its pre-activation, both (batch, ...).
Seen = Mapping[str, tuple[Float[Tensor, "_ ..."], Float[Tensor, "_ ..."]]]


class AnyChip(Protocol):
    """What a rule learns on: a simulated `Chip`, or hardware behind `OwnChip`.

    Attributes:
        model: the network on the host; its parameters are what rules change and `program` sends.
        layers: name -> layer of every layer that owns weights, in order of definition.
        memories: what rules remember of this chip, by the rule as `Rule.describe` writes it.
    """

    model: nn.Module
    layers: dict[str, WeightLayer]
    memories: dict[str, Memory]

    @property
    def profile(self) -> Machine:
        """What is known of the machine."""
        ...

    def passes(self, x: Shaped[Tensor, "batch ..."] | Segment, plan: Plan, purpose: str = "pass") -> Readings:
        """All passes of a plan over samples or a segment, with what the machine shows of them.

        Args:
            x: samples (batch, ...), or a segment.
            plan: which passes have injected noise, and in which layers.
            purpose: names the random streams.

        Returns:
            What was observed of the passes.
        """
        ...

    def digital_pass(
        self, x: Shaped[Tensor, "batch ..."] | Segment, on_devices: bool = False, through: "Placed | None" = None
    ) -> Readings:
        """One differentiable pass.

        Args:
            x: samples (batch, ...), or a segment.
            on_devices: whether the forward values are read from the devices.
            through: what runs in place of the layers; None for their own parameters.

        Returns:
            Readings from which autograd leads to the parameters of the model, or through what runs in place of layers.
        """
        ...

    def transfers(self, x: Shaped[Tensor, "batch ..."] | Segment) -> Mapping[str, Transfer]:
        """The function x = f(a) of the neurons after every layer; the identity where nothing element-wise follows.

        Args:
            x: samples (batch, ...), or a segment, that the model takes.
        """
        ...

    def program(self) -> None:
        """Write the model's present parameters to the chip."""
        ...

    def sent(self) -> Mapping[str, Float[Tensor, "_ ..."]]:
        """Layer name -> sum of all changes of the weight that were sent to the devices so far.

        It is what a controller knows of the weights without reading any: the digital weights of a machine that is
        programmed, the pulses of one whose weights exist on the devices alone. Only its differences mean anything. It
        may share the memory of what changes later.
        """
        ...


class PlacedLayer(Protocol):
    """A layer as it is executed: on devices, digitally, or in a simulator of one's own."""

    @property
    def layer(self) -> WeightLayer:
        """The module that it replaces."""
        ...

    @property
    def setting(self) -> Setting:
        """What effects may know of the machine."""
        ...

    @property
    def node_effects(self) -> Sequence[Effect]:
        """Noise on the pre-activations."""
        ...

    @property
    def node_memory(self) -> Sequence[State]:
        """What the devices of each of `node_effects` hold."""
        ...

    @property
    def pass_effects(self) -> Sequence[Effect]:
        """Noise on the weights that is the same for all samples of a pass."""
        ...

    @property
    def node_variance(self) -> float:
        """Variance of the injected noise of one unit."""
        ...

    @property
    def weight_variance(self) -> float:
        """Variance of the injected noise of one weight."""
        ...

    def read(self, x: Float[Tensor, "_ batch ..."], n_passes: int, purpose: str) -> Float[Tensor, "_ batch ..."]:
        """Pre-activations of inputs, without the noise of `node_effects`.

        Args:
            x: inputs of the layer, (1 or n_passes, batch, ...).
            n_passes: passes of the plan.
            purpose: names the random streams.

        Returns:
            (n_passes, batch, ...), or (1, batch, ...) where every pass gives the same.
        """
        ...

    def exact(self) -> tuple[Float[Tensor, "n_out ..."], Float[Tensor, " n_out"] | None] | None:
        """Weight and bias now, where `read` is their product and nothing else; None otherwise."""
        ...


Placed = Mapping[str, PlacedLayer]


class Executor(Protocol):
    """Runs passes over a model whose layers are placed somewhere."""

    def run(self, placed: Placed, segment: Segment, plan: Plan, purpose: str) -> Readings:
        """All passes of a plan over the steps of a segment.

        Args:
            placed: name of a layer -> what runs in place of it.
            segment: inputs on the model's device.
            plan: which passes have injected noise, and in which layers.
            purpose: names the random streams, so that looking at a chip draws other numbers than training on it.

        Returns:
            What was observed of the passes.

        Raises:
            UserError: the model does not take such inputs.
        """
        ...


# What makes an executor: of a model, its random streams, and what runs in the place of modules other than its layers.
ExecutorFactory = Callable[[nn.Module, Draws, Mapping[nn.Module, Callable[..., Any]]], Executor]


class Hardware(Protocol):
    """The interface that a hardware driver must implement, see `noisylearn.OwnChip`."""

    def forward(self, x: Shaped[Tensor, "batch ..."]) -> tuple[Float[Tensor, "batch ..."], Seen]:
        """One noisy pass.

        Args:
            x: samples (batch, ...).

        Returns:
            The output (batch, ...), and by layer its input and its pre-activation.
        """
        ...

    def program(self, state: Mapping[str, Tensor]) -> None:
        """Write weights to the chip.

        Args:
            state: parameters and buffers of the model, by name as in its state_dict.
        """
        ...


class SteppingHardware(Hardware, Protocol):
    """A driver that can also run networks in time."""

    def step(self, x: Shaped[Tensor, "batch ..."], state: Any) -> tuple[Float[Tensor, "batch ..."], Seen, Any]:
        """One noisy step of a sequence.

        Args:
            x: inputs of the step, (batch, ...).
            state: what this method returned for the step before of the same pass; None where a sequence starts.

        Returns:
            Output and readings as `forward` gives them, and the state after the step.
        """
        ...
