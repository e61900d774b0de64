"""Torch against autograd: the mean of a rule's estimates is the gradient, or points where theory says.

A rule that is unbiased in deep networks has to give the gradient: every entry by a t test, the size of every layer's
known to `RESOLUTION`. Others measure by the pre-activations, whose perturbations da_l have the covariance sigma^2 S_l:
later layers carry the noise of those before. On average such a rule gives C_l g_l in place of the gradient g_l, with
C_l ~ E[da_l da_l^T / ||da||^2], whose eigenvectors are those of S_l, and whose condition number is at most k_l, that of
S_l ([ANP] appendix D; exactly so with the norm of one layer, to order 1 / units with that of the network). By
Kantorovich's inequality the cosine between the two is then at least 2 sqrt(k_l) / (1 + k_l).
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

from noisylearn.backends.conformance.cases import Case, model, profile, samples, squared_error
from noisylearn.chips.simulated import Chip
from noisylearn.networks.layers import weight_layers
from noisylearn.rules import NRL, Rule
from noisylearn.rules.variants import unbiased_in

Array = NDArray[np.float64]
STEPS = 4  # of a sequence; the loss of the last one counts
REPEATS, COPIES, WEIGHT_DRAWS = 40, 1000, 180
ACTIONS = 16 * COPIES  # of a rule that learns from one loss for each, which has a larger variance
SMALL = 1e-3  # perturbation of a weight, where the rule chooses it
LEARNED_FIRST = 40  # estimates before those that count, of a rule that learns its way back
RESOLUTION = 0.4  # half of the confidence interval of a layer's size, at most: a factor of two is found
FALSE_ALARM = 1e-4  # for each layer
ROUNDING = 1e-9  # relative, of a gradient in float64


def holds(case: Case) -> str:
    """What is claimed."""
    draws = case.rule.perturbs or hasattr(case.rule, "draws")
    if not draws and unbiased_in(case.rule) == "deep":
        return "the gradient"
    if unbiased_in(case.rule) == "deep":
        return "the gradient, on average"
    return f"its direction, cosine at least {math.floor(100 * lowest_cosine(case)) / 100:.2f}"


def check(case: Case) -> str:
    """Empty if the claim holds, else what was found."""
    exact, found = gradient(case), estimates(case)
    if unbiased_in(case.rule) != "deep":
        bound = lowest_cosine(case)
        cosines = {name: _cosine(found[name].mean(0), exact[name]) for name in exact}
        low = [f"layer {name}: cosine {cosine:.3f}" for name, cosine in cosines.items() if not cosine >= bound]
        return "; ".join(low)
    return "; ".join(filter(None, (_differs(name, found[name], exact[name]) for name in exact)))


def gradient(case: Case) -> dict[str, Array]:
    """By autograd, of the digital network alone; along a sequence cut off its past where the rule's is."""
    network, data = model(case), samples(case, STEPS)
    output = _outputs(network, data.inputs, _cut(case.rule)) if case.in_time else network(data.inputs[-1])
    squared_error(output, data.targets[-1]).mean().backward()
    return _gradients(network)


def estimates(case: Case) -> dict[str, Array]:
    """Of the rule, by layer, (repeats, entries); each the mean of many draws."""
    network, (rule, copies) = model(case), tried(case)
    data, start = samples(case, STEPS), {key: value.clone() for key, value in network.state_dict().items()}
    inputs, targets = data.inputs.repeat(1, copies, 1), data.targets.repeat(1, copies, 1)
    mask = torch.zeros(inputs.shape[:2], dtype=torch.float64)
    mask[-1] = 1.0
    chip, optimizer = Chip(network, profile(case), seed=1), torch.optim.SGD(network.parameters(), lr=0.0)
    found, first = [], LEARNED_FIRST if any(part.pools for part in rule.parts()) else 0
    for i in range(first + REPEATS):
        if case.in_time:
            rule.run(chip, inputs, targets, squared_error, optimizer, mask)
        else:
            rule.estimate(chip, inputs[-1], lambda output: squared_error(output, targets[-1]))
        if i >= first:
            found.append(_gradients(network))
        network.load_state_dict(start)  # decorrelations took a step
    return {name: np.stack([one[name] for one in found]) for name in found[0]}


