"""Processes that share a run, joined by gloo on this machine, without torchrun: as it would set their environment."""

import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed as dist
from support.small_runs import small_task

from noisylearn import tasks


def in_processes(
    count: int, function: Callable[..., None], *arguments: Any, log: Path, as_torchrun: bool = True
) -> list[int]:
    """Call a function in several processes.

    Args:
        count: of the processes.
        function: what each calls, with the arguments; the cut task is in place.
        log: folder for what they print: `0.out`, `0.err` and so on.
        as_torchrun: whether this process holds the store in which they meet, as torchrun does; else the first does.

    Returns:
        Their exit statuses, negative for a signal.
    """
    context = multiprocessing.get_context("forkserver")
    commands = ["noisylearn.cli.train", "noisylearn.cli.compare"]
    context.set_forkserver_preload([*commands, "torch._dynamo", "pytest"])  # what takes long to import
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    log.mkdir(parents=True, exist_ok=True)
    common = {"WORLD_SIZE": f"{count}", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{store.port}"}
    if as_torchrun:
        common["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    else:
        del store  # the first process makes one at the same port
    places = [{**common, "RANK": str(n), "LOCAL_RANK": str(n)} for n in range(count)]
    processes = [context.Process(target=_child, args=(place, log, function, arguments)) for place in places]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    return [process.exitcode if process.exitcode is not None else 1000 for process in processes]


def _child(environment: dict[str, str], log: Path, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ.update(environment)
    tasks.load = small_task
    for stream, name in ((1, "out"), (2, "err")):
        file = os.open(log / f"{environment['RANK']}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, stream)
    function(*arguments)
    sys.exit(0)


def command(*arguments: str) -> None:
    """The command line, in this process."""
    from noisylearn import cli

    sys.argv = ["noisylearn", *arguments]
    cli.main()
