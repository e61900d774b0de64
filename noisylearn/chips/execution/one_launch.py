"""All steps of a recurrent network in one launch of a kernel, where that serves it."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from noisylearn.chips.execution.stack import Rows, StackedForward
from noisylearn.networks.read_afterwards import has_hooks
from noisylearn.networks.recurrent import HIDDEN, RNN, State

MOST_UNITS = 128  # whose weights stay in the cache of one block of an H100, and whose sums in its registers
READOUT = "readout"  # layer of the network


class OneLaunch:
    """Runs steps by the recurrent kernel.

    It serves `noisylearn.networks.RNN` with one layer of tanh units where weights and noise of all steps are known
    before the first. The noise is drawn before, from the same streams as without the kernel; products of the inputs and
    of the readout are taken for all steps together, in plain torch.

    Args:
        model: the network.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def not_served(self) -> str:
        """Why the network's steps run one by one; empty where they may run in one launch."""
        model = self._model
        if type(model) is not RNN:
            return "the network is no networks.RNN"
        if len(model.sizes) > 1 or model.sizes[0] > MOST_UNITS or type(model.activation) is not nn.Tanh:
            return f"the kernel has one layer of at most {MOST_UNITS} tanh units"
        modules = list(model.modules())
        if len(modules) > 4 or any(has_hooks(module) or "forward" in vars(module) for module in modules):
            return "the network has a decorrelation, hooks or a forward of its own"
        dtype = model.readout.weight.dtype
        return "" if dtype == torch.float32 else f"weights are {dtype}, those of kernels torch.float32"

    def serves(self, forward: StackedForward, x: Shaped[Tensor, "time batch ..."]) -> bool:
        """Whether the steps of a forward may run in one launch.

        Args:
            forward: the forward.
            x: stacked inputs, (time, batch x passes, ...).
        """
        is_plain = x.dim() == 3 and x.dtype == torch.float32 and not torch.is_grad_enabled()
        return is_plain and forward.is_known_ahead and not self.not_served()

    def run(
        self, forward: StackedForward, x: Float[Tensor, "time batch n_in"], state: State | None
    ) -> tuple[Float[Tensor, "_ n_out"], State]:
        """The steps of a forward.

        Args:
            forward: a forward that is served.
            x: stacked inputs, (time, batch x passes, inputs).
            state: of the network before the first step.

        Returns:
            Outputs of all steps, (steps x batch x passes, outputs), and the state of the network after the last.
        """
        model = self._model
        assert isinstance(model, RNN)
        n_units, n_out = model.sizes[0], model.readout.out_features
        ahead = forward.ahead({HIDDEN: torch.Size([n_units]), READOUT: torch.Size([n_out])})
        start = x.new_zeros(x.shape[1], n_units) if state is None else state[0]
        rows, end = _rows(ahead[HIDDEN], ahead[READOUT], x, start)
        forward.ran(rows, READOUT)
        return rows[READOUT][1], (end,)


def _rows(
    hidden: Mapping[str, Tensor | None], readout: Mapping[str, Tensor | None], x: Tensor, start: Tensor
) -> tuple[Rows, Tensor]:
    """Inputs and pre-activations of both layers in all steps, and the last state."""
    from noisylearn.kernels.on_gpu.recurrent import recurrent  # with Triton, which few installations have

    weight, n_in = hidden["weight"], x.shape[2]
    assert weight is not None
    drive = _product(x.flatten(0, 1), {**hidden, "weight": weight[:, :n_in]})
    activities, states = recurrent(drive.unflatten(0, x.shape[:2]), weight[:, n_in:], start)
    inputs = torch.cat([x, torch.cat([start.unsqueeze(0), states[:-1]])], 2).flatten(0, 1)
    seen = states.flatten(0, 1)
    return {HIDDEN: (inputs, activities.flatten(0, 1)), READOUT: (seen, _product(seen, readout))}, states[-1]


def _product(rows: Tensor, layer: Mapping[str, Tensor | None]) -> Tensor:
    """Pre-activations of a layer with its bias and noise."""
    weight, noise = layer["weight"], layer["noise"]
    assert weight is not None
    y = nn.functional.linear(rows, weight, layer["bias"])
    return y if noise is None else y + noise