def tried(case: Case) -> tuple[Rule, int]:
    """The rule as it is tried, with small noise and many draws whatever its own are, and copies of every sample."""
    rule = with_small_noise(case.rule)
    if rule.shares_draws:
        options: dict[str, Any] = {"draws": WEIGHT_DRAWS}
        return replace(rule, **options), 1
    return rule, ACTIONS if isinstance(rule, NRL) else COPIES


def with_small_noise(rule: Rule) -> Rule:
    """The rule with small perturbations, where their size is an option of its own and not the machine's.

    Args:
        rule: the rule.
    """
    options: dict[str, Any] = {name: SMALL for name in ("epsilon", "fluctuation") if hasattr(rule, name)}
    return replace(rule, **options)


def lowest_cosine(case: Case) -> float:
    """2 sqrt(k) / (1 + k) with the largest condition number k of any layer's S = J J^T.

    J: derivatives of the layer's pre-activations of the last step with respect to noise on all pre-activations.
    """
    network, data = model(case), samples(case, STEPS)
    layers, steps = weight_layers(network), STEPS if case.in_time else 1
    units = [layer.weight.shape[0] for layer in layers.values()]

    def activities(noise: Tensor) -> tuple[Tensor, ...]:
        last: dict[str, Tensor] = {}
        of_layers = noise.unflatten(0, (steps, -1)).split(units, 1)
        rows = {name: iter(part) for name, part in zip(layers, of_layers, strict=True)}

        def hook(name: str) -> Callable[..., Tensor]:
            def perturbed(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
                last[name] = output + next(rows[name])
                return last[name]

            return perturbed

        hooks = [layer.register_forward_hook(hook(name)) for name, layer in layers.items()]
        _ = _outputs(network, data.inputs, None) if case.in_time else network(data.inputs[-1])
        for handle in hooks:
            handle.remove()
        return tuple(last[name][0] for name in layers)

    jacobians = torch.autograd.functional.jacobian(activities, torch.zeros(steps * sum(units), dtype=torch.float64))
    k = max(float(torch.linalg.cond(J @ J.T)) for J in jacobians)
    return 2 * math.sqrt(k) / (1 + k)


def _differs(name: str, found: Array, exact: Array) -> str:
    """What tells estimates (repeats, entries) of a layer from the gradient; empty if nothing does."""
    square, floor = exact @ exact, ROUNDING * np.abs(exact).max()
    size, error = (value.item() for value in _interval(found @ exact[:, None] / square, FALSE_ALARM / 2))
    if not error <= RESOLUTION * abs(size):
        return f"layer {name}: {size:.2g} +- {error:.1g} times the gradient, which is too uncertain to tell"
    if not abs(size - 1) <= error + ROUNDING:
        return f"layer {name}: {size:.2g} +- {error:.1g} times the gradient"
    means, errors = _interval(found, FALSE_ALARM / 2)
    return "" if (np.abs(means - exact) <= errors + floor).all() else f"layer {name}: in another direction"


def _interval(samples: Array, false_alarm: float) -> tuple[Array, Array]:
    """Mean of samples (repeats, entries), and half of its confidence interval; Bonferroni over the entries."""
    repeats, entries = samples.shape
    limit = stats.t.ppf(1 - false_alarm / (2 * entries), repeats - 1)
    return samples.mean(0), limit * samples.std(0, ddof=1) / math.sqrt(repeats)


def _cosine(one: Array, other: Array) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def _cut(rule: Rule) -> int | None:
    """Steps after which the state is cut off its past: before every update, or where backprop truncates."""
    time = rule.in_time()
    return (time.truncate or 1) if time.update == "online" else time.truncate


def _outputs(network: nn.Module, inputs: Tensor, cut: int | None) -> Tensor:
    """Output of the last step, the states going on from one step to the next."""
    state: tuple[Tensor, ...] | None = None
    for t, x in enumerate(inputs):
        if state is not None and cut is not None and t % cut == 0:
            state = tuple(part.detach() for part in state)
        output, state = network(x, state)
    found: Tensor = output
    return found


def _gradients(network: nn.Module) -> dict[str, Array]:
    """Of every layer, weights and biases in one vector."""
    found = {}
    for name, layer in weight_layers(network).items():
        parts = [p.grad.flatten() for p in layer.parameters() if p.grad is not None]
        found[name] = torch.cat(parts).numpy().copy()
    return found
