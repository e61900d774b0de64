"""Whether a model's output is a function of each sample alone, which comparing passes requires."""

import copy

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from noisylearn.chips.execution.calls import not_taken, one_sample_each, step_by_step
from noisylearn.ground.errors import UserError

# What torch raises for inputs that do not fit.
REFUSALS = (RuntimeError, ValueError, IndexError, NotImplementedError)


def unwatched(model: nn.Module) -> nn.Module:
    """A copy without hooks, so that a probe runs no hook and leaves no trace in the model.

    Args:
        model: the network.

    Returns:
        The copy, or the model itself where torch cannot copy it.
    """
    try:
        twin = copy.deepcopy(model)
    except RuntimeError:  # of weights that a hook computes, which torch does not copy
        return model
    for module in twin.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    return twin


def two_samples(x: Shaped[Tensor, "batch ..."]) -> Shaped[Tensor, "2 ..."]:
    """The first two samples; a single one, twice, since one alone could broadcast where more cannot.

    Args:
        x: (batch, ...).

    Returns:
        (2, ...).
    """
    return x[:2] if len(x) > 1 else torch.cat([x, x])


@torch.no_grad()
def check_pure(model: nn.Module, x: Shaped[Tensor, "batch ..."], in_time: bool) -> None:
    """Check that a model takes such inputs, and that its output is a function of each sample alone.

    Args:
        model: the network.
        x: inputs of one step, (batch, ...).
        in_time: whether the model is one in time.

    Raises:
        UserError: it does not, or is not.
    """
    twin, probe = unwatched(model), two_samples(x)
    step = step_by_step(twin) if in_time else one_sample_each(twin)
    try:
        (found, _), (again, _), (alone, _) = step(probe, None), step(probe, None), step(probe[:1], None)
    except UserError:
        raise
    except REFUSALS as error:
        raise not_taken(x, in_time, str(error).partition("\n")[0] or type(error).__name__) from error
    if found.dim() == 0 or len(found) != len(probe):
        raise not_taken(x, in_time, f"for 2 samples it gave an output of shape {tuple(found.shape)}, not (2, ...)")
    for other, what in (
        (again, "draws random numbers or keeps a state in its forward"),
        (alone, "mixes the samples of a batch in its forward"),
    ):
        mine = found[: len(other)]
        if mine.shape != other.shape or not torch.allclose(mine, other, rtol=1e-3, atol=1e-5, equal_nan=True):
            raise UserError(
                f"the model {what}, so that passes cannot be compared; noise belongs into the profile, a state into "
                "forward(x_t, state) -> (y_t, state)"
            )
