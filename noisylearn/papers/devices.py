"""Ours: [ANP] figure 5 on the noise of devices, and learning in place against programming, over a day of drift."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from noisylearn.build import load_data
from noisylearn.config import TrainConfig, resolve
from noisylearn.papers.plots import band, bars, panels, style_of
from noisylearn.papers.study import Bench, Criterion, Figure, Found, Judgement, Piece, Report, Study
from noisylearn.papers.trainings import (
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
from noisylearn.profiles import HardwareProfile, load_profile
from noisylearn.runs import Tree
from noisylearn.training import Training

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
SIGMA = 0.02  # of the noise that is injected for DNP, which cannot read the devices' own


def on_devices(name: str, injects: bool = False) -> HardwareProfile:
    """A profile as PROFILES writes it; `injects`: with known noise added at every node, beside the devices' own."""
    profile = load_profile(name)
    if mode := PROFILES[name]:
        profile = profile.written_by(mode)
    return profile.injecting(SIGMA) if injects else profile


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
    return [_two_passes(size, name, rule, seeds) for name in size.profiles for rule in size.rules]


def _two_passes(size: Size, name: str, rule: str, seeds: Sequence[int]) -> Piece:
    options = size.options | {"decorrelation_rate": size.decorrelation_rate, "forward": "chip"}
    profile = on_devices(name, injects=rule == "dnp")
    return training(f"{name} {rule}", size.task, rule, profile, seeds, options, size.search)


def judge(size: Size, found: Found) -> Judgement:
    accuracies = by_rule(found, lambda tree: 100 * finals(tree, "held_out_accuracy"))
    figures = [
        Figure(f"{name}: test accuracy on the chip (%)", mean(values), None, spread(values))
        for name, values in accuracies.items()
    ]
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
    with panels(file, size.profiles, width=3.6) as axes:
        for ax, name in zip(axes, size.profiles, strict=True):
            values = {rule.upper(): 100 * finals(found[f"{name} {rule}"], "held_out_accuracy") for rule in size.rules}
            bars(ax, values, color=[style_of(rule)["color"] for rule in size.rules if len(values[rule.upper()])])
            ax.set(ylabel="test accuracy on the chip (%)", ylim=(0, 100))


MOMENTS_S = (0.0, 60.0, 3600.0, 6 * 3600.0, 86_400.0)
WAYS = {
    "DANP in place": ("danp", "chip", 0),
    "DANP in place, goes on learning": ("danp", "chip", 1),
    "backprop, then programmed": ("bp", "digital", 0),
    "backprop, chip in the loop": ("bp", "chip", 0),
}
IN_PLACE, GOES_ON, PROGRAMMED, _ = WAYS


@dataclass(frozen=True)
class DriftSize(Size):
    """As Size; every way has the rate that its rule has in `rates`."""

    rates: tuple[tuple[str, float], ...] = (("danp", 1e-2), ("bp", 1e-2))


def drift_pieces(size: DriftSize, seeds: Sequence[int]) -> list[Piece]:
    found = []
    for name in size.profiles:
        for way, (rule, forward, epochs_after) in WAYS.items():
            for seed in seeds:
                config = _config(size, name, rule, forward, seed)
                settings = {
                    "config": config.model_dump(mode="json", exclude={"device"}, exclude_defaults=True),
                    "profile": on_devices(name).full_text,
                    "moments_s": list(MOMENTS_S),
                    "epochs_after": epochs_after,
                }
                work = partial(_through_a_day, config, name, epochs_after)
                found.append(Piece(f"{name}, {way}, seed {seed}", settings, work))
    return found


def _config(size: DriftSize, name: str, rule: str, forward: str, seed: int) -> TrainConfig:
    options = size.options | {"decorrelation_rate": size.decorrelation_rate if rule == "danp" else None}
    options |= {"forward": forward, "seed": seed, "lr": dict(size.rates)[rule], "schedule": "constant"}
    return resolve(size.task, rule, on_devices(name), options, lenient=True)[0]


def _through_a_day(config: TrainConfig, name: str, epochs_after: int, bench: Bench, report: Report) -> Tree:
    """Accuracy read on the chip at every moment of the day after training, drift left uncompensated.

    epochs_after: of training at every later moment, before the reading.
    """
    config = config.model_copy(update={"device": bench.device})
    run = Training(config, on_devices(name), load_data(config, bench.data_dir))
    every = run.steps_per_epoch
    whole = every * (config.epochs + epochs_after * (len(MOMENTS_S) - 1))

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
        if moment:
            learn(epochs_after)
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
            Criterion(
                f"{name}: a device that goes on learning loses less than 1 point in a day",
                f"{lost[GOES_ON]:.2f} points",
                lost[GOES_ON] < 1.0,
            ),
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
            "read the devices' noise: it is given noise of its own of standard deviation 0.02, injected at every node "
            "beside the devices'. BP is hardware-aware: forward on the chip.",
            "paper": "MNIST, three layers of 300 units, 20 epochs, batch 100, four rates.",
        },
        sizes={
            "smoke": Size("digits", (32,), _ALL[:3:2], 6, 20, 1e-3, Search((1e-2,), 1), ("danp", "anp")),
            "small": Size("digits", (64,) * 3, _ALL, 20, 20, 1e-3, _RATES),
            "paper": Size("mnist", (300,) * 3, _ALL, 20, 100, 1e-4, Search((3e-4, 1e-3, 3e-3, 1e-2), 5)),
        },
        seeds={"smoke": 1, "small": 2, "paper": 3},
        pieces=pieces,
        judge=judge,
        plot=plot,
        remarks="DNP is given more noise than the others have, of one size for all devices that was not searched for: "
        "its figures say what this noise gives, not the best that DNP could do there. On resistive RAM (Wan et al. "
        "2022) a trial of sigma 0.1 at the rate 1e-2 brought two seeds to 89 and 84 %, where 0.02 gave 58 and 49; DANP "
        "has 95.",
        revised="the criterion against a linear fit was added: within ten points of backprop such a fit is, too.",
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
            "drift not compensated. The device that goes on learning has one epoch at every later moment.",
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
        remarks="Backprop is ahead of DANP at every moment of the day, and loses less by drift. What goes on learning "
        "has four more epochs than what does not: how much of its gain is practice, not compensation, this does not "
        "tell.",
        revised="the third criterion allowed two points of loss more, which is more than any way lost; there is no "
        "allowance now.",
    ),
)
