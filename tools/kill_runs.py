"""Kill `train` and `compare` at random moments, resume them, and compare with what ran undisturbed.

python tools/kill_runs.py --number 100 --seed 0

Each is killed once or several times, with signals that cannot be caught, anywhere from its start to its end. What it
then ends with has to be the same bit for bit: weights, curves and counts, of every run file.
"""

import argparse
import functools
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from noisylearn import cli
from noisylearn.experiments import compare
from noisylearn.experiments.run_file import OF_THE_OCCASION, RunFile
from noisylearn.experiments.train import train
from noisylearn.ground.tree_file import Tree, differences

CHECKPOINT_EVERY_S = 0.2
COMMON = ["--task", "digits", "--hidden", "40,30", "--batch", "50"]
COMMANDS = {
    "lf, memory devices": ["train", "--rule", "lf", "--profile", "pcm-nandakumar-2019", "--epochs", "3"],
    "danp, memory devices": ["train", "--rule", "danp", "--profile", "pcm-nandakumar-2019", "--epochs", "4"],
    "lf, pulsed": ["train", "--rule", "lf", "--profile", "reram-hfo2-gong-2022", "--epochs", "1"],
    "oua, injected noise": ["train", "--rule", "oua", "--profile", "gaussian-weight", "--epochs", "3"],
    "compare": [
        "compare", "--rules", "lf,np", "--profiles", "gaussian-node,pcm-nandakumar-2019", "--seeds", "0,1",
        "--epochs", "1",
    ],
}  # fmt: skip


@dataclass(frozen=True)
class Whole:
    """A command that ran undisturbed: its arguments, its duration and the files that it left."""

    arguments: list[str]
    seconds: float
    files: dict[str, Tree]


def started(arguments: list[str], out: Path) -> int:
    """Run a command in a process of its own, with frequent checkpoints; its number."""
    process = os.fork()
    if process:
        return process
    try:
        with (out.parent / "output").open("a") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        often = functools.partial(train, checkpoint_every_s=CHECKPOINT_EVERY_S)
        cli.train.train = compare.train = often
        sys.argv = ["noisylearn", *arguments, *COMMON, "--out", str(out)]
        cli.main()
    except SystemExit as stop:
        os._exit(int(stop.code or 0))
    os._exit(0)


def files_of(out: Path) -> dict[str, Tree]:
    """The run files of a folder, by name; other files with nothing in them."""
    return {path.name: RunFile(path).read() if path.suffix == ".h5" else {} for path in out.iterdir()}


def whole(name: str, out: Path) -> Whole:
    """Run a command to its end."""
    begun = time.monotonic()
    _, status = os.waitpid(started(COMMANDS[name], out), 0)
    if status:
        raise SystemExit(f"{name} does not even run undisturbed: {(out.parent / 'output').read_text()}")
    return Whole(COMMANDS[name], time.monotonic() - begun, files_of(out))


def killed(one: Whole, out: Path, random_: random.Random) -> int:
    """Kill a command at random moments, then let it end; how often it was killed before its end."""
    kills = 0
    for _ in range(random_.choice((1, 1, 2, 3))):
        process = started(_resumed(one, out), out)
        time.sleep(random_.uniform(0, one.seconds))
        os.kill(process, signal.SIGKILL)
        kills += os.waitpid(process, 0)[1] == signal.SIGKILL
    os.waitpid(started(_resumed(one, out), out), 0)
    return kills


def _resumed(one: Whole, out: Path) -> list[str]:
    """`compare` resumes by itself, and `train` has nothing to resume before its first checkpoint."""
    there = one.arguments[0] == "train" and any(out.glob("*.h5"))
    return [*one.arguments, "--resume"] if there else one.arguments


def main() -> None:
    """Kill and compare until the number of kills is reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=100, help="kills before the end of a command")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    random_ = random.Random(given.seed)
    folder = Path(tempfile.mkdtemp(prefix="kill-runs-"))
    every = {name: whole(name, folder / f"whole-{i}") for i, name in enumerate(COMMANDS)}
    print("; ".join(f"{name}: {one.seconds:.1f} s" for name, one in every.items()), flush=True)
    kills = faults = tried = 0
    while kills < given.number:
        name = list(every)[tried % len(every)]
        out = folder / f"killed-{tried}"
        kills += killed(every[name], out, random_)
        found = list(differences(every[name].files, files_of(out), OF_THE_OCCASION))
        faults += bool(found)
        tried += 1
        print(f"{kills} kills, {tried} commands, {faults} that end otherwise" + f" ({name}: {found})" * bool(found))
        if not found:
            shutil.rmtree(out)
    if faults:
        raise SystemExit(f"see {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
