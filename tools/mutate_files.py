"""Change run, network and NIR files at random, and have every command that reads them read them.

python tools/mutate_files.py --number 3000 --seed 0

Each file is changed in a process of its own. A checksum is made anew for most of them, so that what is behind it is
tried too. A command has to print its result or one message; anything else is a fault, and its file is kept.
"""

import argparse
import contextlib
import io
import json
import os
import pickle
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import torch

import noisylearn as nl
from noisylearn import cli
from noisylearn.backends.lava.export import export_run
from noisylearn.backends.lava.launch import checked_specs
from noisylearn.backends.lava.monitoring import new_monitors
from noisylearn.backends.lava.netfile import read_net, write_net
from noisylearn.backends.lava.process_specs import FloatOptions
from noisylearn.backends.nir import read_nir, write_nir
from noisylearn.engines.jobs import FAULT
from noisylearn.experiments.config import resolve
from noisylearn.experiments.train import train
from noisylearn.ground.errors import UserError
from noisylearn.ground.tree_file import _checksum
from noisylearn.report import plots  # noqa: F401 (so that every process has it)

MOST_S, MOST_MB, MOST_LINES, PATIENCE_S = 2.0, 500, 5, 60
SETTINGS = {"hidden": (6,), "epochs": 2, "batch": 500, "lr": 1e-3, "seed": 0}
OPTIONS = ["--hidden", "6", "--epochs", "2", "--batch", "500", "--lr", "1e-3", "--activation", "identity"]
Command = Callable[[Path], None]


@dataclass
class Kind:
    """A whole file, and what reads files of its kind."""

    file: Path
    commands: dict[str, Command]
    is_tree: bool = True  # with a checksum of ours


