"""Join the processes that torchrun started, and let one of them alone tell the user why they end."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

from noisylearn.distributed.ranks import ProcessGroup, RankError, Ranks, ToldError, lost
from noisylearn.ground.errors import UserError, shortened

PATIENCE = timedelta(minutes=5)  # with a process that does not answer
HEAD_START_S = 0.5  # of the first process, where all have the same to tell
TOLD = "told"  # key of the store: how many processes have asked whether they are the first
Handler = Callable[[int, FrameType | None], Any] | int | None
NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Place:
    """The place of this process among all, as torchrun states it in the environment.

    Args:
        number: of this process, from 0.
        count: of all processes.
        local: number of this process among those of its machine.
    """

    number: int
    count: int
    local: int


def place() -> Place | None:
    """The place of this process; None where it is alone.

    Raises:
        UserError: the environment states it in part, or as something other than whole numbers that fit each other.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return None
    if missing := [key for key in NEEDED if key not in os.environ]:
        raise UserError(f"WORLD_SIZE is set, but not {', '.join(missing)}: start the processes with torchrun")
    try:
        number, count, local = (int(os.environ.get(key, "0")) for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    except ValueError:
        number, count, local = -1, 0, 0
    if not 0 <= number < count or local < 0:
        raise UserError("RANK and WORLD_SIZE do not fit each other: start the processes with torchrun")
    return Place(number, count, local)


def is_alone() -> bool:
    """Whether this process has a run to itself."""
    return os.environ.get("WORLD_SIZE", "1") == "1"


def is_follower() -> bool:
    """Whether another process, the first, writes the files and speaks to the user."""
    return not is_alone() and os.environ.get("RANK", "0") != "0"


@contextmanager
def joined(patience: timedelta = PATIENCE) -> Iterator[Ranks]:
    """Join the other processes of this run for a block; alone, where torchrun did not start several.

    An error that ends the block is told by one process: the first that comes to it tells it, the others raise a
    `ToldError`. When another process ends, torchrun ends this one too, which is an error like others here.

    Args:
        patience: with a process that does not answer.

    Yields:
        The processes.

    Raises:
        UserError: the environment does not say where this process stands, or the others cannot be reached.
        RankError: an error of this process, which is not the first.
        ToldError: another process tells what went wrong.
    """
    here = place()
    if here is None:
        yield Ranks()
        return
    if here.local < torch.cuda.device_count():
        torch.cuda.set_device(here.local)
    store = _met(here, patience)
    ranks = ProcessGroup(here.number, here.count, here.local)
    before = _on_term(_end)
    try:
        yield ranks
    except Exception as error:
        _on_term(signal.SIG_IGN)  # until this process has told, and ends by itself
        if not _is_first_to_tell(store, here):
            raise ToldError(str(error)) from None
        if here.number and isinstance(error, UserError):
            raise RankError(f"process {here.number}: {error}") from None
        raise
    _on_term(before)
    dist.destroy_process_group()


def _met(here: Place, patience: timedelta) -> dist.Store:
    """The store that all processes share, once they are connected."""
    try:
        store, number, count = next(dist.rendezvous("env://", timeout=patience))
        own = dist.PrefixStore(f"noisylearn/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=own, rank=number, world_size=count, timeout=patience)
    except (RuntimeError, ValueError) as error:
        at = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        first = shortened(next(iter(str(error).splitlines()), ""), 160)
        raise UserError(
            f"process {here.number} of {here.count} cannot join the others at {at} ({first}); see that all were "
            "started, with the same address and port"
        ) from None
    return own


def _is_first_to_tell(store: dist.Store, here: Place) -> bool:
    """Whether no other process has told the user yet; the first process goes before others."""
    if here.number:
        time.sleep(HEAD_START_S)
    try:
        store.set_timeout(timedelta(seconds=5))
        order = store.add(TOLD, 1)
        if not here.number:
            _wait_for_others(store, here.count)
    except RuntimeError:  # the process that holds the store has ended, without a word
        return True
    return bool(order == 1)


def _wait_for_others(store: dist.Store, count: int) -> None:
    """Until all have asked, for a while: without torchrun this process holds the store that they ask."""
    until = time.monotonic() + 4 * HEAD_START_S
    while store.add(TOLD, 0) < count and time.monotonic() < until:
        time.sleep(0.02)


def _end(number: int, frame: FrameType | None) -> None:
    """What SIGTERM does: torchrun sends it where another process has ended."""
    raise lost("this one was told to end")


def _on_term(handler: Handler) -> Handler:
    """Set what SIGTERM does, where this thread may; returns what it did."""
    if threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGTERM, handler) if handler is not None else None
