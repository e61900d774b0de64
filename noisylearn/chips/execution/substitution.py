"""Other functions in place of the forward of some modules, for as long as a pass runs."""

import copy
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

Execution = Callable[..., Any]
_CHANGES = threading.Lock()  # held only while a module gets or loses its substitute


class _Substitute:
    """Replaces a module's `forward`: by thread, the executions that were entered and not left yet."""

    def __init__(self, module: nn.Module, own: Execution | None) -> None:
        self._module, self.own = module, own
        self._plain: Execution = own or type(module).forward.__get__(module)
        self.entered: dict[int, list[Execution]] = {}

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        entered = self.entered.get(threading.get_ident())
        return (entered[-1] if entered else self._plain)(*inputs, **options)

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Substitute":
        """Of a model that is copied in the middle of a pass: the copy is in none."""
        return _Substitute(memo[id(self._module)], copy.deepcopy(self.own, memo))


@contextmanager
def substituted(executions: Mapping[nn.Module, Execution]) -> Iterator[None]:
    """Replace the forward of some modules in this thread; hooks of the user's still run around it.

    Passes may be nested, and run in several threads: the innermost of a thread counts, and a thread that runs none sees
    the module as it is.

    Args:
        executions: module -> what runs in place of its forward.
    """
    thread = threading.get_ident()
    with _CHANGES:
        for module, execution in executions.items():
            substitute = vars(module).get("forward")
            if not isinstance(substitute, _Substitute):
                substitute = vars(module)["forward"] = _Substitute(module, substitute)
            substitute.entered.setdefault(thread, []).append(execution)
    try:
        yield
    finally:
        with _CHANGES:
            for module in executions:
                _leave(module, thread)


def _leave(module: nn.Module, thread: int) -> None:
    substitute: _Substitute = vars(module)["forward"]
    substitute.entered[thread].pop()
    if not substitute.entered[thread]:
        del substitute.entered[thread]
    if not substitute.entered:
        del vars(module)["forward"]
        if substitute.own is not None:
            vars(module)["forward"] = substitute.own