@dataclass
class Outcome:
    """What became of one changed file."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


class _EnoughError(Exception):
    pass


def kinds(folder: Path) -> list[Kind]:
    """Whole files of every kind, made here."""
    finished = _run(folder / "finished", None, activation="identity")
    unfinished = _run(folder / "unfinished", 4, activation="identity")
    plain = _run(folder / "plain", None, rule="anp", profile="gaussian-node", activation="relu", baseline="noisy")
    net, nir = folder / "net.h5", folder / "net.nir"
    write_net(net, export_run(plain, 4, lr=1e-3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_nir(nir, nl.networks.Spiking(5, (4,), 3, "rleaky"))
    trained = ["--task", "digits", "--rule", "danp", "--profile", "pcm-nandakumar-2019", *OPTIONS]
    compared = ["--task", "digits", "--rules", "danp", "--profiles", "pcm-nandakumar-2019", "--seeds", "0", *OPTIONS]
    return [
        Kind(
            finished,
            {
                "train": lambda path: _command("train", *trained, "--out", path.parent),
                "compare": lambda path: _command("compare", *compared, "--out", path.parent),
                "report": lambda path: _command("report", path, "-o", path.with_suffix(".html")),
                "operations": lambda path: _command("operations", path),
                "runs show": lambda path: _command("runs", "show", path),
                "export nir": lambda path: _command("export", path, "--to", "nir", "-o", path.with_suffix(".nir")),
            },
        ),
        Kind(
            plain,
            {
                "export lava": lambda path: _command(
                    "export", path, "--to", "lava", "-o", path.with_suffix(".net"), "--steps", 2, "--lr", 1e-3
                ),
                "operations": lambda path: _command("operations", path, "--json"),
                "runs list": lambda path: _command("runs", "list", path.parent),
            },
        ),
        Kind(
            unfinished,
            {
                "export lava --initial": lambda path: _command(
                    "export", path, "--to", "lava", "-o", path.with_suffix(".net"), "--steps", 2, "--lr", 1e-3,
                    "--initial", "--profile", "gaussian-node",
                ),
                "runs export": lambda path: _command("runs", "export", path, "--epochs", "--json"),
                "train --resume": lambda path: _command("train", *trained, "--out", path.parent, "--resume"),
            },
        ),
        Kind(
            net,
            {
                "loihi run": lambda path: _command("loihi", "run", path, "--steps", 3, "--learn", "--json"),
                "lava run": _processes,
            },
        ),
        Kind(nir, {"read_nir": _read_nir}, is_tree=False),
    ]  # fmt: skip


def _run(out: Path, steps: int | None, rule: str = "danp", profile: str = "pcm-nandakumar-2019", **more: str) -> Path:
    """The file of a small run, finished or with so many steps done."""
    chosen = nl.load_profile(profile)
    config, _ = resolve("digits", rule, chosen, SETTINGS | more)

    def on_step(step: int, total: int, loss: float) -> None:
        if step - 1 == steps:
            raise _EnoughError

    with contextlib.suppress(_EnoughError):
        train(config, chosen, out, on_step=on_step, checkpoint_every_s=0)
    return next(out.glob("*.h5"))


def check_whole(every: list[Kind]) -> None:
    """Raises where a command does not even read a file as it was written."""
    for kind in every:
        for command in kind.commands.values():
            with (
                contextlib.redirect_stdout(io.StringIO()),
                warnings.catch_warnings(),
                tempfile.TemporaryDirectory() as name,
            ):
                warnings.simplefilter("ignore")
                command(Path(shutil.copy(kind.file, name)))


def _command(*arguments: object) -> None:
    """Run a command in this process."""
    cli.app([str(one) for one in arguments], standalone_mode=False)


def _processes(path: Path) -> None:
    """What `noisylearn lava run` makes of a file before Lava starts, and the noise of its first step."""
    net = read_net(path)
    folder = path.parent / "lava"
    folder.mkdir(exist_ok=True)
    checked_specs(net, FloatOptions(min(net.steps, 2), learns=True, replays=True), new_monitors(folder))


def _read_nir(path: Path) -> None:
    network = read_nir(path)
    with torch.no_grad():
        first = next(iter(network.model.parameters()), None)
        if isinstance(network.model, nl.networks.Spiking) and first is not None:
            network.model(torch.zeros(2, first.shape[1]))


# changes


def changed(path: Path, random_: random.Random, is_tree: bool) -> str:
    """Change a file in place; say how."""
    if random_.random() < 0.15:
        return _bytes_changed(path, random_)
    with h5py.File(path, "a") as file:
        done = [random_.choice(CHANGES)(file, random_) for _ in range(random_.choice((1, 1, 1, 2, 4)))]
        if is_tree and random_.random() < 0.95:
            with contextlib.suppress(Exception):  # what cannot be read has no checksum
                file.attrs["checksum"] = _checksum(file)
    return "; ".join(done)


def _bytes_changed(path: Path, random_: random.Random) -> str:
    content = bytearray(path.read_bytes())
    if random_.random() < 0.2:
        content = content[: random_.randrange(len(content))]
    else:
        for _ in range(random_.choice((1, 3, 30, 300))):
            content[random_.randrange(len(content))] = random_.randrange(256)
    path.write_bytes(content)
    return "bytes"


def _places(file: h5py.File) -> Iterator[tuple[h5py.Group, str]]:
    """Parent and key of everything below the root."""
    for key, item in file.items():
        yield file, key
        if isinstance(item, h5py.Group):
            yield from _places(item)


def _place(file: h5py.File, random_: random.Random, kind: type) -> tuple[h5py.Group, str]:
    found = [(group, key) for group, key in _places(file) if isinstance(group.get(key), kind)]
    return random_.choice(found or [(file.require_group("more"), "none")])


def _values(random_: random.Random) -> object:
    """Something that an attribute may be, and mostly should not."""
    return random_.choice(
        [
            0, 1, -1, 2, 7, 10**6, 2**62, 0.5, -0.5, float("nan"), float("inf"), 1e308, 1e-308, True, "", "x",
            "{}", "[]", "null", "finished", "running", "stopped", "nan",
            "é\u202e\x1b[31m", "y" * 10**6, "[" * 10**5, b"bytes",
            np.zeros(3), np.zeros((0,)), np.array(["a", "b"], dtype=object), np.float16(1), np.array(1.0, ">f8"),
            np.complex128(1j), h5py.Empty("f8"),
        ]
    )  # fmt: skip


def _attribute(file: h5py.File, random_: random.Random) -> str:
    """Change, rename, remove or add an attribute."""
    owners = [
        file,
        *(group[key] for group, key in _places(file) if isinstance(group.get(key), h5py.Group | h5py.Dataset)),
    ]
    owner = random_.choice([one for one in owners if len(one.attrs)] or owners)
    key = random_.choice(list(owner.attrs) or ["new"])
    how = random_.choice(("value", "value", "text", "text", "remove", "rename", "add"))
    if how == "text" and isinstance(owner.attrs.get(key), str):
        owner.attrs[key] = _text_changed(owner.attrs[key], random_)
    elif how == "remove" and key in owner.attrs:
        del owner.attrs[key]
    elif how == "rename" and key in owner.attrs:
        value = owner.attrs[key]
        del owner.attrs[key]
        owner.attrs["other"] = value
    else:
        owner.attrs["new" if how == "add" else key] = _values(random_)
    return f"{how} of {owner.name}@{key}"


def _text_changed(text: str, random_: random.Random) -> str:
    """Another value in JSON, or other characters in any text."""
    try:
        tree = json.loads(text)
        key = random_.choice(sorted(tree))
        tree[key] = random_.choice([0, -1, 1, 10**9, 10**30, 1e308, None, [], [10**9], [3, 3], {}, "x", True, 0.5])
        return json.dumps(tree)
    except (ValueError, TypeError, IndexError):
        at = random_.randrange(len(text) + 1)
        return text[:at] + random_.choice(["9", "e9", "nan", '"', "\n", "[", "x", "-"]) + text[at + 1 :]


def _dataset(file: h5py.File, random_: random.Random) -> str:
    """Another type, shape or value of a dataset."""
    group, key = _place(file, random_, h5py.Dataset)
    if key not in group:
        return "no dataset"
    how, old = random_.choice(("type", "shape", "values", "values", "remove", "rename", "group")), group[key][()]
    place = f"{group.name}/{key}"
    if how == "rename":
        group.move(key, random_.choice(("other", "0", "loss", f"{key}x")))
        return f"rename of {place}"
    del group[key]
    array = np.asarray(old)
    number = array if array.dtype.kind in "fiub" else np.zeros(3)
    if how == "type":
        kind = random_.choice(("f2", "f4", "f8", ">f8", "i8", "u1", "?", "c16", "S3", "i1", "u8", "g"))
        with np.errstate(all="ignore"):
            group[key] = number.astype(kind)
    elif how == "shape":
        shapes = [number.T, number.ravel(), number[None], number.ravel()[:0], number.ravel()[:1], np.zeros(())]
        group[key] = random_.choice([*shapes, np.concatenate([number.ravel()] * 2), number.ravel()[:-1]])
    elif how == "values":
        new = np.array(number, copy=True).ravel()
        wild = [np.nan, np.inf, 1e38, -1, 0, 1, 1e-38, 2**40, -(2**62)]
        if new.size:
            with np.errstate(all="ignore"):
                new[random_.randrange(new.size)] = np.asarray(random_.choice(wild)).astype(new.dtype)
        group[key] = new.reshape(number.shape)
    elif how == "group":
        group.create_group(key).attrs["value"] = 1.0
    return f"{how} of {place}"


def _group(file: h5py.File, random_: random.Random) -> str:
    """Remove, rename or replace a group, or link it once more."""
    group, key = _place(file, random_, h5py.Group)
    if key not in group:
        return "no group"
    how = random_.choice(("remove", "rename", "array", "cycle", "more"))
    if how == "cycle":
        group[key]["again"] = file
    elif how == "more":
        group[key]["more"] = np.zeros(2)
    elif how == "rename":
        group.move(key, "other")
    else:
        del group[key]
        if how == "array":
            group[key] = np.zeros(2)
    return f"{how} of {group.name}/{key}"


def _foreign(file: h5py.File, random_: random.Random) -> str:
    """Data elsewhere, objects, and shapes that claim more than there is."""
    group, key = _place(file, random_, h5py.Dataset)
    if key in group:
        del group[key]
    how = random_.choice(("external", "soft", "link", "virtual", "claim", "packed", "objects", "texts", "deep"))
    if how == "external":
        group.create_dataset(key, (4,), "f4", external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)])
    elif how == "soft":
        group[key] = h5py.SoftLink("/metrics")
    elif how == "link":
        group[key] = h5py.ExternalLink("/etc/hostname", "/")
    elif how == "virtual":
        layout = h5py.VirtualLayout((4,), "f4")
        layout[:] = h5py.VirtualSource("/tmp/other.h5", "x", (4,))
        group.create_virtual_dataset(key, layout)
    elif how == "claim":
        group.create_dataset(key, (10**5, 10**5), "f4")
    elif how == "packed":
        group.create_dataset(key, (10**5, 10**5), "f4", chunks=(1000, 1000), compression="gzip")
    elif how == "objects":
        group.create_dataset(key, (3,), h5py.ref_dtype)
    elif how == "texts":
        group.create_dataset(key, data=["a", "b"] * 3, dtype=h5py.string_dtype())
    else:
        for _ in range(200):
            group = group.require_group("deeper")
    return f"{how} at {group.name}/{key}"[:200]


CHANGES = (_attribute, _attribute, _dataset, _dataset, _group, _foreign)


# reading


def tried(kind: Kind, number: int, seed: int, folder: Path) -> Outcome:
    """Change a copy of a file and have it read, in a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _in_child(kind, number, seed, folder, writing)
    os.close(writing)
    with open(reading, "rb") as stream:
        content = stream.read()
    _, status, usage = os.wait4(child, 0)
    if status or not content:
        return Outcome(Counter(crashed=1), [f"{kind.file.name} {number}: ended with status {status}"])
    outcome: Outcome = pickle.loads(content)  # of our own child
    grown_mb = usage.ru_maxrss / 1024 - resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if grown_mb > MOST_MB:
        outcome.counts["over 500 MB"] += 1
        outcome.faults.append(f"{kind.file.name} {number}: {grown_mb:.0f} MB")
    return outcome


