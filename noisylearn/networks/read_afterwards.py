"""Networks in time whose readout feeds nothing back, so that it may run once for all steps."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook


class ReadAfterwards(nn.Module):
    """A network in time with forward(x_t, state) = (read(hidden_t), state), hidden_t and state of hidden(x_t, state).

    `read` takes rows (samples, ...) and treats all of them alike; what it gives does not enter the state. Along a
    sequence it then runs once, over the rows of all steps, and hooks inside it see those. Hooks on the network itself
    make it go step by step.
    """

    def hidden(self, x: Float[Tensor, "batch ..."], state: Any = None) -> tuple[Float[Tensor, "batch ..."], Any]:
        """What the readout sees of one step, (batch, ...), and the state after it."""
        raise TypeError(f"{type(self).__name__} states no hidden(x_t, state)")

    def read(self, hidden: Float[Tensor, "rows ..."]) -> Float[Tensor, "rows n_out"]:
        """Outputs of rows of `hidden`."""
        raise TypeError(f"{type(self).__name__} states no read(hidden)")

    def forward(self, x: Float[Tensor, "batch ..."], state: Any = None) -> tuple[Float[Tensor, "batch n_out"], Any]:
        hidden, state = self.hidden(x, state)
        return self.read(hidden), state


def parts_of(model: nn.Module) -> tuple[Callable[..., Any], Callable[[Tensor], Tensor]] | None:
    """(hidden, read) of a model that may be run by them; None where somebody watches or replaced `forward`."""
    if not isinstance(model, ReadAfterwards) or type(model).forward is not ReadAfterwards.forward:
        return None
    return None if has_hooks(model) or "forward" in vars(model) else (model.hidden, model.read)


def has_hooks(module: nn.Module) -> bool:
    """Whether anything runs beside the forward of a module itself."""
    hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return any(hooks) or _has_any_global_hook()
