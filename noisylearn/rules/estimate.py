"""Estimates of the gradient from the readings of a rule's passes."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from jaxtyping import Float, Num
from torch import Tensor

from noisylearn.chips.readings import LayerReading, Plan, Readings
from noisylearn.networks.layers import parameter_gradients

Baseline = Literal["clean", "noisy", "mean"]
Passes = slice | list[int]  # index of some passes
Values = Any  # torch tensors or numpy arrays, for functions that use operators alone
NodePasses = Num[Values, "passes batch *units"]
NodeValues = Num[Values, "batch *units"]


class NodeRule(Protocol):
    """What an estimate needs of a rule that perturbs nodes; see `noisylearn.rules.perturbation.NodePerturbation`."""

    @property
    def baseline(self) -> Baseline: ...
    @property
    def draws(self) -> int: ...
    @property
    def observes(self) -> frozenset[str]: ...
    def post(self, activity: NodePasses, reference: NodeValues, noise: NodePasses | None) -> NodePasses: ...
    def scales(self, norms: list[Values], sizes: list[int], variances: list[float]) -> list[Values]: ...


@dataclass
class Estimate:
    """What a rule estimates from one segment.

    Args:
        loss: mean loss over the samples, of the reference.
        gradients: name of a layer -> name of a parameter -> estimate of dL/dp, in the parameter's shape.
        inputs: name of a layer -> its input, from which decorrelations learn.
        covariances: the same of all processes, where these inputs are of some rows alone: name of a layer -> covariance
            of its decorrelated inputs, see `noisylearn.networks.decorrelation.Decorrelation.learn`.
    """

    loss: Float[Tensor, ""]
    gradients: Mapping[str, Mapping[str, Float[Tensor, "..."]]]
    inputs: Mapping[str, Float[Tensor, "samples ..."]]
    covariances: Mapping[str, Float[Tensor, "n_features n_features"]] | None = None


def reference(passes: Values, baseline: Baseline) -> Values:
    """The reference that passes are compared with: the first pass, or the mean of all; uses operators alone.

    Args:
        passes: (passes, ...).
        baseline: "mean" for the mean.

    Returns:
        (...).
    """
    return passes.mean(0) if baseline == "mean" else passes[0]


def estimate_nodes(
    rule: NodeRule,
    plan: Plan,
    readings: Readings,
    losses: Float[Tensor, "passes rows"],
    layers: Collection[str],
    added: Mapping[str, Float[Tensor, "rows ..."]] | None = None,
) -> Estimate:
    """Estimate by a rule that perturbs nodes: dW = g pre^T, with pre = the input in the reference.

    Args:
        rule: gives `post` and `scales`.
        plan: the passes that were run.
        readings: of those passes.
        losses: credited to the perturbations of every pass and sample.
        layers: names of the layers to estimate gradients for.
        added: to the g of these layers.
    """
    signals = node_signals(rule, plan, readings, losses)
    for name, more in (added or {}).items():
        signals[name] = signals[name] + more
    inputs = {name: reference(r.input, rule.baseline) for name, r in readings.layers.items()}
    gradients = {n: parameter_gradients(readings.layers[n].layer, inputs[n], signals[n]) for n in layers}
    return Estimate(reference(losses, rule.baseline).mean(), gradients, inputs)


def node_signals(
    rule: NodeRule, plan: Plan, readings: Readings, losses: Float[Tensor, "passes rows"]
) -> dict[str, Float[Tensor, "rows ..."]]:
    """Estimates g_l of dL/da for every sample.

        g_l = (1/draws) sum over passes of  modulator x scale x post,   modulator = L(pass) - L(reference)

    With the mean as baseline the sum goes over all draws + 1 passes, and the norms in the scale are pooled over them;
    for one draw that equals a noisy baseline.

    Args:
        rule: gives `post` and `scales`.
        plan: the passes that were run.
        readings: of those passes.
        losses: credited to the perturbations of every pass and sample.

    Returns:
        Name of a perturbed layer -> g_l, in the shape of its pre-activations.
    """
    rows = compared_passes(rule.baseline, plan, len(readings.layers))
    perturbed = {name: index for name, index in zip(readings.layers, rows, strict=True) if index is not None}
    posts = [_post(rule, readings.layers[name], index) for name, index in perturbed.items()]
    norms = [torch.linalg.vector_norm(post.flatten(2), dim=2).square() for post in posts]
    sizes = [post.shape[2:].numel() for post in posts]
    variances = [readings.layers[name].node_variance for name in perturbed]
    factors = node_factors(rule, list(perturbed.values()), losses, norms, sizes, variances)
    return {name: _summed(factor, post) for name, factor, post in zip(perturbed, factors, posts, strict=True)}


def compared_passes(baseline: Baseline, plan: Plan, n_layers: int) -> list[Passes | None]:
    """The passes of every layer that are compared with the reference.

    Args:
        baseline: with "mean" all passes are compared, if any perturbs the layer.
        plan: the passes that are run.
        n_layers: layers of the network.

    Returns:
        Index of passes for every layer; None where no pass perturbs the layer.
    """
    rows = [plan.passes_of(layer) for layer in range(n_layers)]
    if baseline == "mean":
        rows = [list(range(plan.n_passes)) if passes else [] for passes in rows]
    return [_index(passes) if passes else None for passes in rows]


def node_factors(
    rule: NodeRule, rows: list[Passes], losses: Values, norms: list[Values], sizes: list[int], variances: list[float]
) -> list[Values]:
    """modulator x scale / draws of every perturbed layer; uses operators alone, for torch and numpy alike.

    Args:
        rule: gives `scales`.
        rows: of every layer, the passes that are compared with the reference.
        losses: (passes, batch).
        norms: ||post||^2 of every layer, (passes of the layer, batch).
        sizes: units of every layer.
        variances: of the noise injected into one unit of every layer.

    Returns:
        For every layer (passes of the layer, batch).
    """
    modulator = losses - reference(losses, rule.baseline)
    if rule.baseline == "mean":
        norms = [norm.sum(0)[None] / rule.draws for norm in norms]
    scales = rule.scales(norms, sizes, variances)
    factors = [modulator[index] * scale for index, scale in zip(rows, scales, strict=True)]
    return factors if rule.draws == 1 else [factor / rule.draws for factor in factors]


def _summed(factor: Tensor, post: Tensor) -> Tensor:
    """Sum over the passes of factor (passes, batch) x post (passes, batch, ...)."""
    if len(post) == 1:
        return factor[0].reshape(-1, *[1] * (post.dim() - 2)) * post[0]
    return torch.einsum("pb,pbn->bn", factor, post.flatten(2)).reshape(post.shape[1:])


def _post(rule: NodeRule, reading: LayerReading, passes: Passes) -> NodePasses:
    noise = reading.noise if "injected_noise" in rule.observes else None
    noise = None if noise is None else noise[passes]
    return rule.post(reading.activity[passes], reference(reading.activity, rule.baseline), noise)


def _index(rows: list[int]) -> Passes:
    """Index of the passes, as a slice (which copies nothing) where they are consecutive."""
    consecutive = rows == list(range(rows[0], rows[0] + len(rows)))
    return slice(rows[0], rows[-1] + 1) if consecutive else rows
