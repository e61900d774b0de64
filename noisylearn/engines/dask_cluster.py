"""The engine of a Dask cluster: one that runs already, found by its address, or a new one on this machine."""

import logging
import secrets
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch
from distributed import Client, Future, LocalCluster, get_worker
from distributed.comm import CommClosedError

from noisylearn.engines.jobs import Job, Outcome, Watch, carried_out, now_and_then, warnings_to
from noisylearn.engines.site import Site, site
from noisylearn.ground.errors import UserError, shortened
from noisylearn.ground.interrupt import interrupt_delayed

ANSWERS_WITHIN_S = 10
AGAIN = "what was done is kept: the same command goes on"


@dataclass(frozen=True)
class Dask:
    """Carries out jobs on a Dask cluster.

    Args:
        folder: of the files that the jobs write, which all workers must see.
        workers: of a new cluster on this machine; not used with an address.
        threads: of torch, in each worker.
        address: of the scheduler of a cluster, such as "tcp://10.0.0.5:8786"; None for a new one.
    """

    folder: Path
    workers: int = 1
    threads: int = 1
    address: str | None = None

    def run(self, jobs: Sequence[Job], watch: Watch) -> list[Outcome]:
        """Carry out jobs; see `noisylearn.engines.jobs.Engine.run`.

        Raises:
            UserError: no scheduler answers, it has no workers, or they lack the versions or the folder of this process;
                or the scheduler ended while the jobs were being carried out.
        """
        handlers = {handler: handler.level for handler in logging.getLogger("distributed").handlers}
        for handler in handlers:  # all loggers of Dask have the same; of what was lost they log tracebacks
            handler.setLevel(logging.CRITICAL)
        with site(self.folder) as here, self._client(len(jobs)) as client:
            try:
                _check_workers(client, here)
                watch.expect(len(jobs))
                outcomes = _Errand(client, jobs, watch).outcomes(here, self.threads)
            except (CommClosedError, CancelledError):
                raise UserError(f"the Dask scheduler has ended; {AGAIN}") from None
        for handler, level in handlers.items():  # not after Ctrl-C, when they would log how workers ended
            handler.setLevel(level)
        return outcomes

    @contextmanager
    def _client(self, jobs: int) -> Iterator[Client]:
        if self.address is not None:
            try:
                client = Client(self.address, timeout=ANSWERS_WITHIN_S, set_as_default=False)
            except (OSError, ValueError, TypeError) as error:
                raise UserError(
                    f"no Dask scheduler answers at {shortened(self.address)} ({shortened(str(error), 200)}): start one "
                    "with 'dask scheduler', or give the address that it prints"
                ) from None
            with client:
                yield client
            return
        with _local_cluster(min(self.workers, jobs)) as cluster, Client(cluster, set_as_default=False) as client:
            yield client


@contextmanager
def _local_cluster(workers: int) -> Iterator[LocalCluster]:
    """A cluster on this machine. Ctrl-C waits until it has started: Dask closes no half of one."""
    with ExitStack() as stack:
        with interrupt_delayed():
            cluster = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
            stack.callback(cluster.close)
        yield cluster


def _check_workers(client: Client, here: Site) -> None:
    """Raises UserError unless there are workers, and each of them can carry out the jobs of a site."""
    try:
        client.wait_for_workers(1, timeout=ANSWERS_WITHIN_S)
    except TimeoutError:
        raise UserError(
            "the Dask scheduler has no workers: start some with 'dask worker ADDRESS --nthreads 1'"
        ) from None
    for address, facts in client.scheduler_info(n_workers=-1)["workers"].items():
        if facts["nthreads"] != 1:
            raise UserError(
                f"Dask worker {address} has {facts['nthreads']} threads, in which runs would disturb each other: start "
                "it with --nthreads 1, and more workers in place of threads"
            )
    for address, fault in client.run(here.fault, on_error="return").items():
        if isinstance(fault, OSError):
            continue  # it has just ended; every job asks once more
        if isinstance(fault, Exception):
            fault = (
                f"worker cannot load this noisylearn ({shortened(str(fault), 200)}): install the same versions there"
            )
        if fault:
            raise UserError(f"Dask worker {address}: {fault}")


class _Errand:
    """The jobs of one call on a cluster; all that happens to them arrives in one queue."""

    def __init__(self, client: Client, jobs: Sequence[Job], watch: Watch) -> None:
        self.client, self.jobs, self.watch = client, jobs, watch
        self.topic = f"noisylearn-{secrets.token_hex(6)}"
        self.news: SimpleQueue[tuple[str, int, Any]] = SimpleQueue()

    def outcomes(self, here: Site, threads: int) -> list[Outcome]:
        self.client.subscribe_topic(self.topic, lambda event: self.news.put(event[1]))
        futures = []
        for number, job in enumerate(self.jobs):
            key = f"{self.topic}-{number}"
            future = self.client.submit(_there, job, here, threads, self.topic, number, key=key, pure=False)
            future.add_done_callback(lambda ended, number=number: self.news.put(("ended", number, ended)))
            futures.append(future)
        found: dict[int, Outcome] = {}
        while len(found) < len(self.jobs):
            what, number, told = self.news.get()
            if what == "ended":
                found[number] = _outcome(told)
                self.watch.ended(self.jobs[number].label, found[number].reason)
            elif what == "warned":
                warnings.warn(told, stacklevel=4)
            elif number not in found:
                self.watch.running(self.jobs[number].label, *told)
        return [found[number] for number in range(len(self.jobs))]


def _outcome(future: Future) -> Outcome:
    """How a job ended. Raises CancelledError where the whole cluster has."""
    try:
        return future.result()
    except CancelledError:
        raise
    except Exception as error:  # whatever kept a worker from returning an outcome
        return Outcome("lost", reason=shortened(str(error), 300))


def _there(job: Job, here: Site, threads: int, topic: str, number: int) -> Outcome:
    """Carry out a job on a worker."""
    if fault := here.fault():
        return Outcome("refused", reason=fault)
    torch.set_num_threads(threads)
    worker = get_worker()

    def tell(what: str, told: Any) -> None:
        worker.log_event(topic, (what, number, told))

    with warnings_to(lambda text: tell("warned", text)):
        return carried_out(job, now_and_then(lambda *step: tell("running", step), every_s=1.0))
