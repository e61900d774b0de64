"""Spiking networks of snntorch neurons, run step by step: forward(x_t, state) -> (y_t, state)."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

from jaxtyping import Float
from torch import Tensor, nn

from noisylearn.ground.errors import UserError
from noisylearn.networks.feedforward import hidden_sizes, seeded

Neuron = Literal["leaky", "rleaky", "synaptic"]
Reset = Literal["subtract", "zero"]
State = tuple[tuple[Float[Tensor, "batch _"], ...], ...]


class Spiking(nn.Module):
    """Linear layers hidden1, hidden2, ..., each followed by neurons of snntorch, and a readout that integrates.

    neuron: "leaky" (membrane decay beta), "rleaky" (the same with all-to-all recurrent weights), "synaptic" (with a
    synaptic current of decay alpha).  threshold: of firing.  reset: "subtract", a spike subtracts the threshold from
    the membrane, in the next step, as snntorch does by default; "zero", it sets the membrane to zero at once, as in
    NIR, on Loihi and in Lava.  spike_grad: snntorch surrogate for backpropagation through time; perturbation rules
    need none.  The output y_t is the membrane potential of leaky readout neurons that never fire.
    forward(x_t, state) takes (batch, n_in) and the tuple that the last step gave, or None for neurons at rest.
    Needs snntorch. Initialised by torch's defaults from `seed`; the global random state is left alone.
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
        self.integrator = _snntorch().Leaky(beta=beta, reset_mechanism="none")

    def forward(
        self, x: Float[Tensor, "batch n_in"], state: State | None = None
    ) -> tuple[Float[Tensor, "batch n_out"], State]:
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
        sizes = [*self.sizes, self.n_out]
        return tuple(
            tuple(x.new_zeros(len(x), size) for _ in range(self._n_states(i))) for i, size in enumerate(sizes, start=1)
        )

    def _n_states(self, i: int) -> int:
        """What the neurons of a layer remember: membrane; with it the last spikes, or the synaptic current."""
        if i > len(self.sizes):
            return 1
        return 2 if self._feeds_back(i) or hasattr(getattr(self, f"neurons{i}"), "alpha") else 1

    def _feeds_back(self, i: int) -> bool:
        return hasattr(getattr(self, f"neurons{i}"), "recurrent")


def _neurons(neuron: Neuron, size: int, alpha: float, options: dict[str, Any]) -> nn.Module:
    snntorch = _snntorch()
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


def _snntorch() -> Any:
    try:
        import snntorch
    except ImportError:
        raise UserError("spiking networks need snntorch: pip install 'noisylearn[spiking]'") from None
    return snntorch