def _in_child(kind: Kind, number: int, seed: int, folder: Path, writing: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    place = folder / "tried"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    path = Path(shutil.copy(kind.file, place))
    outcome = Outcome()
    try:
        how = changed(path, random.Random(f"{seed} {number}"), kind.is_tree)
    except Exception as error:
        outcome.counts[f"not changed: {type(error).__name__}"] += 1
    else:
        for name, command in kind.commands.items():
            _read(name, command, path, f"{kind.file.name} {number} ({how}): {name}", outcome)
    with open(writing, "wb") as stream:
        stream.write(pickle.dumps(outcome))
    os._exit(0)


def _read(name: str, command: Command, path: Path, label: str, outcome: Outcome) -> None:
    before, started = path.read_bytes(), time.process_time()
    try:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            command(path)
        outcome.counts[f"{name}: right"] += 1
        if FAULT in printed.getvalue():
            outcome.faults.append(f"{label}: {printed.getvalue()}")
    except UserError as error:
        outcome.counts[f"{name}: refused"] += 1
        if len(str(error).splitlines()) > MOST_LINES or (not str(error).isprintable() and "\n" not in str(error)):
            outcome.faults.append(f"{label}: {len(str(error))} characters: {str(error)[:200]!r}")
        if FAULT in str(error):
            outcome.faults.append(f"{label}: {error}")
        if path.read_bytes() != before:
            outcome.counts["harmed"] += 1
            outcome.faults.append(f"{label}: the file was refused and has changed: {error}")
    except BaseException:
        outcome.counts["tracebacks"] += 1
        outcome.faults.append(f"{label}: {traceback.format_exc()[-1200:]}")
    if (took := time.process_time() - started) > MOST_S:
        outcome.counts["over 2 s"] += 1
        outcome.faults.append(f"{label}: {took:.1f} s of processor time")


def mutate(number: int, seed: int, show: Callable[[str], None], only: int | None = None) -> Counter[str]:
    """Change and read so many files; count what became of them."""
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        every = kinds(folder)
        check_whole(every)
        for i in range(number) if only is None else [only]:
            outcome = tried(every[i % len(every)], i, seed, folder)
            counts["files"] += 1
            counts.update(outcome.counts)
            for fault in outcome.faults:
                show(fault)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="the file of this number alone")
    given = parser.parse_args()
    for name, count in sorted(
        mutate(given.number, given.seed, lambda fault: print(fault, file=sys.stderr), given.only).items()
    ):
        print(f"{count:6d}  {name}")


if __name__ == "__main__":
    main()
