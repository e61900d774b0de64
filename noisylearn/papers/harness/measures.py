"""What is read from the pieces that a study found: curves, means over the seeds, trivial baselines."""

import math
from collections.abc import Callable, Mapping

import numpy as np

from noisylearn.ground.tree_file import Tree
from noisylearn.papers.harness.study import Figure, Found


def curve(tree: Tree, metric: str) -> np.ndarray:
    """A metric along the epochs, (seeds, epochs), of a `rule_piece`; (0, 0) where every run ran away."""
    return tree["curves"].get(metric, np.empty((0, 0)))


def peaks(tree: Tree, metric: str) -> np.ndarray:
    """Highest value of a curve, (seeds,)."""
    values = curve(tree, metric)
    return values.max(1) if values.size else np.array([])


def finals(tree: Tree, metric: str, epochs: int = 1) -> np.ndarray:
    """Mean of the last epochs of a curve, (seeds,)."""
    values = curve(tree, metric)
    return values[:, -epochs:].mean(1) if values.size else np.array([])


def mean(values: np.ndarray) -> float:
    """Mean over the seeds of values (seeds,); nan where every run ran away."""
    return float(values.mean()) if len(values) else math.nan


def spread(values: np.ndarray) -> float | None:
    """Standard deviation over the seeds of values (seeds,), where there are several."""
    return float(values.std(ddof=1)) if len(values) > 1 else None


def over_seeds(quantity: str, values: np.ndarray, published: float | None = None) -> Figure:
    """Mean and standard deviation over the seeds of values (seeds,), as a figure."""
    return Figure(quantity, mean(values), published, spread(values))


def by_piece(found: Found, measure: Callable[[Tree], np.ndarray]) -> dict[str, np.ndarray]:
    """A measure of every piece, by the piece's name."""
    return {name: measure(tree) for name, tree in found.items()}


def baselines(found: Found) -> Mapping[str, float]:
    """Scores of trivial predictors, from the first piece of which a seed finished."""
    return next((tree["baselines"] for tree in found.values() if tree["baselines"]), {})


def trivial_figures(scores: Mapping[str, float], what: str = " (trivial)", scale: float = 1.0) -> list[Figure]:
    """Scores of trivial predictors times a scale; `what` follows the predictor's name."""
    return [Figure(f"{name}{what}", scale * float(score)) for name, score in scores.items()]


def trivial_accuracies(found: Found) -> list[Figure]:
    """Accuracies of trivial predictors, in per cent."""
    return trivial_figures(baselines(found), " (trivial baseline): accuracy (%)", 100)
