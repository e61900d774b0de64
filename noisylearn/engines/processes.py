"""The engine of one machine: worker processes, each of which carries out one job at a time.

Every worker has a pipe of its own, so that one that is killed takes nothing with it, and a worker whose sender has
ended finds its pipe closed and ends too.
"""

import signal
import warnings
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import torch

from noisylearn.engines.jobs import LIVES, Job, Outcome, Watch, carried_out, now_and_then, warnings_to

CLOSED = (EOFError, OSError)  # what a pipe raises when the process at its other end has ended


@dataclass(frozen=True)
class Processes:
    """Carries out jobs in processes of this machine.

    Args:
        workers: how many.
        threads: of torch, in each.
    """

    workers: int
    threads: int = 1

    def run(self, jobs: Sequence[Job], watch: Watch) -> list[Outcome]:
        """Carry out jobs; see `noisylearn.engines.jobs.Engine.run`."""
        watch.expect(len(jobs))
        return _Shift(jobs, watch, self.threads).work(min(self.workers, len(jobs)))


class _Shift:
    """The jobs of one call, and the workers on them."""

    def __init__(self, jobs: Sequence[Job], watch: Watch, threads: int) -> None:
        self.jobs, self.watch, self.threads = jobs, watch, threads
        self.waiting = deque(range(len(jobs)))
        self.lost = [0] * len(jobs)
        self.outcomes: dict[int, Outcome] = {}
        self.busy: dict[Connection, _Worker] = {}

    def work(self, workers: int) -> list[Outcome]:
        try:
            for _ in range(workers):
                self._start(_Worker.new(self.threads))
            while self.busy:
                for pipe in wait(list(self.busy)):
                    self._hear(self.busy[pipe])  # type: ignore[index]
        finally:
            for worker in self.busy.values():
                worker.end()
        return [self.outcomes[number] for number in range(len(self.jobs))]

    def _start(self, worker: "_Worker") -> None:
        """Give a worker the next job, or let it go where none is left."""
        if not self.waiting:
            worker.end()
            return
        worker.job = self.waiting.popleft()
        self.busy[worker.pipe] = worker
        try:
            worker.pipe.send(self.jobs[worker.job])
        except CLOSED:
            self._mourn(worker)

    def _hear(self, worker: "_Worker") -> None:
        job = self.jobs[worker.job]
        try:
            what, told = worker.pipe.recv()
        except CLOSED:
            self._mourn(worker)
            return
        if what == "running":
            self.watch.running(job.label, *told)
        elif what == "warned":
            warnings.warn(told, stacklevel=4)
        else:
            self._settle(worker, told)
            self._start(worker)

    def _mourn(self, worker: "_Worker") -> None:
        """A worker was lost: another goes on with its job, unless too many were lost over it."""
        number = worker.job
        self.lost[number] += 1
        how = worker.end()
        if self.lost[number] < LIVES:
            del self.busy[worker.pipe]
            self.waiting.appendleft(number)
        else:
            reason = f"lost {LIVES} processes over it ({how}); is there memory for so many workers?"
            self._settle(worker, Outcome("lost", reason=reason))
        self._start(_Worker.new(self.threads))

    def _settle(self, worker: "_Worker", outcome: Outcome) -> None:
        del self.busy[worker.pipe]
        self.outcomes[worker.job] = outcome
        self.watch.ended(self.jobs[worker.job].label, outcome.reason)


@dataclass
class _Worker:
    """A process, this end of its pipe, and the number of the job that it works on."""

    process: SpawnProcess
    pipe: Connection
    job: int = -1

    @classmethod
    def new(cls, threads: int) -> "_Worker":
        context = get_context("spawn")  # a fork of a process with threads can hang
        pipe, its_end = context.Pipe()
        process = context.Process(target=_serve, args=(its_end, threads), daemon=True)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # the process inherits it: Ctrl-C
        try:  # reaches the whole group, but ending the workers is for their sender
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        its_end.close()
        return cls(process, pipe)

    def end(self) -> str:
        """End the process; how it ended."""
        self.pipe.close()
        self.process.terminate()
        self.process.join()
        code = self.process.exitcode or 0
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def _serve(pipe: Connection, threads: int) -> None:
    """Carry out the jobs that come through a pipe, until it is closed."""
    torch.set_num_threads(threads)

    def tell(what: str, told: Any) -> None:
        pipe.send((what, told))

    report = now_and_then(lambda *step: tell("running", step))
    try:
        with warnings_to(lambda text: tell("warned", text)):
            while True:
                tell("ended", carried_out(pipe.recv(), report))
    except CLOSED:
        return
