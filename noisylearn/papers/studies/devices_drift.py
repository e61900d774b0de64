"""Ours: DANP trained in place against backprop programmed afterwards, over a day of drift."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from noisylearn.experiments.build import build_setup, load_data
from noisylearn.experiments.config import TrainConfig, resolve
from noisylearn.experiments.trainer import Trainer
from noisylearn.ground.tree_file import Tree
from noisylearn.papers.harness.criteria import at_most, ordered
from noisylearn.papers.harness.measures import over_seeds
from noisylearn.papers.harness.pictures import band, panels
from noisylearn.papers.harness.study import Bench, Found, Judgement, Piece, Report, Study
from noisylearn.papers.studies.shared.device_profiles import on_devices
from noisylearn.rules.backprop import Forward

MOMENTS_S = (0.0, 60.0, 3600.0, 6 * 3600.0, 86_400.0)
Afterwards = Literal["nothing", "written anew", "an epoch"]  # what happens at every later moment, before the reading
WAYS: Mapping[str, tuple[str, Forward, Afterwards]] = {
    "DANP in place": ("danp", "chip", "nothing"),
    "DANP in place, written anew": ("danp", "chip", "written anew"),
    "DANP in place, goes on learning": ("danp", "chip", "an epoch"),
    "backprop, then programmed": ("bp", "digital", "nothing"),
    "backprop, chip in the loop": ("bp", "chip", "nothing"),
}
IN_PLACE, WRITTEN_ANEW, GOES_ON, PROGRAMMED, _ = WAYS
RATE = 1e-2  # of every rule


@dataclass(frozen=True)
class Size:
    """Task, network, profiles and how long it is trained.

    Args:
        task: by its name.
        hidden: units of the hidden layers.
        profiles: names from PROFILES.
        epochs: of the training, before the day begins.
        batch: samples per step.
        decorrelation_rate: of DANP.
    """

    task: str
    hidden: tuple[int, ...]
    profiles: Sequence[str]
    epochs: int
    batch: int
    decorrelation_rate: float


def pieces(size: Size, seeds: Sequence[int]) -> list[Piece]:
    found = []
    for name in size.profiles:
        for way, (rule, forward, afterwards) in WAYS.items():
            for seed in seeds:
                config = _config(size, name, rule, forward, seed)
                settings = {
                    "config": config.model_dump(mode="json", exclude={"device"}, exclude_defaults=True),
                    "profile": on_devices(name).full_text,
                    "moments_s": list(MOMENTS_S),
                    "afterwards": afterwards,
                }
                work = partial(_through_a_day, config, name, afterwards)
                found.append(Piece(f"{name}, {way}, seed {seed}", settings, work))
    return found


def _config(size: Size, name: str, rule: str, forward: Forward, seed: int) -> TrainConfig:
    options = {
        "hidden": size.hidden, "epochs": size.epochs, "batch": size.batch, "baseline": "noisy", "draws": 1,
        "decorrelation_rate": size.decorrelation_rate if rule == "danp" else None, "forward": forward, "seed": seed,
        "lr": RATE, "schedule": "constant",
    }  # fmt: skip
    return resolve(size.task, rule, on_devices(name), options, lenient=True)[0]


def _through_a_day(config: TrainConfig, name: str, afterwards: Afterwards, bench: Bench, report: Report) -> Tree:
    """Accuracies (moments,) in per cent, read on the chip at MOMENTS_S after the training, drift not compensated.

    Args:
        config: of the training.
        name: of the profile.
        afterwards: what happens at every later moment, before the reading.
        bench: where it runs.
        report: told the share of the steps that are done.
    """
    config = config.model_copy(update={"device": bench.device})
    run = Trainer(build_setup(config, on_devices(name), load_data(config, bench.data_dir)))
    every = run.steps_per_epoch
    whole = every * (config.epochs + (afterwards == "an epoch") * (len(MOMENTS_S) - 1))

    def learn(epochs: int) -> None:
        for _ in range(epochs * every):
            run.step()
            report(run.progress.step / whole)

    learn(config.epochs)
    if not run.programs_every_step:
        run.chip.program()
    accuracies = []
    for before, moment in zip((0.0, *MOMENTS_S), MOMENTS_S, strict=False):
        run.chip.advance(moment - before)
        if moment and afterwards == "an epoch":
            learn(1)
        elif moment and afterwards == "written anew":
            run.chip.program()
        accuracies.append(100 * run.evaluate()["accuracy"])
    return {"accuracies": np.array(accuracies)}


def judge(size: Size, found: Found) -> Judgement:
    figures, criteria = [], []
    for name in size.profiles:
        curves = {way: _curves(found, name, way) for way in WAYS}
        for way, values in curves.items():
            for k, when in ((0, "at once"), (-1, "after a day")):
                figures.append(over_seeds(f"{name}, {way}: accuracy {when} (%)", values[:, k]))
        lost = {way: float((values[:, 0] - values[:, -1]).mean()) for way, values in curves.items()}
        after = {f"{name}, {way}": values[:, -1] for way, values in curves.items()}
        criteria += [
            ordered(f"{name}, {GOES_ON}", f"{name}, {IN_PLACE}", after),
            ordered(f"{name}, {GOES_ON}", f"{name}, {WRITTEN_ANEW}", after),
            at_most(
                f"{name}: DANP trained in place loses no more by drift than backprop programmed",
                lost[IN_PLACE], lost[PROGRAMMED], "{:.2f} against {:.2f} points",
            ),
        ]  # fmt: skip
    return Judgement(figures, criteria, is_published=False)


def _curves(found: Found, name: str, way: str) -> np.ndarray:
    """Accuracies (seeds, moments) in per cent."""
    return np.stack([tree["accuracies"] for key, tree in found.items() if key.startswith(f"{name}, {way}, seed")])


def plot(size: Size, found: Found, file: Path) -> None:
    with panels(file, size.profiles) as axes:
        for ax, name in zip(axes, size.profiles, strict=True):
            for way in WAYS:
                band(ax, _curves(found, name, way), way, [max(moment, 1.0) for moment in MOMENTS_S], marker=".")
            ax.set(xlabel="time after training (s; the first point is at once)", ylabel="accuracy on the chip (%)")
            ax.set(xscale="log")


STUDIES = (
    Study(
        name="devices-drift",
        paper="devices",
        source="ours",
        title="DANP in place against backprop programmed, over a day of drift",
        published="",
        setting={
            "smoke": "Digits, 32 units, phase-change memory: seconds, as a test.",
            "small": "Digits, 64 units, 20 epochs, batch 20, rate 1e-2, two noisy passes, two phase-change devices, "
            "drift not compensated. The device that goes on learning has one epoch at every later moment, before it is "
            "read; another is written anew then, and learns nothing.",
            "paper": "MNIST, 300 units, 20 epochs, batch 100.",
        },
        sizes={
            "smoke": Size("digits", (32,), ("pcm-nandakumar-2019",), 4, 20, 1e-3),
            "small": Size("digits", (64,), ("pcm-nandakumar-2019", "pcm-hermes-1-device"), 20, 20, 1e-3),
            "paper": Size("mnist", (300,), ("pcm-nandakumar-2019", "pcm-hermes-1-device"), 20, 100, 1e-4),
        },
        seeds={"smoke": 1, "small": 3, "paper": 3},
        pieces=pieces,
        judge=judge,
        plot=plot,
        remarks="What ends the loss by drift is that devices are written anew: that alone does as well as going on to "
        "learn, which brings nothing beyond it here. Backprop is ahead of DANP at once and after the day, and loses "
        "less by drift.",
        revised="the third criterion allowed two points of loss more, which is more than any way lost; there is no "
        "allowance now. That a device that goes on learning loses less than a point was a criterion: it holds by "
        "construction, as every update writes all devices anew and so ends their drift. What writing anew does alone "
        "was added, and that learning has to do more.",
    ),
)
