"""Networks over time whose readout feeds nothing back, so that it may run once for all steps of a sequence."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook


class ReadAfterwards(nn.Module, ABC):
    """A recurrent network with a readout that feeds nothing back.

        h_t, state_t = hidden(x_t, state_{t-1}),   y_t = read(h_t)

    Over a sequence, `read` runs once, on the rows of all steps together, and hooks inside it see those rows. Hooks on
    the network itself make it run step by step.
    """

    @abstractmethod
    def hidden(self, x: Float[Tensor, "batch ..."], state: Any = None) -> tuple[Float[Tensor, "batch ..."], Any]:
        """Run one step up to the readout.

        Args:
            x: inputs of the step.
            state: as the last step returned it; None at the start of a sequence.

        Returns:
            What the readout sees of the step, and the state after it.
        """

    @abstractmethod
    def read(self, hidden: Float[Tensor, "rows ..."]) -> Float[Tensor, "rows n_out"]:
        """Read the outputs, from every row alike.

        Args:
            hidden: what the readout sees: samples of one step, or of all steps of a sequence.

        Returns:
            Outputs of every row.
        """

    def forward(self, x: Float[Tensor, "batch ..."], state: Any = None) -> tuple[Float[Tensor, "batch n_out"], Any]:
        """Run one step.

        Args:
            x: inputs of the step.
            state: as the last step returned it; None at the start of a sequence.

        Returns:
            Outputs of the step, and the state after it.
        """
        hidden, state = self.hidden(x, state)
        return self.read(hidden), state


def parts_of(model: nn.Module) -> tuple[Callable[..., Any], Callable[[Tensor], Tensor]] | None:
    """The methods `hidden` and `read` of a model that may be run by them.

    Args:
        model: any network.

    Returns:
        Both methods; None where the model is not such a network, or where its `forward` is replaced or has hooks.
    """
    if not isinstance(model, ReadAfterwards) or type(model).forward is not ReadAfterwards.forward:
        return None
    return None if has_hooks(model) or "forward" in vars(model) else (model.hidden, model.read)


def has_hooks(module: nn.Module) -> bool:
    """Whether hooks run before or after a module's forward."""
    hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return any(hooks) or _has_any_global_hook()
