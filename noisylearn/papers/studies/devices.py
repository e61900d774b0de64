"""Ours: [ANP] figure 5 on the noise of devices, and learning in place against programming, over a day of drift."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from noisylearn.experiments.build import load_data
from noisylearn.experiments.config import TrainConfig, resolve
from noisylearn.experiments.run_file import Tree
from noisylearn.experiments.trainer import Trainer
from noisylearn.papers.harness.pictures import band, bars, panels, style_of
from noisylearn.papers.harness.rule_pieces import (
    Search,
    baselines,
    by_rule,
    finals,
    mean,
    ordered,
    spread,
    training,
    trivial_accuracies,
)
from noisylearn.papers.harness.study import Bench, Criterion, Figure, Found, Judgement, Piece, Report, Study
from noisylearn.profiles import HardwareProfile, load_profile
from noisylearn.rules.backprop import Forward

# Profiles whose noise is the devices' own; those of pulsed devices write through an accumulator.
PROFILES: Mapping[str, str | None] = {
    "pcm-nandakumar-2019": None,
    "pcm-hermes-1-device": None,
    "reram-cmo-falcone-2025": None,
    "reram-wan-2022": None,
    "sonos-agrawal-2022": None,
    "ecram-mo-kim-2019": "accumulate",
}
RULES = ("danp", "anp", "dnp", "bp")
SIGMAS = (0.02, 0.05, 0.1)  # of the noise that is injected for DNP, which cannot read the devices' own


def on_devices(name: str) -> HardwareProfile:
    """A profile as PROFILES writes it."""
    profile = load_profile(name)
    mode = PROFILES[name]
    return profile.written_by(mode) if mode else profile


@dataclass(frozen=True)
class Size:
    """Task, network, profiles and how long."""

    task: str
    hidden: tuple[int, ...]
    profiles: Sequence[str]
    epochs: int
    batch: int
    decorrelation_rate: float
    search: Search
    rules: Sequence[str] = RULES

    @property
    def options(self) -> dict[str, Any]:
        return {"hidden": self.hidden, "epochs": self.epochs, "batch": self.batch, "baseline": "noisy", "draws": 1}


def pieces(size: Size, seeds: Sequence[int]) -> list[Piece]:
    """Every rule on every profile; DNP once with each size of the noise that is injected for it."""
    options = size.options | {"decorrelation_rate": size.decorrelation_rate, "forward": "chip"}
    found = []
    for name in size.profiles:
        own = on_devices(name)
        for rule in size.rules:
            placed = {f"{name} {rule}": own}
            if rule == "dnp":
                placed = {_dnp(name, sigma): own.injecting(sigma) for sigma in SIGMAS}
            found += [
                training(n, size.task, rule, profile, seeds, options, size.search) for n, profile in placed.items()
            ]
    return found


def _dnp(name: str, sigma: float) -> str:
    return f"{name} dnp, sigma {sigma:g}"


def _chosen(size: Size, found: Found) -> dict[str, Tree]:
    """What every rule found on every profile; of DNP's noises the one that was best on the validation part."""
    chosen = {}
    for name in size.profiles:
        for rule in size.rules:
            tried = [found[_dnp(name, sigma)] for sigma in SIGMAS] if rule == "dnp" else [found[f"{name} {rule}"]]
            chosen[f"{name} {rule}"] = min(tried, key=lambda tree: min(tree["trials"]["score"]))
    return chosen


def judge(size: Size, found: Found) -> Judgement:
    measured = by_rule(found, lambda tree: 100 * finals(tree, "held_out_accuracy"))
    figures = [
        Figure(f"{name}: test accuracy on the chip (%)", mean(values), None, spread(values))
        for name, values in measured.items()
    ]
    accuracies = by_rule(_chosen(size, found), lambda tree: 100 * finals(tree, "held_out_accuracy"))
    figures += trivial_accuracies(found)
    criteria = []
    for name in size.profiles:
        others = [rule for rule in ("anp", "dnp") if rule in size.rules]
        criteria += [ordered(f"{name} danp", f"{name} {rule}", accuracies) for rule in others]
        if "bp" in size.rules:
            behind = mean(accuracies[f"{name} bp"]) - mean(accuracies[f"{name} danp"])
            statement = f"{name}: DANP within {BEHIND_BP:g} points of backprop with the chip in the loop"
            criteria.append(Criterion(statement, f"{behind:.1f} points", behind <= BEHIND_BP))
            danp, linear = mean(accuracies[f"{name} danp"]), 100 * baselines(found)["ridge readout"]
            statement = f"{name}: DANP above a linear fit to the pixels"
            criteria.append(Criterion(statement, f"{danp:.1f} against {linear:.1f} %", danp > linear))
    return Judgement(figures, criteria, is_published=False)


BEHIND_BP = 10.0  # points


def plot(size: Size, found: Found, file: Path) -> None:
    chosen = _chosen(size, found)
    with panels(file, size.profiles, width=3.6) as axes:
        for ax, name in zip(axes, size.profiles, strict=True):
            values = {rule.upper(): 100 * finals(chosen[f"{name} {rule}"], "held_out_accuracy") for rule in size.rules}
            bars(ax, values, color=[style_of(rule)["color"] for rule in size.rules if len(values[rule.upper()])])
            ax.set(ylabel="test accuracy on the chip (%)", ylim=(0, 100))


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


@dataclass(frozen=True)
class DriftSize(Size):
    """As Size; every way has the rate that its rule has in `rates`."""

    rates: tuple[tuple[str, float], ...] = (("danp", 1e-2), ("bp", 1e-2))


def drift_pieces(size: DriftSize, seeds: Sequence[int]) -> list[Piece]:
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


