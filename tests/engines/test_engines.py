"""Engines: the same outcomes everywhere, lost processes, and what they refuse before anything is carried out."""

import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.jobs import Seen, doubled, is_faulty, is_mistaken, job, lost, runs_away, threads, waits

from noisylearn.engines import Here, Processes, chosen_engine, dask_cluster, site, slurm
from noisylearn.engines.dask_cluster import Dask
from noisylearn.engines.jobs import LIVES, now_and_then
from noisylearn.engines.slurm import Slurm
from noisylearn.ground.errors import UserError

TESTS = Path(__file__).parents[1]
ENGINES = {
    "here": lambda folder: Here(),
    "processes": lambda folder: Processes(2),
    "dask": lambda folder: Dask(folder, 2),
    "slurm, local": lambda folder: Slurm(folder, 3, cluster="local"),
    "slurm, debug": lambda folder: Slurm(folder, 2, cluster="debug"),
    "slurm": lambda folder: Slurm(folder, 2),
}


@pytest.fixture(autouse=True)
def _workers_find_the_jobs(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{TESTS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")


@pytest.fixture
def with_slurm(tmp_path, monkeypatch):
    """Programs named sbatch, srun, sacct and scancel, which run an array on this machine as SLURM would."""
    programs = {
        "sbatch": r"""
            script=$1; job=$$
            tasks=$(sed -n 's/^#SBATCH --array=0-\([0-9]*\).*/\1/p' "$script")
            echo "Submitted batch job $job"
            for task in $(seq 0 "${tasks:-0}"); do
                export SLURM_JOB_ID=${job}${task}; name=$job
                if [ -n "$tasks" ]; then export SLURM_ARRAY_JOB_ID=$job SLURM_ARRAY_TASK_ID=$task; name=${job}_$task
                else SLURM_JOB_ID=$job; fi
                { bash "$script" && state=COMPLETED || state=FAILED; echo "$name|$state|here" >> "$0.ended"; } \
                    > /dev/null 2>&1 < /dev/null &
            done
        """,
        "srun": r"""
            export SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0 SLURM_PROCID=0 SLURM_LOCALID=0
            while [ "${1#--}" != "$1" ]; do case $1 in --output|--error) shift 2;; *) shift;; esac; done
            sleep 0.5  # so that the pickle is there under its last name
            exec "$@"
        """,
        "sacct": r"""
            echo 'JobID|State|NodeList'
            cat "${0%/*}/sbatch.ended" 2> /dev/null
            true
        """,
        "scancel": "true",
    }
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.slow
@pytest.mark.parametrize("name", ENGINES)
def test_jobs_end_alike_on_every_engine(name, tmp_path, with_slurm):
    """In the order of the jobs, whatever became of others; warnings arrive, and the watch hears of every end."""
    jobs = [job(doubled, 3), job(runs_away), job(is_mistaken), job(is_faulty), job(doubled, 4, label="last")]
    seen = Seen()
    with pytest.warns(UserWarning, match="^careful$"):
        outcomes = ENGINES[name](tmp_path).run(jobs, seen)
    assert [outcome.end for outcome in outcomes] == ["done", "stopped", "refused", "failed", "done"]
    assert [outcome.value for outcome in outcomes] == [6, None, None, None, 8]
    assert [outcome.reason for outcome in outcomes[:3]] == ["", "it ran away", "no such task"]
    assert re.match(r"ZeroDivisionError: division by zero \(jobs.py, line \d+\)", outcomes[3].reason)
    assert seen.expected == 5
    assert seen.ends == {one.label: outcome.reason for one, outcome in zip(jobs, outcomes, strict=True)}
    if not name.startswith("slurm"):
        assert ("last", 3, 3, "at 2") in seen.steps
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".site")]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["processes", "dask", "slurm, local", "slurm"])
def test_another_process_goes_on_where_one_was_lost(name, tmp_path, with_slurm, monkeypatch):
    monkeypatch.setattr("submitit.core.core.Job._results_timeout_s", 1)  # it waits for results of slow file systems
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    jobs = [job(lost, str(tmp_path / "a"), 1), job(doubled, 3), job(lost, str(tmp_path / "b"), 99, label="always")]
    seen = Seen()
    outcomes = ENGINES[name](tmp_path).run(jobs, seen)
    assert [outcome.end for outcome in outcomes] == ["done", "done", "lost"]
    assert outcomes[0].value == 2 or (name == "dask" and outcomes[0].value > 2)  # a result is lost with its worker
    assert outcomes[1].value == 6
    assert LIVES <= len(list((tmp_path / "b").iterdir())) <= LIVES + 1  # the limit of Dask is one more
    assert seen.ends["always"] == outcomes[2].reason != ""
    if name == "processes":
        assert "killed by SIGKILL" in outcomes[2].reason


