"""Spiking networks of snnTorch neurons that run step by step: forward(x_t, state) -> (y_t, state)."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

from jaxtyping import Float
from torch import Tensor, nn

from noisylearn.ground.errors import UserError, not_installed
from noisylearn.networks.feedforward import hidden_sizes, seeded

Neuron = Literal["leaky", "rleaky", "synaptic"]
Reset = Literal["subtract", "zero"]
State = tuple[tuple[Float[Tensor, "batch _"], ...], ...]


class Spiking(nn.Module):
    """A spiking network: Linear layers hidden1, hidden2, ..., each with spiking neurons, and an integrating readout.

    The output y_t is the membrane potential of leaky readout neurons that never fire. Weights are initialised by
    torch's defaults. Needs snnTorch.

    Args:
        n_in: inputs of a step.
        n_hidden: neurons of the hidden layer, or of several.
        n_out: outputs.
        neuron: "leaky" (membrane decay beta), "rleaky" (the same with all-to-all recurrent weights) or "synaptic"
            (the same with a synaptic current of decay alpha).
        beta: decay of the membrane potential per step.
        alpha: decay of the synaptic current per step.
        threshold: membrane potential at which a neuron fires.
        spike_grad: snnTorch's surrogate gradient, for backpropagation through time; perturbation rules need none.
        seed: of the initial weights; torch's global generator is not used.
        reset: what a spike does to the membrane potential: "subtract" subtracts the threshold in the next step, as
            snnTorch does by default; "zero" sets it to zero in the same step, as in NIR, on Loihi and in Lava.

    Raises:
        UserError: snnTorch is not installed, a name is unknown, the threshold is not positive, or there is no hidden
            layer, or one without neurons.
    """

    def __init__(
        self,
        n_in: int,
        n_hidden: int | Sequence[int],
        n_out: int,
        neuron: Neuron = "leaky",
        beta: float = 0.9,
        alpha: float = 0.8,
        threshold: float = 1.0,
        spike_grad: Any = None,
        seed: int = 0,
        reset: Reset = "subtract",
    ) -> None:
        super().__init__()
        sizes = hidden_sizes(n_hidden)
        if reset not in get_args(Reset):
            raise UserError(f"reset '{reset}'; choose {', '.join(get_args(Reset))}")
        if not threshold > 0:
            raise UserError(f"threshold {threshold}: neurons at rest would fire; give a positive membrane potential")
        options: dict[str, Any] = {"beta": beta, "threshold": threshold, "spike_grad": spike_grad}
        options |= {"reset_mechanism": reset, "reset_delay": reset == "subtract"}
        self.sizes, self.n_out = sizes, n_out
        with seeded(seed):
            for i, (fan_in, size) in enumerate(zip([n_in, *sizes], sizes, strict=False), start=1):
                self.add_module(f"hidden{i}", nn.Linear(fan_in, size))
                self.add_module(f"neurons{i}", _neurons(neuron, size, alpha, options))
            self.readout = nn.Linear(sizes[-1], n_out)
        self.integrator = snntorch_library().Leaky(beta=beta, reset_mechanism="none")

    def forward(
        self, x: Float[Tensor, "batch n_in"], state: State | None = None
    ) -> tuple[Float[Tensor, "batch n_out"], State]:
        """Run one step.

        Args:
            x: inputs of the step.
            state: as the last step returned it, (batch, n) tensors per layer; None for neurons at rest.

        Returns:
            Membrane potentials of the readout, and the new state.
        """
        if state is None:
            state = self._at_rest(x)
        spikes, new = x, []
        for i, before in enumerate(state[:-1], start=1):
            current = getattr(self, f"hidden{i}")(spikes)
            spikes, *after = getattr(self, f"neurons{i}")(current, *before)
            new.append((spikes, *after) if self._feeds_back(i) else tuple(after))
        _, membrane = self.integrator(self.readout(spikes), *state[-1])
        return membrane, (*new, (membrane,))

    def _at_rest(self, x: Tensor) -> State:
        """The state of neurons at rest: all zeros."""
        sizes = [*self.sizes, self.n_out]
        return tuple(
            tuple(x.new_zeros(len(x), size) for _ in range(self._n_states(i))) for i, size in enumerate(sizes, start=1)
        )

    def _n_states(self, i: int) -> int:
        """Number of state variables of a layer: the membrane, and perhaps the last spikes or the synaptic current."""
        if i > len(self.sizes):
            return 1
        return 2 if self._feeds_back(i) or hasattr(getattr(self, f"neurons{i}"), "alpha") else 1

    def _feeds_back(self, i: int) -> bool:
        """Whether the neurons of a layer have recurrent weights."""
        return hasattr(getattr(self, f"neurons{i}"), "recurrent")


def _neurons(neuron: Neuron, size: int, alpha: float, options: dict[str, Any]) -> nn.Module:
    """A layer of snnTorch neurons of the named kind."""
    snntorch = snntorch_library()
    kinds = {
        "leaky": lambda: snntorch.Leaky(**options),
        "rleaky": lambda: snntorch.RLeaky(linear_features=size, **options),
        "synaptic": lambda: snntorch.Synaptic(alpha=alpha, **options),
    }
    if neuron not in kinds:
        raise UserError(f"neuron '{neuron}'; choose {', '.join(kinds)}")
    made: nn.Module = kinds[neuron]()
    if neuron == "rleaky" and options["reset_mechanism"] == "zero":
        # Nothing is above the threshold when a step begins, but snntorch would send the spikes back twice to see to it.
        made.state_function = made._base_int
    return made


def snntorch_library() -> Any:
    """The snnTorch library, imported at first use.

    Raises:
        UserError: it is not installed.
    """
    try:
        import snntorch
    except ImportError:
        raise not_installed("spiking networks need", "snntorch", "spiking") from None
    return snntorch
