"""The linear student of [STAB] in training, one fresh sample at a time: error and weight norm along the iterations."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from noisylearn.chips.simulated import Chip
from noisylearn.ground.draws import Draws
from noisylearn.ground.errors import RunawayError
from noisylearn.ground.tree_file import Tree
from noisylearn.networks.norms import NeuronNorms
from noisylearn.papers.harness.rule_pieces import injected
from noisylearn.papers.harness.study import Bench, Piece, Report, part_of
from noisylearn.rules import BP, NP
from noisylearn.tasks import linear_teacher

SIGMA = 1e-3  # of the injected noise: small, so that the loss is linear in it, and far above float32's rounding
DIVERGED = 1e3  # times the first error
RULES = {"np": NP(), "sgd": BP()}


@dataclass(frozen=True)
class Student:
    """How one student learns.

    Args:
        n_in: Lx.
        n_hidden: Lh; 0 for no hidden layer, a linear regression.
        n_out: Ly.
        rule: "np" or "sgd".
        rate: learning rate.
        iterations: at most.
        gain: multiplies the variance of the initial W1.
        sigma_t: standard deviation of the teacher's noise.
        normalise: whether the norm of every neuron's incoming weights is held.
        target: error to stop at.
        every: iterations between records.
    """

    n_in: int
    n_hidden: int
    n_out: int
    rule: str
    rate: float
    iterations: int
    gain: float = 1.0
    sigma_t: float = 0.0
    normalise: bool = False
    target: float = 0.0
    every: int = 10


def student_piece(name: str, student: Student, seeds: Sequence[int], cost: float) -> Piece:
    """A piece that trains a student for every seed.

    It finds `iterations` (points,), `eps` and `alpha` (seeds, points), and `steps` (seeds,): how many iterations ran
    until the target was reached or the error ran away. After that, a record holds its last value.

    Args:
        name: of the piece.
        student: that is trained.
        seeds: one training each.
        cost: relative to the study's other pieces.
    """

    def work(bench: Bench, report: Report) -> Tree:
        records = []
        for i, seed in enumerate(seeds):
            records.append(_learn(student, seed, part_of(report, i / len(seeds), 1 / len(seeds)), bench.device))
        points = np.arange(0, student.iterations + 1, student.every)
        eps, alpha = (np.array([_held(record[key], len(points)) for record in records]) for key in ("eps", "alpha"))
        return {"iterations": points, "eps": eps, "alpha": alpha, "steps": np.array([r["steps"] for r in records])}

    return Piece(name, {"student": asdict(student), "sigma": SIGMA, "seeds": list(seeds)}, work, cost)


def _learn(student: Student, seed: int, report: Report, device: str) -> Tree:
    """eps = |W2 W1 - A|^2 / (Lx Ly) and alpha = |W1|^2 / Lx at every record, and how many iterations ran."""
    task = linear_teacher.load(
        seed=seed, n_in=student.n_in, n_out=student.n_out, n_train=max(student.iterations, 5), n_test=1,
        noise=student.sigma_t,
    )  # fmt: skip
    teacher = task.teacher.to(device)
    model = _model(student, seed).to(device)
    chip = Chip(model, injected(SIGMA), seed)
    rule, norms = RULES[student.rule], NeuronNorms(model) if student.normalise else None
    optimizer = torch.optim.SGD(model.parameters(), lr=student.rate)
    eps, alpha = [_error(model, teacher)], [_norm(model, student.n_in)]
    for step, (x, y) in enumerate(zip(task.train_inputs.split(1), task.train_targets.split(1), strict=True), start=1):
        target = y.to(device)
        try:
            rule.estimate(chip, x, lambda output, target=target: task.loss_fn(output, target))  # type: ignore[misc]
        except RunawayError:
            eps.append(math.nan)
            alpha.append(math.nan)
            break
        optimizer.step()
        if norms is not None:
            norms.restore()
        chip.program()
        if step % student.every == 0:
            report(step / student.iterations)
            eps.append(_error(model, teacher))
            alpha.append(_norm(model, student.n_in))
            if eps[-1] <= student.target or not eps[-1] < DIVERGED * eps[0]:
                break
    return {"eps": eps, "alpha": alpha, "steps": (len(eps) - 1) * student.every}


def _model(student: Student, seed: int) -> nn.Sequential:
    """y = W2 W1 x with W1 ~ N(0, gain 2 / (Lx + Lh)), W2 ~ N(0, 2 / (Lh + Ly)), or y = W x, W ~ N(0, 2 / (Lx + Ly))."""
    draws = Draws(seed)
    sizes = [student.n_in, *[student.n_hidden] * bool(student.n_hidden), student.n_out]
    layers = [nn.utils.skip_init(nn.Linear, n, m, bias=False) for n, m in pairwise(sizes)]
    for i, (layer, gain) in enumerate(zip(layers, (student.gain, 1.0), strict=False)):
        weight = draws.normal(("student", str(i)), tuple(layer.weight.shape))
        layer.weight.data.copy_(weight * math.sqrt(2 * gain / sum(weight.shape)))
    return nn.Sequential(*layers)


@torch.no_grad()
def _error(model: nn.Sequential, teacher: torch.Tensor) -> float:
    first, *rest = model.parameters()
    product = rest[0] @ first if rest else first
    return float((product - teacher).square().mean())


@torch.no_grad()
def _norm(model: nn.Sequential, n_in: int) -> float:
    return float(next(model.parameters()).square().sum()) / n_in


def _held(values: list[float], length: int) -> np.ndarray:
    """Values (records,), clipped at DIVERGED times the first, and the last one repeated up to a length."""
    limit = DIVERGED * values[0]
    finite = np.nan_to_num(np.array(values), nan=limit, posinf=limit).clip(max=limit)
    return np.concatenate([finite, np.full(length - len(finite), finite[-1])])