def _config(size: DriftSize, name: str, rule: str, forward: Forward, seed: int) -> TrainConfig:
    options = size.options | {"decorrelation_rate": size.decorrelation_rate if rule == "danp" else None}
    options |= {"forward": forward, "seed": seed, "lr": dict(size.rates)[rule], "schedule": "constant"}
    return resolve(size.task, rule, on_devices(name), options, lenient=True)[0]


def _through_a_day(config: TrainConfig, name: str, afterwards: Afterwards, bench: Bench, report: Report) -> Tree:
    """Accuracy read on the chip at every moment of the day after training, drift left uncompensated."""
    config = config.model_copy(update={"device": bench.device})
    run = Trainer(config, on_devices(name), load_data(config, bench.data_dir))
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


def drift_judge(size: DriftSize, found: Found) -> Judgement:
    figures, criteria = [], []
    for name in size.profiles:
        curves = {way: _curves(found, name, way) for way in WAYS}
        for way, values in curves.items():
            for k, when in ((0, "at once"), (-1, "after a day")):
                figure = f"{name}, {way}: accuracy {when} (%)"
                figures.append(Figure(figure, mean(values[:, k]), None, spread(values[:, k])))
        lost = {way: float((values[:, 0] - values[:, -1]).mean()) for way, values in curves.items()}
        after = {f"{name}, {way}": values[:, -1] for way, values in curves.items()}
        criteria += [
            ordered(f"{name}, {GOES_ON}", f"{name}, {IN_PLACE}", after),
            ordered(f"{name}, {GOES_ON}", f"{name}, {WRITTEN_ANEW}", after),
            Criterion(
                f"{name}: DANP trained in place loses no more by drift than backprop programmed",
                f"{lost[IN_PLACE]:.2f} against {lost[PROGRAMMED]:.2f} points",
                lost[IN_PLACE] <= lost[PROGRAMMED],
            ),
        ]
    return Judgement(figures, criteria, is_published=False)


def _curves(found: Found, name: str, way: str) -> np.ndarray:
    """(seeds, moments)"""
    return np.stack([tree["accuracies"] for key, tree in found.items() if key.startswith(f"{name}, {way}, seed")])


def drift_plot(size: DriftSize, found: Found, file: Path) -> None:
    with panels(file, size.profiles) as axes:
        for ax, name in zip(axes, size.profiles, strict=True):
            for way in WAYS:
                band(ax, _curves(found, name, way), way, [max(moment, 1.0) for moment in MOMENTS_S], marker=".")
            ax.set(xlabel="time after training (s; the first point is at once)", ylabel="accuracy on the chip (%)")
            ax.set(xscale="log")


_RATES = Search((3e-3, 1e-2), 5)
_ALL = tuple(PROFILES)
STUDIES = (
    Study(
        name="devices-fig5",
        paper="devices",
        source="after [ANP] figure 5",
        title="Two noisy passes on the noise of devices",
        published="With injected Gaussian noise, DANP needs no clean pass, and DNP fails without.",
        setting={
            "smoke": "Digits, layers of 32 units, two profiles: seconds, as a test.",
            "small": "Digits, three layers of 64 units, 20 epochs, batch 20, cosine decay, one draw: two noisy "
            "passes. Every rule on every profile tries 3e-3 and 1e-2 on the validation part for 5 epochs. DNP cannot "
            "read the devices' noise: it is given noise of its own, injected at every node beside the devices', of the "
            "standard deviation among 0.02, 0.05 and 0.1 that is best on the validation part: three times as many "
            "trials as the others have. BP is hardware-aware: forward on the chip.",
            "paper": "MNIST, three layers of 300 units, 20 epochs, batch 100, four rates.",
        },
        sizes={
            "smoke": Size("digits", (32,), _ALL[:3:2], 6, 20, 1e-3, Search((1e-2,), 1), ("danp", "anp")),
            "small": Size("digits", (64,) * 3, _ALL, 20, 20, 1e-3, _RATES),
            "paper": Size("mnist", (300,) * 3, _ALL, 20, 100, 1e-4, Search((3e-4, 1e-3, 3e-3, 1e-2), 5)),
        },
        seeds={"smoke": 1, "small": 3, "paper": 3},
        pieces=pieces,
        judge=judge,
        plot=plot,
        remarks="DANP is ahead of DNP by 2.0 to 8.2 points also where DNP has the noise that is best on the test part: "
        "the short trials miss it on four of six devices.",
        revised="the criterion against a linear fit was added: within ten points of backprop such a fit is, too. DNP "
        "had noise of one size, 0.02, for all devices at first, with which it reached 36 to 93 %, and two seeds.",
    ),
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
            "smoke": DriftSize("digits", (32,), ("pcm-nandakumar-2019",), 4, 20, 1e-3, _RATES),
            "small": DriftSize("digits", (64,), ("pcm-nandakumar-2019", "pcm-hermes-1-device"), 20, 20, 1e-3, _RATES),
            "paper": DriftSize("mnist", (300,), ("pcm-nandakumar-2019", "pcm-hermes-1-device"), 20, 100, 1e-4, _RATES),
        },
        seeds={"smoke": 1, "small": 3, "paper": 3},
        pieces=drift_pieces,
        judge=drift_judge,
        plot=drift_plot,
        remarks="What ends the loss by drift is that devices are written anew: that alone does as well as going on to "
        "learn, which brings nothing beyond it here. Backprop is ahead of DANP at once and after the day, and loses "
        "less by drift.",
        revised="the third criterion allowed two points of loss more, which is more than any way lost; there is no "
        "allowance now. That a device that goes on learning loses less than a point was a criterion: it holds by "
        "construction, as every update writes all devices anew and so ends their drift. What writing anew does alone "
        "was added, and that learning has to do more.",
    ),
)
