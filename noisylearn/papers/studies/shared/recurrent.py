"""What the studies of [RNN] share: noise, optimizers and rules, what these are called, and criteria on their errors."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from noisylearn.experiments.config import split_label
from noisylearn.ground.tree_file import Tree
from noisylearn.papers.harness.criteria import above, at_most, ordered
from noisylearn.papers.harness.measures import baselines, curve, finals, mean, over_seeds, trivial_figures
from noisylearn.papers.harness.rule_pieces import Search, injected, rule_piece
from noisylearn.papers.harness.study import Criterion, Figure, Found, Piece
from noisylearn.rules import rule_class

SIGMA = 0.1  # standard deviation of the noise: variance 1e-2, [RNN] appendix B
NEAR = 1.5  # errors whose ratio is below this count as near one another, above it as far apart
NODE_RULES, WEIGHT_RULES = ("np", "dnp", "anp", "danp"), ("wp", "dwp")
BACKPROP_NAMES: Mapping[str, str] = {
    "tbptt1": "TBPTT(1), the public code's BP",
    "dtbptt1": "DTBPTT(1), the public code's DBP",
    "bptt": "BPTT, whole sequence",
}
OPTIMIZERS = (
    "Perturbation rules learn by plain gradient descent, backprop by Adam, at constant rates, as in the paper; ANP has "
    "its norm over the network (per layer, as in the paper, the one output's norm is heavy-tailed)."
)
AS_PUBLISHED = f"{OPTIMIZERS} Noise of variance 1e-2 on pre-activations, or for WP on weights, as in the paper."


def name_of(rule: str) -> str:
    """What a rule is called in tables and legends; of backprop, how far it goes back in time."""
    return rule.upper() if rule in NODE_RULES + WEIGHT_RULES else BACKPROP_NAMES.get(rule, rule)


def recurrent_piece(
    name: str,
    task: str,
    rule: str,
    seeds: Sequence[int],
    options: Mapping[str, Any],
    search: Search | None = None,
    sigma: float = SIGMA,
) -> Piece:
    """A piece that trains a rule on sequences with the paper's optimizer, with updates online unless stated.

    Args:
        name: of the piece.
        task: by its name.
        rule: by its name.
        seeds: one training each.
        options: as for `rule_piece`.
        search: of the learning rate; None for the one in the options.
        sigma: standard deviation of the noise.
    """
    perturbs = rule_class(split_label(rule)[0]).perturbs
    profile = injected(sigma, into="weight" if rule in WEIGHT_RULES else "node")
    settings = {"update": "online", "schedule": "constant", "optimizer": "sgd" if perturbs else "adam"} | dict(options)
    return rule_piece(name, task, rule, profile, seeds, settings, search, 1.4 if rule.startswith("d") else 1.0)


def error_figures(found: Found, errors: Mapping[str, np.ndarray], quantity: str) -> list[Figure]:
    """A measure (seeds,) of every rule, how many of its runs ran away, and the trivial baselines."""
    figures = [
        one for rule, values in errors.items() for one in outcome(name_of(rule), {quantity: values}, found[rule])
    ]
    return figures + trivial_figures(baselines(found))


def outcome(label: str, measured: Mapping[str, np.ndarray], tree: Tree) -> list[Figure]:
    """Measures (seeds,) of one piece, by quantity, and how many of its runs ran away."""
    figures = [over_seeds(f"{label}: {quantity}", values) for quantity, values in measured.items() if len(values)]
    stopped = int(tree["stopped"])
    return [*figures, Figure(f"{label}: runs that ran away", stopped)] if stopped else figures


def held_out_error(epochs: int) -> Callable[[Tree], np.ndarray]:
    """What measures the mean squared error of the held-out part, (seeds,), mean of the last epochs."""
    return partial(finals, metric="held_out_mse", epochs=epochs)


def lower(name: str, other: str, values: Mapping[str, np.ndarray]) -> Criterion:
    """That the mean error of one rule is below that of another, or that all runs of the other ran away."""
    return ordered(name, other, values, higher=False, called=name_of)


def near(name: str, other: str, values: Mapping[str, np.ndarray], factor: float = NEAR) -> Criterion:
    """That the mean error of one rule is at most `factor` times that of another."""
    ratio = mean(values[name]) / mean(values[other])
    return at_most(f"{name_of(name)} at most {factor:g} times {name_of(other)}", ratio, factor, "{:.2f} times")


def far_above(name: str, other: str, values: Mapping[str, np.ndarray], factor: float = NEAR) -> Criterion:
    """That the mean error of one rule is more than `factor` times that of another, or that all its runs ran away."""
    statement = f"{name_of(name)} more than {factor:g} times {name_of(other)}"
    if not len(values[name]):
        return Criterion(statement, "every run ran away", len(values[other]) > 0)
    ratio = mean(values[name]) / mean(values[other])
    return above(statement, ratio, factor, "{:.2f} times")


def log_curve(tree: Tree, metric: str) -> np.ndarray:
    """An error (seeds, epochs), cut off at 10, so that a run near its end does not stretch a logarithmic axis."""
    return np.minimum(curve(tree, metric), 10.0)
