"""What is read from the pieces that a study found: curves, means over seeds, trivial baselines."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from noisylearn.experiments.run_file import Tree
from noisylearn.papers.harness.study import Figure, Found


def curve(tree: Tree, metric: str) -> np.ndarray:
    """(seeds, epochs) of a metric; without any row where every run ran away."""
    return tree["curves"].get(metric, np.empty((0, 0)))


def peaks(tree: Tree, metric: str) -> np.ndarray:
    """Highest value of a curve, of every seed."""
    values = curve(tree, metric)
    return values.max(1) if values.size else np.array([])


def finals(tree: Tree, metric: str, epochs: int = 1) -> np.ndarray:
    """Mean of the last epochs of a curve, of every seed."""
    values = curve(tree, metric)
    return values[:, -epochs:].mean(1) if values.size else np.array([])


def mean(values: np.ndarray) -> float:
    """Mean over the seeds; nan where every run ran away."""
    return float(values.mean()) if len(values) else math.nan


def spread(values: np.ndarray) -> float | None:
    """Standard deviation over the seeds, where there are several."""
    return float(values.std(ddof=1)) if len(values) > 1 else None


def by_piece(found: Found, measure: Any) -> dict[str, np.ndarray]:
    """A measure of every piece, by its name."""
    return {name: measure(tree) for name, tree in found.items()}


def baselines(found: Found) -> Mapping[str, float]:
    """Scores of trivial predictors, from the first rule of which a seed finished."""
    return next((tree["baselines"] for tree in found.values() if tree["baselines"]), {})


def trivial_accuracies(found: Found) -> list[Figure]:
    """Accuracies of trivial predictors, in per cent."""
    return [Figure(f"{name} (trivial baseline): accuracy (%)", 100 * value) for name, value in baselines(found).items()]
