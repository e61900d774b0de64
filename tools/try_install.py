"""Install the wheel as users do, on several Pythons and with every extra, and do a small job with each.

python tools/try_install.py                                   # every python3.11 to python3.13 on the path
python tools/try_install.py /path/to/python3.12 --extras spiking,lava --keep /somewhere

Each Python gets an empty environment with the plain wheel, which has to work by itself; then the extras come one after
another. The table has what each takes in time (with what pip downloads) and in place, and how long imports take.
Versions are those of constraints.txt; --newest leaves them to pip. pip reads its own settings, such as
PIP_EXTRA_INDEX_URL for builds of torch for CPUs alone. Needs the package `build`.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
TRAIN = "train --task digits --rule anp --baseline noisy --hidden 8 --epochs 1 --optimizer sgd --lr 0.01 --out runs"
COMPARE = "compare --task digits --rules anp,bp --seeds 0 --hidden 8 --epochs 1"
SWEEP = """
task = "digits"
rules = ["anp"]
profiles = ["gaussian-node"]
seeds = [0]
[settings]
epochs = 1
hidden = [8]
[search]
method = "optuna"
trials = 2
[search.over]
lr = { low = 1e-3, high = 1e-2, log = true }
"""
SPIKE = """
import torch, noisylearn as nl
model = nl.networks.Spiking(6, 8, 3)
chip = nl.Chip(model, "gaussian-node", seed=0)
losses = nl.rules.ANP(baseline="noisy").run(
    chip, torch.rand(5, 2, 6), torch.zeros(5, 2, 3), lambda out, target: (out - target).square().mean(1))
assert losses.isfinite().all()
"""
NIR = """
import pathlib, noisylearn as nl
from noisylearn.backends.nir import read_nir, write_nir
model = nl.networks.mlp(6, (8,), 3, activation="identity")
rule, profile = nl.rules.ANP(baseline="noisy"), nl.load_profile("gaussian-node")
found = read_nir(write_nir(pathlib.Path("net.nir"), model, rule, profile))
assert found.rule == rule
"""
RUNS = "import noisylearn as nl; assert len(nl.runs.load('runs')) >= 1"
# Of each extra: the jobs that have to work with it, each a command of noisylearn, or the code of a Python program.
JOBS = {
    "": ["profiles list", TRAIN],
    "spiking": [SPIKE],
    "nir": [NIR],
    "dask": [f"{COMPARE} --out on-dask --engine dask --workers 1"],
    "slurm": [f"{COMPARE} --out on-slurm --engine slurm --workers 1 --slurm cluster=local"],
    "gpu": ["import triton"],
    "optuna": ["sweep sweep.toml --out searched"],
    "lava": [
        "lava install --yes",
        "export {run} --to lava -o net.h5 --lr 0.001 --force",
        "lava run net.h5 --steps 20 --learn",
    ],
    "pandas": [RUNS],
    "tensorboard": [f"{TRAIN} --seed 1 --log tensorboard"],
    "mlflow": [f"{TRAIN} --seed 2 --log mlflow"],
    "docs": ["import mkdocs, material, mkdocstrings, nbconvert, ipykernel"],
}


class Failed(Exception):  # noqa: N818
    """A command that should work does not; the message has what it said last."""


class Environment:
    """An empty environment of one Python, in a folder of its own that is also where its jobs run."""

    def __init__(self, python: str, folder: Path, options: list[str]) -> None:
        self._folder, self._options = folder, options
        folder.mkdir(parents=True)
        run([python, "-m", "venv", folder / "venv"], folder)
        self._bin = folder / "venv" / "bin"
        (folder / "sweep.toml").write_text(SWEEP)

    def install(self, what: str) -> tuple[float, float]:
        """Install; seconds and megabytes that it took."""
        before, start = _size_mb(self._folder / "venv"), time.monotonic()
        pip = [self._bin / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run([*pip, *self._options, what], self._folder)
        return time.monotonic() - start, _size_mb(self._folder / "venv") - before

    def do(self, job: str) -> None:
        """Carry out a job: a command of noisylearn, or the code of a Python program."""
        if "import " in job:
            run([self._bin / "python", "-c", job], self._folder)
        else:
            found = [str(path.relative_to(self._folder)) for path in self._folder.glob("runs/*.h5")]
            words = [word.format(run=found[0]) if found else word for word in job.split()]
            run([self._bin / "noisylearn", *words], self._folder)

    def seconds(self, *command: str) -> float:
        """Least of three times a command takes, of the processor, after one run that writes the bytecode."""
        return min([_timed([self._bin / command[0], *command[1:]], self._folder) for _ in range(4)][1:])


def main() -> None:
    """Try what the command line asks for; the exit status is 1 where something fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pythons", nargs="*", help="Pythons to try; default: those on the path")
    parser.add_argument("--extras", default=",".join(filter(None, JOBS)), help="default: all of them")
    parser.add_argument("--newest", action="store_true", help="versions as pip chooses, not those of constraints.txt")
    parser.add_argument("--keep", type=Path, help="folder for the environments, which then stay")
    asked = parser.parse_args()
    pythons = asked.pythons or list(filter(None, map(shutil.which, ("python3.11", "python3.12", "python3.13"))))
    extras = [extra for extra in asked.extras.split(",") if extra]
    if not pythons:
        sys.exit("error: no python3.11, python3.12 or python3.13 on the path: name one")
    if unknown := set(extras) - set(JOBS):
        sys.exit(f"error: --extras {','.join(sorted(unknown))}: known are {','.join(filter(None, JOBS))}")
    options = [] if asked.newest else ["-c", str(ROOT / "constraints.txt")]
    folder = asked.keep or Path(tempfile.mkdtemp())
    try:
        wheel = built(folder)
        failed = [failure for python in pythons for failure in try_one(python, wheel, extras, options, folder)]
    finally:
        if asked.keep is None:
            shutil.rmtree(folder)
    for failure in failed:
        print(f"\n{failure}", file=sys.stderr)
    sys.exit(bool(failed))


