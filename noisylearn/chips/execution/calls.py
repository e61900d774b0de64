"""How a model is called for one step, and the errors where it does not answer as it should."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from noisylearn.chips.segments import Segment
from noisylearn.ground.errors import UserError

ALONG_SEQUENCES = "a network in time goes along sequences: rule.run, chip.follow, or calibrate(x, in_time=True)"
Step = Callable[[Tensor, Any], tuple[Tensor, Any]]  # (x_t, state) -> (y_t, state)


def one_sample_each(model: nn.Module) -> Step:
    """Steps of a network without time.

    Args:
        model: forward(x) -> y.

    Returns:
        A function (x, state) -> (y, None); it raises UserError where the model's output is not a tensor.
    """

    def step(x: Tensor, state: Any) -> tuple[Tensor, Any]:
        output = model(x)
        if not isinstance(output, Tensor):
            raise UserError(f"{type(model).__name__} gave {type(output).__name__}, not a tensor; {ALONG_SEQUENCES}")
        return output, None

    return step


def step_by_step(model: nn.Module, run: Callable[..., Any] | None = None) -> Step:
    """Steps of a network in time.

    Args:
        model: forward(x_t, state) -> (y_t, state).
        run: a part of the model to call in its place, hidden(x_t, state) -> (hidden_t, state).

    Returns:
        A function (x_t, state) -> (y_t, state); it raises UserError where the model's output is something else.
    """
    call = "forward(x_t, state) has to return (y_t, state)"
    if run is not None:
        call = "hidden(x_t, state) has to return (hidden_t, state), hidden_t one tensor"
    taken = run or model

    def step(x: Tensor, state: Any) -> tuple[Tensor, Any]:
        found = taken(x, state)
        if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], Tensor)):
            raise UserError(f"{type(model).__name__} in time: {call}")
        return found

    return step


def misfit(model: nn.Module, segment: Segment, error: Exception) -> Exception:
    """An error of a model's forward as an error of the user's.

    Args:
        model: the network.
        segment: its input.
        error: what it raised.

    Returns:
        A UserError that says what is wrong with the model or its input; other errors as they are.
    """
    reason, x = str(error).splitlines()[0] if str(error) else "", segment.inputs
    name = type(model).__name__
    if isinstance(error, TypeError) and "positional argument" in reason:
        if segment.in_time:
            return UserError(f"{name} is no network in time: it needs forward(x_t, state) -> (y_t, state)")
        return UserError(f"{name} takes more than an input; {ALONG_SEQUENCES}")
    if isinstance(error, RuntimeError) and any(word in reason for word in ("shape", "size", "dtype")):
        return not_taken(x[0], segment.in_time, reason)
    return error


def not_taken(x: Tensor, in_time: bool, reason: str) -> UserError:
    """The error for inputs that a model does not take.

    Args:
        x: inputs of one step, (batch, ...).
        in_time: whether they are steps of sequences.
        reason: what the model said.
    """
    what, shape = "steps" if in_time else "an input", tuple(x.shape)
    hint = "" if x.is_floating_point() else "; where it wants real numbers, give x.float()"
    return UserError(f"the model does not take {what} of shape {shape}, {x.dtype}: {reason}{hint}")
