"""Short runs for tests: a cut task, a tiny network, and child processes that may be killed."""

import dataclasses
import multiprocessing
import os
import sys
from pathlib import Path

from noisylearn import tasks
from noisylearn.experiments.config import TrainConfig
from noisylearn.experiments.run_file import OF_THE_OCCASION
from noisylearn.experiments.train import train
from noisylearn.experiments.trainer import Trainer
from noisylearn.ground.tree_file import differences
from noisylearn.profiles import load_profile, parse_profile, profile_files

PCM = "pcm-nandakumar-2019"
_load = tasks.load

# Two epochs of five steps with everything that has a state: decorrelation, norms, momentum, devices.
FULL = {
    "task": "mnist-sample", "rule": "anp", "profile": PCM, "baseline": "noisy", "draws": 2, "hidden": (12,),
    "optimizer": "nadam", "lr": 1e-2, "epochs": 2, "batch": 40, "decorrelation_rate": 1e-3,
    "weight_normalisation": True,
}  # fmt: skip
GAUSSIAN = {
    "task": "mnist-sample", "rule": "anp", "profile": "gaussian-node", "hidden": (12,), "lr": 1e-2, "epochs": 2,
    "batch": 40,
}  # fmt: skip


def small_task(name, data_dir=None, held_out="test", seed=0, seq_len=None):
    """In place of `tasks.load`: 200 training and 100 held-out samples; images at a sixteenth of their pixels."""
    task = _load(name, data_dir, held_out, seed, seq_len)
    parts = {f"{part}_{kind}": getattr(task, f"{part}_{kind}")[: 200 if part == "train" else 100]
             for part in ("train", "test") for kind in ("inputs", "targets")}  # fmt: skip
    for part in ("train_inputs", "test_inputs") if name == "mnist-sample" else ():
        parts[part] = parts[part].unflatten(1, (7, 4, 7, 4)).mean((2, 4)).flatten(1)
    return dataclasses.replace(task, **parts)


def small_train(out, settings, text=None, **options):
    """`train` on the cut task, which the caller has put in place."""
    config = TrainConfig(**settings)
    profile = load_profile(config.profile) if text is None else parse_profile(text)
    return train(config, profile, Path(out), **options)


def profile_text(name="gaussian-node"):
    return profile_files()[name].read_text(encoding="utf-8")


def same(one, other):
    """Where two trees of results differ; wall time, machine and dates may."""
    return list(differences(one, other, OF_THE_OCCASION))


def in_child(function, *arguments):
    """Run a function in a process of its own; its exit status, negative for a signal."""
    context = multiprocessing.get_context("forkserver")
    commands = ["noisylearn.cli.train", "noisylearn.cli.compare"]
    context.set_forkserver_preload([*commands, "torch._dynamo", "pytest"])  # what takes long to import
    process = context.Process(target=_child, args=(function, arguments))
    process.start()
    process.join(120)
    return process.exitcode


def signalled(folder, number, function, *arguments):
    """Call a function, to which a signal comes after the third step of its run; what it says goes to the file `log`.

    Args:
        folder: to work in.
        number: of the signal.
        function: what is called.
        arguments: of it.
    """
    os.chdir(folder)
    os.dup2(os.open("log", os.O_WRONLY | os.O_CREAT), 2)
    step = Trainer.step

    def then_signalled(training):
        loss = step(training)
        if training.progress.step == 3:
            os.kill(os.getpid(), number)
        return loss

    Trainer.step = then_signalled
    function(*arguments)


def _child(function, arguments):
    tasks.load = small_task
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    function(*arguments)
    sys.exit(0)