def built(folder: Path) -> Path:
    """The wheel, built in an environment of its own."""
    run([sys.executable, "-m", "build", "--wheel", "--outdir", folder / "dist", ROOT], ROOT)
    return next((folder / "dist").glob("*.whl"))


def try_one(python: str, wheel: Path, extras: list[str], options: list[str], folder: Path) -> list[Failed]:
    """Print the tables of one Python; what failed."""
    code = "import platform; print(platform.python_version())"
    version = subprocess.check_output([python, "-c", code], text=True).strip()
    print(f"\n| Python {version} | pip (s) | MB | its jobs (s) |\n| --- | ---: | ---: | ---: |", flush=True)
    environment, failed = Environment(python, folder / version, options), []
    for extra in ["", *extras]:
        name = extra or "noisylearn"
        try:
            took_s, size_mb = environment.install(f"{wheel}[{extra}]" if extra else str(wheel))
            start = time.monotonic()
            for job in JOBS[extra]:
                environment.do(job)
            print(f"| {name} | {took_s:.0f} | {size_mb:.0f} | {time.monotonic() - start:.0f} |", flush=True)
            if not extra:
                times = imports(environment)
        except Failed as failure:
            print(f"| {name} | failed | | |", flush=True)
            failed.append(failure)
            if not extra:
                return failed
    print("\n| | processor (s) | of import torch |\n| --- | ---: | ---: |")
    for name, taken_s in times.items():
        print(f"| `{name}` | {taken_s:.2f} | {taken_s / times['import torch']:.2f} |", flush=True)
    return failed


def imports(environment: Environment) -> dict[str, float]:
    """Seconds of processor time that imports and the smallest commands take, by name."""
    codes = ("import torch", "import noisylearn")
    return {code: environment.seconds("python", "-c", code) for code in codes} | {
        f"noisylearn {words}": environment.seconds("noisylearn", *words.split())
        for words in ("--version", "profiles list", "--help")
    }


def run(command: list[str | Path], folder: Path) -> None:
    """Run a command in a folder, silently.

    Raises:
        Failed: its exit status is not 0.
    """
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")}
    ended = subprocess.run(command, cwd=folder, env=clean | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    if ended.returncode:
        raise Failed(f"{' '.join(map(str, command))}\n{(ended.stdout + ended.stderr)[-2000:]}")


def _timed(command: list[str | Path], folder: Path) -> float:
    """Seconds of processor time, which other work on the machine changes little."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(command, folder)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _size_mb(folder: Path) -> float:
    return sum(path.lstat().st_size for path in folder.rglob("*")) / 1e6


if __name__ == "__main__":
    main()
