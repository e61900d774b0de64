"""From the readings of a rule's passes to estimates of the gradient."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from noisylearn.chips.readings import LayerReading, Plan, Readings
from noisylearn.networks.layers import parameter_gradients

Baseline = Literal["clean", "noisy", "mean"]
Passes = slice | list[int]  # index of some passes
Values = Any  # torch tensors or numpy arrays: whatever operators alone are needed for


class NodeRule(Protocol):
    """What a rule that perturbs nodes states: see `noisylearn.rules.base.NodePerturbation`."""

    @property
    def baseline(self) -> Baseline: ...
    @property
    def draws(self) -> int: ...
    def post(self, activity: Tensor, reference: Tensor, noise: Tensor | None) -> Tensor: ...
    def scales(self, norms: list[Tensor], sizes: list[int], variances: list[float]) -> list[Tensor | float]: ...


@dataclass
class Estimate:
    """What a rule makes of a segment.

    Args:
        loss: mean over the samples, of the reference.
        gradients: name of a layer -> name of a parameter -> estimate of dL/dp.
        inputs: name of a layer -> what entered it, (samples, ...): decorrelations learn from it.
    """

    loss: Tensor
    gradients: Mapping[str, Mapping[str, Tensor]]
    inputs: Mapping[str, Tensor]


def reference(passes: Values, baseline: Baseline) -> Values:
    """What passes (passes, ...) are compared with: the first of them, or their mean; operators alone."""
    return passes.mean(0) if baseline == "mean" else passes[0]


def estimate_nodes(rule: NodeRule, plan: Plan, readings: Readings, losses: Tensor, layers: Collection[str]) -> Estimate:
    """Gradients of the named layers by a rule that perturbs nodes: dW = g pre^T, pre = the reference input."""
    signals = node_signals(rule, plan, readings, losses)
    inputs = {name: reference(r.input, rule.baseline) for name, r in readings.layers.items()}
    gradients = {n: parameter_gradients(readings.layers[n].layer, inputs[n], signals[n]) for n in layers}
    return Estimate(reference(losses, rule.baseline).mean(), gradients, inputs)


def node_signals(rule: NodeRule, plan: Plan, readings: Readings, losses: Tensor) -> dict[str, Tensor]:
    """Estimate g_l of dL/da for every perturbed layer and sample, (batch, ...), averaged over the draws.

    g_l = (1/draws) sum over passes of  modulator x scale x post,  modulator = L(pass) - L(reference) per sample.
    With the mean of the draws + 1 passes as reference all of them are summed and the norms that the scale uses
    are pooled over them; for one draw that equals a noisy baseline.
    """
    rows = compared_passes(rule.baseline, plan, len(readings.layers))
    perturbed = {name: index for name, index in zip(readings.layers, rows, strict=True) if index is not None}
    posts = [_post(rule, readings.layers[name], index) for name, index in perturbed.items()]
    norms = [torch.linalg.vector_norm(post.flatten(2), dim=2).square() for post in posts]
    sizes = [post[0, 0].numel() for post in posts]
    variances = [readings.layers[name].node_variance for name in perturbed]
    factors = node_factors(rule, list(perturbed.values()), losses, norms, sizes, variances)
    return {name: _summed(factor, post) for name, factor, post in zip(perturbed, factors, posts, strict=True)}


def compared_passes(baseline: Baseline, plan: Plan, n_layers: int) -> list[Passes | None]:
    """Of every layer, the passes that are compared with the reference; None where none perturbs it."""
    rows = [plan.passes_of(layer) for layer in range(n_layers)]
    if baseline == "mean":
        rows = [list(range(plan.n_passes)) if passes else [] for passes in rows]
    return [_index(passes) if passes else None for passes in rows]


def node_factors(
    rule: NodeRule, rows: list[Passes], losses: Values, norms: list[Values], sizes: list[int], variances: list[float]
) -> list[Values]:
    """modulator x scale / draws of every perturbed layer and compared pass, (passes of the layer, batch).

    Operators alone, for torch tensors and numpy arrays alike. rows: the compared passes of each layer.  losses:
    (passes, batch).  norms, sizes, variances: as `scales` of a rule takes them.
    """
    modulator = losses - reference(losses, rule.baseline)
    if rule.baseline == "mean":
        norms = [norm.sum(0)[None] / rule.draws for norm in norms]
    scales = rule.scales(norms, sizes, variances)
    return [modulator[index] * scale / rule.draws for index, scale in zip(rows, scales, strict=True)]


def _summed(factor: Tensor, post: Tensor) -> Tensor:
    """Sum over the passes of factor (passes, batch) x post (passes, batch, ...)."""
    if len(post) == 1:
        return factor[0].reshape(-1, *[1] * (post.dim() - 2)) * post[0]
    return torch.einsum("pb,pbn->bn", factor, post.flatten(2)).reshape(post.shape[1:])


def _post(rule: NodeRule, reading: LayerReading, passes: Passes) -> Tensor:
    noise = None if reading.noise is None else reading.noise[passes]
    return rule.post(reading.activity[passes], reference(reading.activity, rule.baseline), noise)


def _index(rows: list[int]) -> Passes:
    """Index of the passes, as a slice (which copies nothing) where they are consecutive."""
    consecutive = rows == list(range(rows[0], rows[0] + len(rows)))
    return slice(rows[0], rows[-1] + 1) if consecutive else rows
