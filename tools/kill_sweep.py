"""Kill workers and the sender of a sweep at random moments, and compare with one that ran undisturbed.

python tools/kill_sweep.py --number 10 --seed 0

A worker that is killed is replaced while the sweep goes on; after the sender is killed, the same command goes on. The
table and every run file have to be the same bit for bit, whatever was killed when.
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

from noisylearn.experiments.run_file import RunFile
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
MAY_DIFFER = {"wall_s", "machine"}


def started(folder: Path, out: Path) -> subprocess.Popen:
    """The sweep with two workers, in processes of their own."""
    command = ["-m", "noisylearn", "sweep", str(folder / "sweep.toml"), "--workers", "2", "--out", str(out), "--json"]
    table = (out.parent / f"{out.name}.json").open("w")
    return subprocess.Popen([sys.executable, *command], stdout=table, env=os.environ | {"OMP_NUM_THREADS": "1"})


def workers_of(sender: int) -> list[int]:
    """Processes that carry out jobs for a sender."""
    listed = subprocess.run(["pgrep", "-P", str(sender), "-f", "spawn_main"], capture_output=True, text=True).stdout
    return [int(process) for process in listed.split()]


def table_of(out: Path) -> dict[str, Tree]:
    """The printed table, without times and places, and every run file."""
    rows = json.loads((out.parent / f"{out.name}.json").read_text())["rows"]
    for row in rows:
        row["files"] = [Path(file).name for file in row["files"]]
        del row["summary"]["wall_s"]
    return {"rows": json.dumps(rows)} | {path.name: RunFile(path).read() for path in out.glob("*.h5")}


def disturbed(folder: Path, out: Path, kills: int, seconds: float, random_: random.Random) -> list[str]:
    """Carry out the sweep while workers and the sender are killed; what was, and when."""
    done = []
    sender = started(folder, out)
    while sender.poll() is None:
        if len(done) == kills:
            sender.wait()
            break
        time.sleep(random_.uniform(1, seconds))
        if sender.poll() is not None:
            break
        workers = workers_of(sender.pid)
        if workers and random_.random() < 0.5:
            os.kill(random_.choice(workers), signal.SIGKILL)
            done.append("worker")
        else:
            sender.kill()
            sender.wait()
            done.append("sender")
            sender = started(folder, out)
    return done


def main() -> None:
    """Carry out sweeps and compare, until the number of kills is reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=10, help="kills")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    random_ = random.Random(given.seed)
    folder = Path(tempfile.mkdtemp(prefix="kill-sweep-"))
    (folder / "sweep.toml").write_text(SWEEP)
    begun = time.monotonic()
    if started(folder, folder / "whole").wait():
        raise SystemExit("the sweep does not even run undisturbed")
    seconds, whole, kills, tried = time.monotonic() - begun, table_of(folder / "whole"), 0, 0
    print(f"undisturbed: {seconds:.0f} s, {len(whole) - 1} runs", flush=True)
    while kills < given.number:
        out = folder / f"killed-{tried}"
        done = disturbed(folder, out, min(4, given.number - kills), seconds / 3, random_)
        found = list(differences(whole, table_of(out), MAY_DIFFER))
        kills, tried = kills + len(done), tried + 1
        print(f"{kills} kills ({', '.join(done)}): {found or 'the same'}", flush=True)
        if found:
            raise SystemExit(f"see {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