@pytest.mark.slow
@pytest.mark.parametrize("name", ["processes", "dask"])
def test_threads_of_workers(name, tmp_path):
    engine = {"processes": Processes(1, 2), "dask": Dask(tmp_path, 1, 2)}[name]
    assert engine.run([job(threads)], Seen())[0].value == 2


@pytest.mark.slow
def test_workers_end_with_the_process_that_sent_their_jobs(tmp_path):
    """Killed with a signal that cannot be caught, both while a job runs and while its worker waits for one."""
    script = tmp_path / "sender.py"
    script.write_text(
        "from support.jobs import Seen, job, waits\nfrom noisylearn.engines import Processes\n"
        "if __name__ == '__main__':\n"
        f"    Processes(2).run([job(waits, {str(tmp_path / 'a')!r}), job(waits, {str(tmp_path / 'b')!r}, label='b')], "
        "Seen())\n"
    )
    sender = subprocess.Popen([sys.executable, script])
    _until(lambda: all((tmp_path / name).exists() and (tmp_path / name).read_text() for name in "ab"))
    workers = [int((tmp_path / name).read_text()) for name in "ab"]
    sender.kill()
    sender.wait()
    _until(lambda: not any(map(_is_there, workers)))


def _until(holds, seconds=60):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


def _is_there(process):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False


def test_a_report_passes_on_the_last_step():
    told = []
    report = now_and_then(lambda *step: told.append(step), every_s=100)
    for step in range(1, 6):
        report(step, 5, "")
    assert [step for step, *_ in told] == [1, 5]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"name": "ray"}, "unknown engine 'ray'; known: dask, local, slurm"),
        ({"workers": 0}, "--workers 0: give 1 to"),
        ({"threads": 10**9}, "--threads 1000000000: give 1 to"),
        ({"name": "local", "address": "tcp://a:1"}, "--address goes with --engine dask"),
        ({"workers": 2, "address": "tcp://a:1"}, "--workers: the cluster at --address has its own"),
        ({"name": "dask", "slurm": {"partition": "a"}}, "--slurm goes with --engine slurm"),
        ({"slurm": {"cluster": "lokal"}}, "unknown cluster 'lokal'; did you mean local?"),
    ],
)
def test_options_that_do_not_go_together(options, named, tmp_path):
    with pytest.raises(UserError, match=re.escape(named)):
        chosen_engine(tmp_path, **options)


