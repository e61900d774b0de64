"""The engine of a SLURM cluster: jobs are submitted as arrays by submitit, which can also run them without SLURM."""

import shlex
import shutil
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import submitit
import torch
from submitit.core.core import Executor
from submitit.core.utils import FailedJobError, FailedSubmissionError, UncompletedJobError
from submitit.slurm import slurm as sbatch

from noisylearn.engines.jobs import LIVES, Job, Outcome, Watch, carried_out, warnings_to
from noisylearn.engines.site import Site, site
from noisylearn.ground.errors import UserError, shortened, unknown_name

EXECUTORS = {
    "slurm": submitit.SlurmExecutor,
    "local": submitit.LocalExecutor,
    "debug": submitit.DebugExecutor,
}
LOOK_EVERY_S = 0.5
MINUTES = 240  # of a job, where the user does not say


@dataclass(frozen=True)
class Slurm:
    """Carries out jobs as arrays of SLURM; the logs, and what SLURM is told, go to `slurm/` in the folder.

    Args:
        folder: of the files that the jobs write, which all nodes must see.
        workers: jobs that run at the same time.
        threads: of torch, in each; so many cores it asks for.
        options: of sbatch, such as {"partition": "gpu", "time": "60"} (minutes).
        cluster: "slurm"; "local" runs the jobs as processes of this machine, and "debug" in this process, as submitit
            does to try things without SLURM.

    Raises:
        UserError: there is no such cluster, or no SLURM on this machine.
    """

    folder: Path
    workers: int = 1
    threads: int = 1
    options: Mapping[str, str] = field(default_factory=dict)
    cluster: str = "slurm"

    def __post_init__(self) -> None:
        if self.cluster not in EXECUTORS:
            raise unknown_name("cluster", self.cluster, EXECUTORS)

    def run(self, jobs: Sequence[Job], watch: Watch) -> list[Outcome]:
        """Carry out jobs; see `noisylearn.engines.jobs.Engine.run`.

        Raises:
            UserError: SLURM is not there, or does not take the jobs.
        """
        executor = self._executor()
        found: dict[int, Outcome] = {}
        at_once = len(jobs) if self.cluster == "slurm" else self.workers
        watch.expect(len(jobs))
        with site(self.folder) as here:
            for _ in range(LIVES):
                left = [number for number in range(len(jobs)) if number not in found]
                for start in range(0, len(left), at_once):
                    array = {number: jobs[number] for number in left[start : start + at_once]}
                    _Array(executor, array, here, self.threads, watch).wait_for(found)
        for number, job in enumerate(jobs):
            if number not in found:
                found[number] = Outcome("lost", reason=f"ended {LIVES} times without a result; {self._logs}")
                watch.ended(job.label, found[number].reason)
        return [found[number] for number in range(len(jobs))]

    def script(self, jobs: int) -> str:
        """The script that sbatch would be given.

        Args:
            jobs: how many.
        """
        command = f"{shlex.quote(sys.executable)} -u -m submitit.core._submit {shlex.quote(str(self._slurm_folder))}"
        of_array: dict[str, Any] = {"map_count": jobs} if jobs > 1 else {}
        return sbatch._make_sbatch_string(command, self._slurm_folder, **self._parameters(), **of_array)

    def _executor(self) -> Executor:
        if self.cluster == "slurm" and shutil.which("srun") is None:
            raise UserError(
                "--engine slurm: no srun on this machine; run the command where SLURM is, or --engine local"
            )
        executor = EXECUTORS[self.cluster](self._slurm_folder)
        own = self._parameters()
        try:
            executor.update_parameters(**(own if self.cluster == "slurm" else {"timeout_min": own["time"]}))
        except (TypeError, ValueError) as error:
            raise UserError(f"--slurm: {shortened(str(error), 300)}") from None
        return executor

    @property
    def _slurm_folder(self) -> Path:
        return self.folder.resolve() / "slurm"

    @property
    def _logs(self) -> str:
        return f"what was printed is in {self._slurm_folder}"

    def _parameters(self) -> dict[str, Any]:
        """What the script says; options that submitit does not know go to sbatch as they are."""
        known = sbatch._get_default_parameters()
        given = {key.replace("-", "_"): int(v) if v.isdigit() else v for key, v in self.options.items()}
        if not isinstance(given.get("time", 1), int):
            raise UserError(f"--slurm time={shortened(str(given['time']))}: give whole minutes")
        own = {
            "job_name": "noisylearn",
            "time": MINUTES,
            "cpus_per_task": self.threads,
            "array_parallelism": self.workers,
        }
        others = {key.replace("_", "-"): value for key, value in given.items() if key not in known}
        of_submitit = own | {key: value for key, value in given.items() if key in known}
        return of_submitit | ({"additional_parameters": others} if others else {})


class _Array:
    """Jobs that were submitted together."""

    def __init__(self, executor: Executor, jobs: Mapping[int, Job], here: Site, threads: int, watch: Watch) -> None:
        self.jobs, self.watch = jobs, watch
        self.submitted = {}
        try:
            with executor.batch():
                for number, job in jobs.items():
                    self.submitted[number] = executor.submit(_Task(), job, here, threads)
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            raise UserError(f"SLURM does not take the jobs: {shortened(str(error), 300)}") from None

    def wait_for(self, found: dict[int, Outcome]) -> None:
        """Wait until all have ended, and add what they found; of those that ended without a result, nothing."""
        try:
            while self.submitted:
                for number in [number for number, job in self.submitted.items() if job.done()]:
                    self._take(number, found)
                time.sleep(LOOK_EVERY_S if self.submitted else 0)
        finally:
            for job in self.submitted.values():
                job.cancel(check=False)

    def _take(self, number: int, found: dict[int, Outcome]) -> None:
        try:
            outcome, warned = self.submitted.pop(number).result()
        except UncompletedJobError:
            return
        for text in warned:
            warnings.warn(text, stacklevel=4)
        found[number] = outcome
        self.watch.ended(self.jobs[number].label, outcome.reason)


class _Task(submitit.helpers.Checkpointable):
    """What a node carries out; a job that reaches its time limit is put into the queue again and goes on."""

    def __call__(self, job: Job, here: Site, threads: int) -> tuple[Outcome, list[str]]:
        """Carry out a job: how it ended, and what was warned of."""
        if fault := here.fault():
            return Outcome("refused", reason=fault), []
        torch.set_num_threads(threads)
        warned: list[str] = []
        with warnings_to(warned.append):
            return carried_out(job, lambda done, total, note: None), warned
