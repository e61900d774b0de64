"""Any chain of layers and spiking neurons that runs step by step: forward(x_t, state) -> (y_t, state)."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from noisylearn.networks.spiking import Reset, snntorch_library

NeuronState = tuple[Float[Tensor, "batch ..."], ...]
State = tuple[NeuronState, ...]


class Neurons(nn.Module):
    """A population of snnTorch neurons, with what of them the next stage sees and what they remember.

        u_t = alpha u_{t-1} + x_t + V s_{t-1} + c,   v_t = beta v_{t-1} + u_t,   s_t = v_t > threshold

    The next stage sees the spikes s_t, or the membrane potential v_t of neurons that never fire. The state is the tuple
    (s_t, u_t, v_t), without what these neurons do not have: s_t where nothing feeds back, u_t without alpha.

    Args:
        beta: decay of the membrane potential per step, one number or one per neuron.
        threshold: one number or one per neuron, not negative; None for neurons that never fire.
        alpha: decay of the synaptic current per step; None without one.
        reset: "zero" sets v_t to zero at a spike; "subtract" subtracts the threshold from v_{t+1}.
        recurrent: V and c; None for none.

    Raises:
        UserError: snnTorch is not installed.
    """

    def __init__(
        self,
        beta: Float[Tensor, "..."],
        threshold: Float[Tensor, "..."] | None = None,
        alpha: Float[Tensor, "..."] | None = None,
        reset: Reset = "zero",
        recurrent: nn.Linear | None = None,
    ) -> None:
        super().__init__()
        options: dict[str, Any] = {"beta": beta, "reset_mechanism": "none"}
        if threshold is not None:
            options |= {"threshold": threshold, "reset_mechanism": reset, "reset_delay": reset == "subtract"}
        snntorch = snntorch_library()
        self.neurons = snntorch.Leaky(**options) if alpha is None else snntorch.Synaptic(alpha=alpha, **options)
        self.recurrent = recurrent
        self.fires, self.n_variables = threshold is not None, 1 if alpha is None else 2

    def forward(
        self, x: Float[Tensor, "batch ..."], state: NeuronState | None = None
    ) -> tuple[Float[Tensor, "batch ..."], NeuronState]:
        """Run one step.

        Args:
            x: input currents.
            state: as the last step returned it; None for neurons at rest.

        Returns:
            Spikes or membrane potentials, and the new state.
        """
        if state is None:
            state = tuple(torch.zeros_like(x) for _ in range(self.n_variables + (self.recurrent is not None)))
        if self.recurrent is not None:
            before, *state_of_neurons = state
            spikes, *after = self.neurons(x + self.recurrent(before), *state_of_neurons)
            return spikes, (spikes, *after)
        spikes, *after = self.neurons(x, *state)
        return (spikes if self.fires else after[-1]), tuple(after)


class Scaled(nn.Module):
    """A fixed factor on every value: y = factor * x.

    Args:
        factor: in the shape of one sample.
    """

    factor: Tensor

    def __init__(self, factor: Float[Tensor, "..."]) -> None:
        super().__init__()
        self.register_buffer("factor", factor)

    def forward(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """Multiply.

        Args:
            x: samples.
        """
        return self.factor * x


class Chain(nn.Module):
    """Stages that run one after the other in every step; `Neurons` among them keep a state.

    Args:
        stages: name -> module, in order.
    """

    def __init__(self, stages: Mapping[str, nn.Module]) -> None:
        super().__init__()
        for name, stage in stages.items():
            self.add_module(name, stage)

    def forward(
        self, x: Float[Tensor, "batch ..."], state: State | None = None
    ) -> tuple[Float[Tensor, "batch ..."], State]:
        """Run one step.

        Args:
            x: inputs of the step.
            state: as the last step returned it, one tuple per `Neurons`; None for neurons at rest.

        Returns:
            Outputs of the last stage, and the new state.
        """
        new: list[NeuronState] = []
        for stage in self.children():
            if isinstance(stage, Neurons):
                x, after = stage(x, None if state is None else state[len(new)])
                new.append(after)
            else:
                x = stage(x)
        return x, tuple(new)
