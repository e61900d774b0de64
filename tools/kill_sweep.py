"""Kill workers, the sender and the scheduler of a sweep at random moments, and compare with one that ran undisturbed.

python tools/kill_sweep.py --number 10 --seed 0           # two processes of this machine
python tools/kill_sweep.py --number 10 --seed 0 --dask    # a Dask cluster of two workers on loopback

A worker that is killed is replaced while the sweep goes on; after the sender or the scheduler was killed, the same
command goes on. The table and every run file have to be the same bit for bit, whatever was killed when.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from noisylearn.experiments.run_file import OF_THE_OCCASION, RunFile
from noisylearn.ground.tree_file import Tree, differences

SWEEP = """
task = "digits"
rules = ["lf", "danp"]
profiles = ["pcm-nandakumar-2019"]
seeds = [0, 1, 2]
[settings]
epochs = 30
hidden = [40, 30]
batch = 50
[search]
epochs = 10
[search.over]
lr = [3e-3, 1e-2]
"""
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


class Here:
    """Two workers that the sender starts by itself."""

    killed = ("worker", "sender")

    def options(self) -> list[str]:
        """Of the command."""
        return ["--workers", "2"]

    def workers(self, sender: int) -> list[int]:
        """Processes that carry out jobs for a sender."""
        return _children(sender)

    def close(self) -> None:
        """Nothing is left."""


class Cluster:
    """A scheduler of Dask and two workers, each started anew by its nanny."""

    killed = ("worker", "sender", "scheduler")

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.open()

    def open(self) -> None:
        """Start the scheduler and the workers."""
        file = self.folder / "scheduler.json"
        file.unlink(missing_ok=True)
        self.scheduler = self._started("scheduler", "--port", "0", "--scheduler-file", str(file))
        while not file.exists():
            time.sleep(0.1)
        self.address = json.loads(file.read_text())["address"]
        self.nannies = [self._started("worker", self.address, "--nthreads", "1") for _ in range(2)]

    def _started(self, *command: str) -> subprocess.Popen:
        log = (self.folder / "dask.log").open("a")
        arguments = [sys.executable, "-m", "dask", *command, "--no-dashboard"]
        return subprocess.Popen(arguments, stdout=log, stderr=log, env=ENVIRONMENT)

    def options(self) -> list[str]:
        """Of the command."""
        return ["--address", self.address]

    def workers(self, sender: int) -> list[int]:
        """Processes that carry out jobs."""
        return [worker for nanny in self.nannies for worker in _children(nanny.pid)]

    def kill_scheduler(self) -> None:
        """Kill the scheduler, and start another cluster."""
        self.close()
        self.open()

    def close(self) -> None:
        """Kill all."""
        self.scheduler.kill()
        for nanny in self.nannies:
            nanny.terminate()
            nanny.wait()
        self.scheduler.wait()


def _children(process: int) -> list[int]:
    listed = subprocess.run(["pgrep", "-P", str(process), "-f", "spawn_main"], capture_output=True, text=True).stdout
    return [int(child) for child in listed.split()]


def started(folder: Path, out: Path, place: Here | Cluster) -> subprocess.Popen:
    """The sweep, in a process of its own."""
    command = ["-m", "noisylearn", "sweep", str(folder / "sweep.toml"), *place.options(), "--out", str(out), "--json"]
    table = (out.parent / f"{out.name}.json").open("w")
    return subprocess.Popen([sys.executable, *command], stdout=table, stderr=subprocess.PIPE, env=ENVIRONMENT)


def table_of(out: Path) -> dict[str, Tree]:
    """The printed table, without times and places, and every run file."""
    rows = json.loads((out.parent / f"{out.name}.json").read_text())["rows"]
    for row in rows:
        row["files"] = [Path(file).name for file in row["files"]]
        del row["summary"]["wall_s"]
    return {"rows": json.dumps(rows)} | {path.name: RunFile(path).read() for path in out.glob("*.h5")}


def disturbed(
    folder: Path, out: Path, place: Here | Cluster, kills: int, seconds: float, random_: random.Random
) -> list[str]:
    """Carry out the sweep while something is killed now and then, then let it end; what was killed."""
    done: list[str] = []
    sender = started(folder, out, place)
    while len(done) < kills:
        time.sleep(random_.uniform(1, seconds))
        if sender.poll() is not None:
            break
        what, workers = random_.choice(place.killed), place.workers(sender.pid)
        if what == "worker" and workers:
            os.kill(random_.choice(workers), signal.SIGKILL)
        elif what == "scheduler" and isinstance(place, Cluster):
            place.kill_scheduler()
            said = sender.communicate()[1].decode().splitlines()
            if not sender.returncode:  # it was just done
                break
            if len(said) != 1 or not said[0].startswith(("error: the Dask scheduler has ended", "error: no Dask sch")):
                raise SystemExit(f"after its scheduler had ended, the command said: {said}")
            sender = started(folder, out, place)
        else:
            what = "sender"
            sender.kill()
            sender.wait()
            sender = started(folder, out, place)
        done.append(what)
    if sender.wait():
        raise SystemExit(f"the sweep ended with {sender.returncode}: {sender.communicate()[1].decode()}")
    return done


def main() -> None:
    """Carry out sweeps and compare, until the number of kills is reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=10, help="kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dask", action="store_true", help="on a Dask cluster on loopback")
    given = parser.parse_args()
    random_ = random.Random(given.seed)
    folder = Path(tempfile.mkdtemp(prefix="kill-sweep-"))
    (folder / "sweep.toml").write_text(SWEEP)
    begun = time.monotonic()
    if started(folder, folder / "whole", Here()).wait():
        raise SystemExit("the sweep does not even run undisturbed")
    seconds, whole, kills, tried = time.monotonic() - begun, table_of(folder / "whole"), 0, 0
    print(f"undisturbed: {seconds:.0f} s, {len(whole) - 1} runs", flush=True)
    place = Cluster(folder) if given.dask else Here()
    try:
        while kills < given.number:
            out = folder / f"killed-{tried}"
            done = disturbed(folder, out, place, min(4, given.number - kills), seconds / 3, random_)
            found = list(differences(whole, table_of(out), OF_THE_OCCASION))
            kills, tried = kills + len(done), tried + 1
            print(f"{kills} kills ({', '.join(done)}): {found or 'the same'}", flush=True)
            if found:
                raise SystemExit(f"see {folder}")
    finally:
        place.close()
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
