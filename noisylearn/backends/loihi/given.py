"""Numbers that a user gives to the emulator: arrays, and finite, before they become integers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisylearn.ground.errors import UserError


def finite_array(what: str, given: Any) -> NDArray[Any]:
    """An array of finite numbers, in its own type.

    Args:
        what: names it in messages, such as "inputs".
        given: an array, a list, or a tensor on the CPU.

    Returns:
        The array.

    Raises:
        UserError: it is none, or some of its numbers are not finite.
    """
    try:
        found = np.asarray(given)
    except (TypeError, ValueError, RuntimeError):
        found = np.array(None)
    if found.dtype.kind not in "biuf":
        raise UserError(f"{what}: no array of numbers; give one of numpy, such as x.detach().cpu().float().numpy()")
    if not np.isfinite(found).all():
        n_wrong = int((~np.isfinite(found)).sum())
        raise UserError(f"{what}: {n_wrong} of {found.size} numbers are not finite (NaN or infinite); remove them")
    return found
