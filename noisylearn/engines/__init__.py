"""Engines carry out jobs that do not depend on each other: here, in processes, on a Dask cluster, or under SLURM.

A job is a run, or a part of a study: it has a file of its own, from which another process goes on where one was lost.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from noisylearn.engines.here import Here
from noisylearn.engines.jobs import Engine, Job, Outcome, Watch
from noisylearn.engines.processes import Processes
from noisylearn.ground.errors import UserError, not_installed, unknown_name

EngineName = Literal["local", "dask", "slurm"]
MOST = 4096  # workers, and threads of each

__all__ = ["Engine", "EngineName", "Here", "Job", "Outcome", "Processes", "Watch", "chosen_engine"]


def chosen_engine(
    folder: Path,
    name: str | None = None,
    workers: int | None = None,
    threads: int | None = None,
    address: str | None = None,
    slurm: Mapping[str, str] | None = None,
) -> Engine:
    """The engine that options ask for; without any, this process.

    Args:
        folder: of the files that the jobs write.
        name: "local", "dask" or "slurm"; None for the one that the other options belong to.
        workers: jobs at the same time; None for one.
        threads: of torch, in each worker; None for one.
        address: of the scheduler of a Dask cluster.
        slurm: options of sbatch, and "cluster" as for `noisylearn.engines.slurm.Slurm`.

    Returns:
        The engine.

    Raises:
        UserError: options do not go together, or the engine's package is not installed.
    """
    options = dict(slurm or {})
    name = name or ("dask" if address is not None else "slurm" if options else "local")
    if name not in get_args(EngineName):
        raise unknown_name("engine", name, get_args(EngineName))
    for option, value in (("--workers", workers), ("--threads", threads)):
        if value is not None and not 1 <= value <= MOST:
            raise UserError(f"{option} {value}: give 1 to {MOST}")
    _check_together(name, workers, address, options)
    if name == "local":
        return Here() if workers is None and threads is None else Processes(workers or 1, threads or 1)
    if name == "dask":
        _check_installed("distributed", name)
        from noisylearn.engines.dask_cluster import Dask

        return Dask(folder, workers or 1, threads or 1, address)
    _check_installed("submitit", name)
    from noisylearn.engines.slurm import Slurm

    cluster = options.pop("cluster", "slurm")
    return Slurm(folder, workers or 1, threads or 1, options, cluster)


def _check_together(name: str, workers: int | None, address: str | None, slurm: Mapping[str, str]) -> None:
    if address is not None and name != "dask":
        raise UserError(f"--address goes with --engine dask, not {name}")
    if address is not None and workers is not None:
        raise UserError("--workers: the cluster at --address has its own; leave it out")
    if slurm and name != "slurm":
        raise UserError(f"--slurm goes with --engine slurm, not {name}")


def _check_installed(package: str, extra: str) -> None:
    if find_spec(package) is None:
        raise not_installed(f"--engine {extra} needs", package, extra)
