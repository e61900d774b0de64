"""Ours: learned feedback from two noisy passes beside backprop with the chip in the loop, by network and device."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from noisylearn.networks.feedforward import ConvnetName
from noisylearn.papers.harness.criteria import at_most, reaches
from noisylearn.papers.harness.measures import by_piece, curve, finals, mean, over_seeds, trivial_accuracies
from noisylearn.papers.harness.pictures import accuracy_panels, panels, style_of
from noisylearn.papers.harness.rule_pieces import Search, rule_piece
from noisylearn.papers.harness.study import Figure, Found, Judgement, Piece, Scale, Study
from noisylearn.profiles import load_profile

RULES = ("lf", "bp")
LEVELS = (95.0, 97.0, 98.0)  # accuracies (%) whose passes are counted
PROGRAMMED = (
    "gaussian-node", "gaussian-weight", "pcm-nandakumar-2019", "pcm-hermes-1-device", "pcm-hermes-2-devices",
    "pcm-joshi-2020", "reram-wan-2022", "reram-cmo-falcone-2025", "rram-milo-2021", "sonos-agrawal-2022",
    "sonos-array-2022", "isaac-2016", "prime-2016", "smtj-koenders-2024",
)  # fmt: skip
PULSED = (
    "capacitor-li-2018", "ecram-mo-kim-2019", "ecram-tang-2018", "idealised-device", "reram-exponential-gong-2018",
    "reram-soft-bounds-gong-2018", "reram-om-gong-2022", "reram-hfo2-gong-2022", "pcm-pair-nandakumar-2020",
)  # fmt: skip
PCM = ("pcm-nandakumar-2019",)


@dataclass(frozen=True)
class Size:
    """Task, networks, devices and how long they are trained.

    Args:
        task: by its name.
        networks: by name, units of the hidden layers or the name of a ConvNet.
        profiles: of the devices.
        epochs: of every training.
        batch: samples per step.
        search: rates that both rules try.
        behind: points that learned feedback may be behind backprop.
        least: accuracy (%) that learned feedback is to reach, by network.
        flips: whether images are mirrored.
    """

    task: str
    networks: Mapping[str, tuple[int, ...] | ConvnetName]
    profiles: Sequence[str]
    epochs: int
    batch: int
    search: Search
    behind: float
    least: Mapping[str, float] = field(default_factory=dict)
    flips: bool = False

    def places(self) -> list[str]:
        """Every network on every device, by what tells it from the others."""
        return [self.named(*place) for place in product(self.networks, self.profiles)]

    def named(self, network: str, profile: str) -> str:
        """What a place is called."""
        return ", ".join((network,) * (len(self.networks) > 1) + (profile,) * (len(self.profiles) > 1)) or network


def pieces(size: Size, seeds: Sequence[int]) -> list[Piece]:
    """Both rules at every place."""
    found = []
    for network, profile, rule in product(size.networks, size.profiles, RULES):
        shape = size.networks[network]
        options: dict[str, Any] = {"network": shape} if isinstance(shape, str) else {"hidden": shape}
        options |= {
            "epochs": size.epochs, "batch": size.batch, "flips": size.flips, "schedule": "cosine",
            "baseline": "noisy", "draws": 1, "forward": "chip",
        }  # fmt: skip
        name = f"{size.named(network, profile)}: {rule}"
        found.append(rule_piece(name, size.task, rule, load_profile(profile), seeds, options, size.search))
    return found


def judge(size: Size, found: Found) -> Judgement:
    accuracies = by_piece(found, lambda tree: 100 * finals(tree, "held_out_accuracy"))
    figures = [over_seeds(f"{name}: test accuracy on the chip (%)", values) for name, values in accuracies.items()]
    if len(size.profiles) == 1:
        figures += [one for place in size.places() for one in _passes(place, found)]
    figures += trivial_accuracies(found)
    criteria = []
    for place in size.places():
        lf, bp = (mean(accuracies[f"{place}: {rule}"]) for rule in RULES)
        near = f"{place}: learned feedback at most {size.behind:g} points behind backprop with the chip in the loop"
        criteria.append(at_most(near, bp - lf, size.behind, "{:.1f} points"))
    for (network, least), profile in product(size.least.items(), size.profiles):
        place = size.named(network, profile)
        reached = f"{place}: learned feedback reaches {least:g} %"
        criteria.append(reaches(reached, mean(accuracies[f"{place}: lf"]), least, "{:.2f}"))
    return Judgement(figures, criteria, is_published=False)


def _passes(place: str, found: Found) -> list[Figure]:
    """Forward passes over the training data until the chip first reads an accuracy that all seeds reach."""
    figures = []
    for rule, level in product(RULES, LEVELS):
        reached = 100 * curve(found[f"{place}: {rule}"], "held_out_accuracy") >= level
        if reached.size and reached.any(1).all():
            passes = (2 if rule == "lf" else 1) * (1 + reached.argmax(1))
            figures.append(Figure(f"{place}: {rule}: forward passes to {level:g} %, median", float(np.median(passes))))
    return figures


def plot_places(size: Size, found: Found, file: Path) -> None:
    """Accuracy of both rules by place, with the lowest and the highest seed."""
    places = size.places()
    with panels(file, [size.task], width=max(5.4, 0.6 * len(places))) as (ax,):
        for shift, rule in zip((-0.12, 0.12), RULES, strict=True):
            values = [100 * finals(found[f"{place}: {rule}"], "held_out_accuracy") for place in places]
            means = np.array([mean(of) for of in values])
            ends = np.abs(np.array([(of.min(), of.max()) if len(of) else (np.nan,) * 2 for of in values]).T - means)
            at = np.arange(len(places)) + shift
            ax.errorbar(at, means, ends, fmt="o", capsize=3, label=rule.upper(), color=style_of(rule).get("color"))
        ax.set_xticks(range(len(places)), places, rotation=45, ha="right")
        ax.set(ylabel="test accuracy on the chip (%)")


def plot_curves(size: Size, found: Found, file: Path) -> None:
    """Accuracy of both rules along the epochs, a panel for every place."""
    shown = {f"{place}: {size.task}": {rule: f"{place}: {rule}" for rule in RULES} for place in size.places()}
    accuracy_panels(file, found, shown, "test accuracy on the chip")


_THREE = Search((5e-4, 1e-3, 2e-3), 2)
_SMOKE = Size("digits", {"64-32-10": (32,)}, PCM, 3, 20, Search((1e-2,), 1), 5)
_SMOKE_SETTING = "Digits, layers of 32 units: seconds, as a test."
_BOTH = "Learned feedback has two noisy passes a step and no backward one; backprop reads one pass of the chip. "


def _study(
    name: str, title: str, setting: Mapping[Scale, str], sizes: Mapping[Scale, Size], seeds: int, by_epoch: bool = False
) -> Study:
    return Study(
        name=name,
        paper="feedback",
        source="ours",
        title=title,
        published="",
        setting={"smoke": _SMOKE_SETTING, **{scale: _BOTH + text for scale, text in setting.items()}},
        sizes=sizes,
        seeds={"smoke": 1, "small": seeds, "large": seeds},
        pieces=pieces,
        judge=judge,
        plot=plot_curves if by_epoch else plot_places,
    )


def _of_devices(
    name: str, title: str, profiles: Sequence[str], behind: float, smoked: Sequence[str], more: str = ""
) -> Study:
    return _study(
        name,
        title,
        {
            "small": f"Digits, 64-32-10, 20 epochs, batch 20{more}; both rules try 3e-3 and 1e-2 for 5 epochs on every "
            "device."
        },
        {
            "smoke": replace(_SMOKE, profiles=smoked),
            "small": Size("digits", {"64-32-10": (32,)}, profiles, 20, 20, Search((3e-3, 1e-2), 5), behind),
        },
        seeds=5,
    )


STUDIES = (
    _of_devices("feedback-programmed", "Every noisy device that is programmed", PROGRAMMED, 1, PROGRAMMED[1:3]),
    _of_devices(
        "feedback-pulsed", "Every pulsed device, as published", PULSED, 2, PULSED[1:2],
        ", every update sent immediately",
    ),
    _study(
        "feedback-mnist",
        "MNIST on phase-change memory",
        {
            "small": "The packaged sample of MNIST, 784-300-10, 20 epochs, batch 50; both rules try 1e-3, 3e-3 and "
            "1e-2 for 5 epochs.",
            "large": "MNIST, 784-300-10, 20 epochs, batch 200; both rules try 1e-3, 3e-3 and 1e-2 for 5 epochs.",
        },
        {
            "smoke": _SMOKE,
            "small": Size("mnist-sample", {"784-300-10": (300,)}, PCM, 20, 50, Search((1e-3, 3e-3, 1e-2), 5), 1),
            "large": Size(
                "mnist", {"784-300-10": (300,)}, PCM, 20, 200, Search((1e-3, 3e-3, 1e-2), 5), 1, {"784-300-10": 98.0}
            ),
        },
        seeds=5,
        by_epoch=True,
    ),
    _study(
        "feedback-cifar10",
        "CIFAR-10 on phase-change memory",
        {
            "small": "CIFAR-10 averaged to 16 x 16 pixels, three layers of 256 units, 6 epochs of mirrored images, "
            "batch 200; both rules try 5e-4, 1e-3 and 2e-3 for 2 epochs.",
            "large": "The networks and images of [ANP], 12 epochs of mirrored images, batch 200; both rules try 5e-4, "
            "1e-3 and 2e-3 for 2 epochs. Learned feedback is to reach more than [ANP]'s best perturbation rule with a "
            "clean pass and injected noise has in 6 and 9 layers, 46.6 and 45.3 %, where its backprop has 51.5 % in 3 "
            "layers and 62.1 % in the ConvNet.",
        },
        {
            "smoke": _SMOKE,
            "small": Size("cifar10-16", {"3 hidden": (256,) * 3}, PCM, 6, 200, _THREE, 2, flips=True),
            "large": Size(
                "cifar10", {f"{n} hidden": (1024,) * n for n in (3, 6, 9)} | {"ConvNet": "convnet"}, PCM, 12, 200,
                _THREE, 2, {"3 hidden": 50.0, "6 hidden": 46.6, "9 hidden": 45.3, "ConvNet": 64.0}, flips=True,
            ),
        },
        seeds=1,
        by_epoch=True,
    ),
    _study(
        "feedback-tiny-imagenet",
        "Tiny ImageNet on phase-change memory",
        {
            "small": "Every tenth class alone (20 of 200), images averaged to 16 x 16 pixels, the ConvNet for "
            "CIFAR-10, 8 epochs of mirrored images, batch 100; both rules try 5e-4, 1e-3 and 2e-3 for 2 epochs.",
            "large": "200 classes, the ConvNet of [ANP] for Tiny ImageNet, 12 epochs of mirrored images, batch 200; "
            "both rules try 5e-4, 1e-3 and 2e-3 for 2 epochs. In [ANP] DANP reaches 2.1 % with one draw and a clean "
            "pass, 12.0 % with 100 draws, and backprop 14.5 %.",
        },
        {
            "smoke": _SMOKE,
            "small": Size("tiny-imagenet-20-16", {"ConvNet": "convnet"}, PCM, 8, 100, _THREE, 2, flips=True),
            "large": Size(
                "tiny-imagenet", {"ConvNet": "convnet-64"}, PCM, 12, 200, _THREE, 2, {"ConvNet": 12.0}, flips=True
            ),
        },
        seeds=1,
        by_epoch=True,
    ),
)  # fmt: skip