@pytest.mark.parametrize(("name", "package"), [("dask", "distributed"), ("slurm", "submitit")])
def test_an_engine_that_is_not_installed_names_the_extra(name, package, tmp_path, monkeypatch):
    monkeypatch.setattr("noisylearn.engines.find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"needs the package {package}: pip install '\.\[{name}\]'"):
        chosen_engine(tmp_path, name)


def test_the_engine_that_options_ask_for(tmp_path):
    assert isinstance(chosen_engine(tmp_path), Here)
    assert chosen_engine(tmp_path, workers=3) == Processes(3, 1)
    assert chosen_engine(tmp_path, threads=2) == Processes(1, 2)
    assert chosen_engine(tmp_path, address="tcp://a:1") == Dask(tmp_path, 1, 1, "tcp://a:1")
    assert chosen_engine(tmp_path, slurm={"time": "9", "cluster": "debug"}, workers=4) == Slurm(
        tmp_path, 4, 1, {"time": "9"}, "debug"
    )


class TestDask:
    def test_no_scheduler_answers(self, tmp_path, monkeypatch):
        monkeypatch.setattr(dask_cluster, "ANSWERS_WITHIN_S", 0.5)
        with pytest.raises(UserError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9 "):
            Dask(tmp_path, address="tcp://127.0.0.1:9").run([job(doubled, 1)], Seen())
        with pytest.raises(UserError, match="no Dask scheduler answers at nonsense "):
            Dask(tmp_path, address="nonsense").run([job(doubled, 1)], Seen())

    @pytest.mark.slow
    def test_workers_that_cannot_carry_out_the_jobs(self, tmp_path, monkeypatch):
        """No workers, workers of several threads, of another version, or without the folder: before any job begins."""
        from distributed import LocalCluster

        monkeypatch.setattr(dask_cluster, "ANSWERS_WITHIN_S", 5)
        asked, seen = [job(doubled, 1)], Seen()
        for workers, fault in (
            (0, "the Dask scheduler has no workers: start some"),
            (1, "has 2 threads, in which runs"),
        ):
            with (
                LocalCluster(n_workers=workers, threads_per_worker=2, dashboard_address=None) as cluster,
                pytest.raises(UserError, match=fault),
            ):
                Dask(tmp_path, address=cluster.scheduler_address).run(asked, seen)
        with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
            engine = Dask(tmp_path, address=cluster.scheduler_address)
            with monkeypatch.context() as patch:
                patch.setattr(site, "__version__", "99.0")
                with pytest.raises(UserError, match=r"has noisylearn \S+, not 99.0: install the same versions there"):
                    engine.run(asked, seen)
            with monkeypatch.context() as patch:
                patch.setattr(site.Path, "resolve", lambda self: Path("/nowhere"))
                with pytest.raises(UserError, match="does not see folder /nowhere: give an --out that all machines"):
                    engine.run(asked, seen)
        assert seen.expected == 0

    @pytest.mark.slow
    def test_a_scheduler_that_ends_is_one_message(self, tmp_path, capfd):
        dask = [sys.executable, "-m", "dask"]
        scheduler = subprocess.Popen([*dask, "scheduler", "--port", "0", "--no-dashboard", "--scheduler-file",
                                      str(tmp_path / "scheduler.json")], stderr=subprocess.DEVNULL)  # fmt: skip
        _until((tmp_path / "scheduler.json").exists)
        address = re.search(r'"address": "(\S+)"', (tmp_path / "scheduler.json").read_text())[1]
        worker = subprocess.Popen([*dask, "worker", address, "--nthreads", "1", "--no-dashboard"],
                                  stderr=subprocess.DEVNULL)  # fmt: skip

        class Killing(Seen):
            def running(self, *step):
                scheduler.send_signal(signal.SIGKILL)

        try:
            with pytest.raises(UserError, match="the Dask scheduler has ended; what was done is kept"):
                Dask(tmp_path, address=address).run([job(waits, str(tmp_path / "process"))], Killing())
        finally:
            for process in (scheduler, worker):
                process.kill()
                process.wait()
        assert "Traceback" not in capfd.readouterr().err


class TestSlurm:
    def test_the_script(self, tmp_path):
        engine = Slurm(tmp_path, 3, 4, {"partition": "gpu", "gpus-per-node": "1", "time": "90", "reservation": "mine"})
        script = engine.script(10)
        for line in ("array=0-9%3", "cpus-per-task=4", "partition=gpu", "gpus-per-node=1", "time=90"):
            assert f"#SBATCH --{line}\n" in script
        assert "#SBATCH --reservation=mine\n" in script
        assert f"-m submitit.core._submit {tmp_path / 'slurm'}" in script
        assert "--array" not in engine.script(1)

    def test_refusals(self, tmp_path, monkeypatch):
        with pytest.raises(UserError, match="--slurm time=1:00:00: give whole minutes"):
            Slurm(tmp_path, options={"time": "1:00:00"}).script(1)
        monkeypatch.setattr(slurm.shutil, "which", lambda name: None)
        with pytest.raises(UserError, match="no srun on this machine"):
            Slurm(tmp_path).run([job(doubled, 1)], Seen())

    def test_jobs_that_slurm_does_not_take(self, tmp_path, with_slurm):
        sbatch = tmp_path / "bin" / "sbatch"
        sbatch.write_text("#!/bin/bash\necho 'invalid partition specified' >&2\nexit 1\n")
        with pytest.raises(UserError, match=r"SLURM does not take the jobs: .*invalid partition specified"):
            Slurm(tmp_path).run([job(doubled, 1)], Seen())


def test_a_site_tells_what_a_process_lacks(tmp_path):
    with site.site(tmp_path) as here:
        assert here.fault() == ""
    assert "does not see folder" in here.fault()
    assert not list(tmp_path.iterdir())
