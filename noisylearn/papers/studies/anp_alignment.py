"""[ANP] figures 2, 7 and 8: angles between a rule's update and backprop's, against draws, passes and the noise."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from noisylearn import networks, tasks
from noisylearn.chips.segments import as_segment
from noisylearn.chips.simulated import Chip
from noisylearn.ground.draws import Draws
from noisylearn.ground.tree_file import Tree
from noisylearn.networks.feedforward import Initialisation
from noisylearn.papers.harness.criteria import above, below
from noisylearn.papers.harness.pictures import band, panels, style_of
from noisylearn.papers.harness.rule_pieces import injected
from noisylearn.papers.harness.study import Bench, Criterion, Figure, Found, Judgement, Piece, Report, Study
from noisylearn.rules import ANP, BP, INP, NP, Learner, Rule
from noisylearn.rules.observation import LossFn, Observation

RULES: dict[str, type[NP] | type[INP] | type[ANP]] = {"np": NP, "anp": ANP, "inp": INP}
N_CLASSES = 10


@dataclass(frozen=True)
class Size:
    """Network, samples and draws.

    Args:
        hidden: units of the hidden layers.
        samples: in the batch.
        draws: of the noise, the most that are averaged.
        variances: of the injected noise.
        n_in: inputs of the synthetic samples.
        task: whose first samples are taken; None for Gaussian inputs and random labels.
        at_once: draws that one estimate averages.
        initialisation: of the weights.
    """

    hidden: Sequence[int]
    samples: int
    draws: int
    variances: Sequence[float] = (1e-6,)
    n_in: int = 100
    task: str | None = None
    at_once: int = 10
    initialisation: Initialisation = "glorot"

    @property
    def layers(self) -> list[str]:
        return [*(f"hidden{i + 1}" for i in range(len(self.hidden))), "readout"]

    @property
    def counts(self) -> list[int]:
        """Numbers of draws after which the angle is measured: 1, 2, 5, 10, ... up to all."""
        found = [m * 10**e for e in range(7) for m in (1, 2, 5) if m * 10**e < self.draws]
        return [*found, self.draws]


def pieces(size: Size, seeds: Sequence[int]) -> list[Piece]:
    settings = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(size).items()}
    return [
        Piece(
            f"{rule} {seed}",
            {"rule": rule, "seed": seed, **settings},
            partial(_angles, size, rule, seed),
            len(size.layers) if rule == "inp" else 1,
        )
        for rule in RULES
        for seed in seeds
    ]


def _angles(size: Size, rule: str, seed: int, bench: Bench, report: Report) -> Tree:
    """Angles in degrees (variances, layers, counts) between the mean of so many draws and the gradient by autograd."""
    x, targets = _samples(size, seed, bench)
    model = networks.mlp(x[0].numel(), size.hidden, N_CLASSES, seed, initialisation=size.initialisation).to(
        bench.device
    )

    def loss_fn(output: Tensor) -> Tensor:
        return F.cross_entropy(output, targets, reduction="none")

    found = np.empty((len(size.variances), len(size.layers), len(size.counts)))
    for i, variance in enumerate(size.variances):
        with warnings.catch_warnings(action="ignore"):  # that the noise is very small or large, as is intended here
            chip = Chip(model, injected(math.sqrt(variance)), seed)
        exact = _update(BP(), chip, x, loss_fn)
        for k, mean in enumerate(_means(size, RULES[rule], chip, x, loss_fn)):
            found[i, :, k] = [_angle(mean[name], exact[name]) for name in size.layers]
            report((i + (k + 1) / len(size.counts)) / len(size.variances))
    return {"angles": found}


def _means(size: Size, kind: type[NP] | type[INP] | type[ANP], chip: Chip, x: Tensor, loss_fn: LossFn) -> list:
    """By count of draws 1, 2, 5, ...: the mean update of every layer."""
    total = {name: torch.zeros(()) for name in size.layers}
    done, found = 0, []
    for count in size.counts:
        while done < count:
            draws = min(size.at_once, count - done)
            update = _update(kind(draws=draws), chip, x, loss_fn)
            total = {name: total[name].to(update[name]) + draws * update[name] for name in size.layers}
            done += draws
        found.append(dict(total))
    return found


def _update(rule: Rule, chip: Chip, x: Tensor, loss_fn: LossFn) -> dict[str, Tensor]:
    estimate = Learner(rule, chip).look(Observation(chip, as_segment(x), loss_fn))
    return {name: parameters["weight"].flatten().double() for name, parameters in estimate.gradients.items()}


def _angle(update: Tensor, exact: Tensor) -> float:
    return math.degrees(math.acos(float(F.cosine_similarity(update, exact, dim=0).clamp(-1, 1))))


def _samples(size: Size, seed: int, bench: Bench) -> tuple[Tensor, Tensor]:
    if size.task is None:
        stream = Draws(seed).stream("papers", "synthetic")
        x = torch.randn(size.samples, size.n_in, generator=stream)
        targets = torch.randint(N_CLASSES, (size.samples,), generator=stream)
    else:
        task = tasks.load(size.task, bench.data_dir)
        x, targets = task.train_inputs[: size.samples], task.train_targets[: size.samples]
    return x.to(bench.device), targets.to(bench.device)


def _by_rule(found: Found) -> dict[str, np.ndarray]:
    """Angles (seeds, variances, layers, counts) of every rule."""
    return {rule: np.stack([t["angles"] for n, t in found.items() if n.split()[0] == rule]) for rule in RULES}


def judge_draws(size: Size, found: Found) -> Judgement:
    angles = {rule: values[:, 0] for rule, values in _by_rule(found).items()}  # (seeds, layers, counts)
    last = {rule: values[:, :, -1].mean(0) for rule, values in angles.items()}
    figures = [
        Figure(f"{rule}, {layer}: angle after {size.draws} draws (degrees)", float(last[rule][k]))
        for rule in RULES
        for k, layer in enumerate(size.layers)
    ]
    at_equal = {rule: _at_passes(size, angles[rule].mean((0, 1)), rule) for rule in RULES}
    figures += [
        Figure(f"{rule}: angle after {size.draws} noisy passes, mean of layers (degrees)", at_equal[rule])
        for rule in RULES
    ]
    means = {rule: float(values.mean()) for rule, values in last.items()}
    falls = {rule: values[:, :, 0].mean() - values[:, :, -1].mean() for rule, values in angles.items()}
    rivals = np.minimum(last["np"], last["anp"])
    apart = abs(last["np"][0] - last["anp"][0])
    criteria = [
        _smaller(means, "inp", "anp"),
        _smaller(means, "anp", "np"),
        below("INP aligns best in every layer", last["inp"], rivals, "{:.1f} < {:.1f}"),
        below("NP and ANP are alike in the first layer (within 2 degrees)", apart, 2, "{:.2f} apart"),
        Criterion(
            "every angle falls with the number of draws",
            ", ".join(f"{rule} by {fall:.1f}" for rule, fall in falls.items()),
            bool(min(falls.values()) > 0),
        ),
    ]
    return Judgement(figures, criteria)


def _smaller(angles: dict[str, float], better: str, worse: str) -> Criterion:
    statement = f"{better.upper()} aligns better than {worse.upper()}, mean of the layers"
    return below(statement, angles[better], angles[worse], "{:.1f} against {:.1f} degrees")


def _at_passes(size: Size, curve: np.ndarray, rule: str) -> float:
    """Angle after as many noisy passes as there are draws, interpolated between the counts on a logarithmic axis."""
    return float(np.interp(math.log(size.draws), np.log(_passes(size, rule)), curve))


def _passes(size: Size, rule: str) -> np.ndarray:
    return np.array(size.counts) * (len(size.layers) if rule == "inp" else 1)


def plot_draws(size: Size, found: Found, file: Path) -> None:
    titles = [f"angle to backprop's update, {layer}" for layer in size.layers]
    with panels(file, [*titles, "mean of the layers, by noisy passes", "cost"], width=4.2) as axes:
        for rule, angles in _by_rule(found).items():
            style = {**style_of(rule), "linestyle": "-"}
            for ax, values in zip(axes, np.moveaxis(angles[:, 0], 1, 0), strict=False):
                band(ax, values, rule.upper(), size.counts, **style)
                ax.set(xlabel="draws of the noise", ylabel="angle (degrees)", xscale="log")
            band(axes[-2], angles[:, 0].mean(1), rule.upper(), _passes(size, rule), **style)
            axes[-1].bar(rule.upper(), 1 + (len(size.layers) if rule == "inp" else 1), color=style["color"])
        axes[-2].set(xlabel="noisy passes", ylabel="angle (degrees)", xscale="log")
        axes[-1].set(ylabel="passes for one draw, with the clean one")


FLAT, SECOND = (1e-6, 1e-4), 1  # variances between which the paper sees no change; the layer that it shows


def judge_noise(size: Size, found: Found) -> Judgement:
    angles = {rule: values[:, :, SECOND, -1].mean(0) for rule, values in _by_rule(found).items()}  # (variances,)
    figures = [
        Figure(f"{rule}: angle at variance {variance:.0e} (degrees)", float(angles[rule][i]))
        for rule in RULES
        for i, variance in enumerate(size.variances)
    ]
    flat = [i for i, variance in enumerate(size.variances) if FLAT[0] <= variance * 1.01 and variance <= FLAT[1] * 1.01]
    criteria = []
    for rule, values in angles.items():
        level = values[flat].mean()
        statement = f"{rule}: flat from 1e-6 to 1e-4 (within 1 degree)"
        criteria.append(below(statement, np.ptp(values[flat]), 1, "within {:.2f}"))
        for i in (0, -1):
            statement = f"{rule}: worse at {size.variances[i]:.0e} by more than 1 degree"
            criteria.append(above(statement, values[i] - level, 1, "by {:.1f}"))
    levels = {rule: float(values[flat].mean()) for rule, values in angles.items()}
    rival = min(levels["np"], levels["anp"])
    criteria.append(below("INP aligns best where it is flat", levels["inp"], rival, "{:.1f} degrees"))
    return Judgement(figures, criteria)


def plot_noise(size: Size, found: Found, file: Path) -> None:
    with panels(file, [f"angle to backprop's update, second hidden layer, {size.draws} draws"], width=6.4) as (ax,):
        for rule, angles in _by_rule(found).items():
            style = {**style_of(rule), "linestyle": "-"}
            band(ax, angles[:, :, SECOND, -1], rule.upper(), size.variances, **style)
        ax.set(xlabel="variance of the injected noise", ylabel="angle (degrees)", xscale="log")


_SWEEP = tuple(10.0**e for e in range(-14, 0))
_DRAWS_SETTING = (
    "A batch of {} synthetic samples (Gaussian inputs, random labels; the paper does not describe its own), "
    "3 hidden layers of {} units, initialised as in Keras, leaky ReLU, cross entropy, "
    "variance 1e-6; the network does not learn."
)
_NOISE_SETTING = "{}, 3 hidden layers of {} units, {} draws, float32."
STUDIES = (
    Study(
        "anp-fig2", "anp", "figures 2 and 7", "Alignment with backprop against draws and passes",
        "INP aligns by far best with backprop, then ANP, closely followed by NP; the first layer is alike for NP and "
        "ANP; INP costs a pass for every layer.",
        {
            "smoke": _DRAWS_SETTING.format(5, 50),
            "small": _DRAWS_SETTING.format(20, 300),
            "paper": _DRAWS_SETTING.format(1000, 1024),
        },
        {
            "smoke": Size((50,) * 3, 5, 20, n_in=50),
            "small": Size((300,) * 3, 20, 500),
            "paper": Size((1024,) * 3, 1000, 1000),
        },
        {"smoke": 5, "small": 5, "paper": 3}, pieces, judge_draws, plot_draws,
    ),
    Study(
        "anp-fig8", "anp", "figure 8", "Alignment against the scale of the noise",
        "Angles are flat for variances from 1e-6 to 1e-4, worse below 1e-7 (precision) and above 1e-3 (nonlinearity).",
        {
            "smoke": _NOISE_SETTING.format("Synthetic samples", 20, 50),
            "small": _NOISE_SETTING.format("The first 1000 images of CIFAR-10, averaged to 16 x 16", 256, 20),
            "paper": _NOISE_SETTING.format("The first 1000 images of CIFAR-10", 1024, 20),
        },
        {
            "smoke": Size((20,) * 3, 100, 50, _SWEEP, n_in=20),
            "small": Size((256,) * 3, 1000, 20, _SWEEP, task="cifar10-16", at_once=5),
            "paper": Size((1024,) * 3, 1000, 20, _SWEEP, task="cifar10", at_once=5),
        },
        {"smoke": 2, "small": 3, "paper": 3}, pieces, judge_noise, plot_noise,
    ),
)  # fmt: skip
