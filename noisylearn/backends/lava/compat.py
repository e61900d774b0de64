"""Imports lava-nc 0.10.0, the last release, on versions of Python and numpy that it does not support."""

import dataclasses
import functools
import importlib
import importlib.metadata
import multiprocessing
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from noisylearn.ground.errors import UserError

VERSION = "0.10.0"
INSTALL = "noisylearn lava install --yes"
_VAR_MODEL = "lava.magma.compiler.var_model"


def is_installed() -> bool:
    """Whether the release of Lava that this package needs is installed."""
    return _installed_version() == VERSION


def load_lava() -> None:
    """Make `import lava...` work in this process; further calls do nothing.

    Lava sets multiprocessing's start method to "fork" for the whole process.

    Raises:
        UserError: Lava is not installed, is another release, or the start method was set before.
    """
    if _VAR_MODEL in sys.modules:
        return
    require_lava()
    method = multiprocessing.get_start_method(allow_none=True)
    if method is not None:
        raise UserError(
            f"multiprocessing already uses the start method '{method}', and Lava sets its own: load Lava before "
            "anything calls set_start_method or starts a process, or use `noisylearn lava run`, which has a process of "
            "its own"
        )
    with _hashable_byte_encoder():
        importlib.import_module(_VAR_MODEL)
    importlib.import_module("lava.magma.core.decorator")  # sets the start method now, not at the first process
    _mend_reshape()
    _mend_wakeups()


def require_lava() -> None:
    """Check that the release of Lava that this package needs is installed.

    Raises:
        UserError: it is not; the message has the command that installs it.
    """
    found = _installed_version()
    if found is None:
        raise UserError(f"Lava is not installed; install it with: {INSTALL}")
    if found != VERSION:
        raise UserError(f"lava-nc {found} is installed, this package needs {VERSION}; install it with: {INSTALL}")


def _installed_version() -> str | None:
    """Version of the installed lava-nc, or None."""
    try:
        return importlib.metadata.version("lava-nc")
    except importlib.metadata.PackageNotFoundError:
        return None


@contextmanager
def _hashable_byte_encoder() -> Iterator[None]:
    """Inside the block, dataclasses give Lava's ByteEncoder a hash: Python 3.11 refuses defaults that have none."""
    original = dataclasses.dataclass

    def dataclass(cls: type | None = None, /, **options: Any) -> Any:
        def wrap(of: type) -> Any:
            wanted = of.__module__ == _VAR_MODEL and of.__name__ == "ByteEncoder"
            return original(of, **({"unsafe_hash": True} | options if wanted else options))

        return wrap if cls is None else wrap(cls)

    dataclasses.dataclass = dataclass
    try:
        yield
    finally:
        dataclasses.dataclass = original


def _mend_reshape() -> None:
    """Replace the calls of Lava's ReshapePort that name an argument which numpy 2.4 no longer has."""
    from lava.magma.core.process.ports.ports import ReshapePort

    def forward(port: Any) -> Callable[[np.ndarray], np.ndarray]:
        return functools.partial(_reshape, shape=port.shape)

    def backward(port: Any) -> Callable[[np.ndarray], np.ndarray]:
        return functools.partial(_reshape, shape=port.old_shape)

    ReshapePort.get_transform_func_fwd = forward
    ReshapePort.get_transform_func_bwd = backward


def _reshape(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """np.reshape with the shape by keyword."""
    return np.reshape(values, shape)


def _mend_wakeups() -> None:
    """Make ports of Lava's channels tell of every message that arrives, and not only of the first of several.

    A selector waits for that. Lava asks whether the port was empty *before* it puts a message there: if the one before
    is taken in between, nobody is told of the next, and the process waits for ever. STOP after the last step does that
    once in some thousand runs of a busy machine.
    """
    from lava.magma.compiler.channels.pypychannel import CspRecvPort, CspSendPort

    def arrived(port: Any, requests: Any) -> None:
        with suppress(EOFError):
            while requests.acquire() and not port._done:
                port._queue.put_nowait(0)
                _tell(port.observer)

    def taken(port: Any, acknowledged: Any) -> None:
        with suppress(EOFError):
            while acknowledged.acquire() and not port._done:
                port._semaphore.release()
                _tell(port.observer)

    CspRecvPort._req_callback = arrived
    CspSendPort._ack_callback = taken


def _tell(observer: Callable[[], None] | None) -> None:
    if observer is not None:
        observer()
