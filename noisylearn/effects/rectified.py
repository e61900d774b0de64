"""Moments of a normal variable that is floored at zero."""

import torch
from torch import Tensor

from noisylearn.effects.base import Moments


def rectified_normal(mean: Tensor, sigma: Tensor) -> Moments:
    """Moments of max(X, 0), X ~ N(mean, sigma^2), elementwise.

    Args:
        mean: of X.
        sigma: standard deviation of X, of the same shape; 0 gives max(mean, 0) exactly.

    Returns:
        Mean and variance.
    """
    safe = torch.where(sigma > 0, sigma, 1.0)
    normal = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    cdf, pdf = normal.cdf(mean / safe), normal.log_prob(mean / safe).exp()
    first = mean * cdf + sigma * pdf
    second = (mean**2 + sigma**2) * cdf + mean * sigma * pdf
    exact = sigma > 0
    return Moments(
        torch.where(exact, first, mean.clamp(min=0)), torch.where(exact, (second - first**2).clamp(min=0), 0.0)
    )
