"""Statistical criteria, small machines and small networks that several test files share.

Every criterion takes the false-alarm probability it may spend. Seeds are fixed, so a test that passes once passes
always; the budget says how surprising a failure after a change of the random numbers would be.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

from noisylearn import Chip, HardwareProfile
from noisylearn.profiles import parse_profile
from noisylearn.rules import Learner, Rule

Array = NDArray[np.float64]
ROUNDING = 1e-9  # of an estimate without any noise, whose interval is a point
COARSE = ("isaac-2016", "prime-2016", "sonos-array-2022")  # converters that swallow the noise of a few devices


def mean_agrees(samples: Array, expected: Array, false_alarm: float) -> bool:
    """Two-sided t test of the mean of samples (repeats, entries), Bonferroni over the entries."""
    repeats, entries = samples.shape
    error = samples.std(0, ddof=1) / np.sqrt(repeats)
    limit = stats.t.ppf(1 - false_alarm / (2 * entries), repeats - 1)
    return bool((np.abs(samples.mean(0) - expected) <= limit * error + 1e-12).all())


def scale_interval(samples: Array, expected: Array, false_alarm: float) -> tuple[float, float]:
    """Confidence interval of c in E[samples] = c expected, from the projections on `expected`."""
    projections = samples @ expected / (expected @ expected)
    error = projections.std(ddof=1) / np.sqrt(len(projections))
    limit = stats.t.ppf(1 - false_alarm / 2, len(projections) - 1)
    return projections.mean() - limit * error, projections.mean() + limit * error


def is_unbiased(samples: Array, expected: Array, false_alarm: float = 2e-4, resolution: float = 0.1) -> bool:
    """Whether E[samples] = expected entry by entry and in scale; half of the budget goes to each.

    Where they agree, asserts that the scale is known to within `resolution`: a test too weak to see a wrong factor must
    not pass.
    """
    low, high = scale_interval(samples, expected, false_alarm / 2)
    if not (low - ROUNDING <= 1 <= high + ROUNDING and mean_agrees(samples, expected, false_alarm / 2)):
        return False
    error = (high - low) / 2
    assert error <= resolution * abs(low + high) / 2, f"too few draws: scale known to {error:.3f} only"
    return True


def moments_agree(samples: Array, mean: float, variance: float, false_alarm: float) -> bool:
    """z tests of mean and variance of independent samples, by their own fourth moment; half of the budget each."""
    limit = stats.norm.ppf(1 - false_alarm / 4)
    centred = samples - samples.mean()
    second, fourth = (centred**2).mean(), (centred**4).mean()
    mean_error = np.sqrt(second / len(samples))
    variance_error = np.sqrt(max(fourth - second**2, 0) / len(samples))
    return bool(abs(samples.mean() - mean) <= limit * mean_error and abs(second - variance) <= limit * variance_error)


def count_agrees(hits: int, trials: int, probability: float, false_alarm: float) -> bool:
    """Exact binomial test of a count."""
    return bool(stats.binomtest(int(hits), trials, probability).pvalue > false_alarm)


def node_profile(sigma: float) -> HardwareProfile:
    """Injected node noise that can be read out and switched off."""
    return machine(f'kind = "gaussian-node"\nsigma = {sigma}', observable=("injected_noise", "clean_pass"))


def weight_profile(sigma: float) -> HardwareProfile:
    """Injected weight noise that can be read out and switched off."""
    return machine(f'kind = "gaussian-weight"\nsigma = {sigma}', observable=("injected_weight_noise", "clean_pass"))


PROGRAMMING = """kind = "programming-noise"
reference_g_max_us = 25.0
sigma_us = { polynomial = [0.26348, 1.9650, -1.1731] }"""
DRIFT = """kind = "power-law-drift"
exponent_mean = { log = [-0.0155, 0.0244], clip = [0.049, 0.1] }
exponent_spread = { log = [-0.0125, -0.0059], clip = [0.008, 0.045] }"""
ONE_OVER_F = """kind = "one-over-f-read-noise"
t_read_ns = 250.0
relative_amplitude = { power = [0.0088, -0.65], clip = [0.0, 0.2] }"""


def machine(
    *effects: str,
    observable: tuple[str, ...] = (),
    devices: bool = False,
    scale: str = "column",
    tiles: bool = False,
    specification: str = "",
    write: str = "",
) -> HardwareProfile:
    """A profile from the text of its effects; `devices` gives it pairs of conductances as in the PCM profile.

    tiles: inputs are driven in units of their largest as well.  specification, write: further tables, their text as in
    a profile, where CITED stands for status and source.
    """
    shown = ", ".join(f'"{name}"' for name in ("loss", "input", "activity", *observable))
    cited = 'status = "assumed"\nsource = "test"\n'
    text = 'schema_version = 1\nname = "machine-of-a-test"\ntitle = "t"\ndescription = "d"\n'
    text += f'observable = [{shown}]\n[sources.test]\ncitation = "a test"\n[specification]\ndate = 2026-01-01\n'
    if tiles and not write:
        devices = True
    if devices:
        text += f'[specification.mapping]\n{cited}kind = "differential-pair"\ng_max_us = 25.0\n'
        text += f'scale = "{scale}"\nreads_clip = false\n'
        text += f"[specification.timing]\n{cited}t0_s = 20.0\npass_interval_us = 1.0\n"
    if tiles and "[specification.inputs]" not in specification:
        text += f'[specification.inputs]\n{cited}scaling = "absolute-maximum"\n'
    text += (specification + write).replace("CITED", cited)
    text += "[calibration]\ndate = 2026-01-01\n"
    text += "".join(f"[[calibration.effects]]\n{cited}{effect}\n" for effect in effects)
    return parse_profile(text)


def tanh_net(*sizes: int, seed: int = 0) -> nn.Sequential:
    """Linear layers "0", "2", ... with tanh between them, in float64."""
    generator = torch.Generator().manual_seed(seed)
    modules: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layer = nn.Linear(fan_in, fan_out, dtype=torch.float64)
        with torch.no_grad():
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) / fan_in**0.5)
            layer.bias.copy_(0.3 * torch.randn(layer.bias.shape, generator=generator))
        modules += [layer, nn.Tanh()]
    return nn.Sequential(*modules[:-1])


def sample_batch(batch: int, n_in: int, n_out: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Inputs and targets, float64."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, n_in, generator=generator, dtype=torch.float64)
    return x, torch.randn(batch, n_out, generator=generator, dtype=torch.float64)


def gradients(model: nn.Module) -> dict[str, Array]:
    """What a rule left in .grad, by parameter name."""
    return {name: p.grad.double().numpy().copy() for name, p in model.named_parameters() if p.grad is not None}


def flat(named: dict[str, Array], prefix: str = "") -> Array:
    """The entries whose name starts with `prefix` as one vector."""
    return np.concatenate([value.ravel() for name, value in named.items() if name.startswith(prefix)])


def check_continues(rule: Rule, chip: Callable[[int], Chip], x: Tensor, loss_fn: Callable[[Tensor], Tensor]) -> None:
    """A memory that is handed on to another chip continues bit for bit.

    Args:
        rule: that remembers something.
        chip: makes a chip with a seed.
        x: samples.
        loss_fn: of every sample.
    """
    whole, first, second = chip(0), chip(0), chip(5)
    for _ in range(3):
        rule.estimate(whole, x, loss_fn)
    rule.estimate(first, x, loss_fn)
    second.load_state(first.state())
    Learner(rule, second).state = Learner(rule, first).state
    for _ in range(2):
        rule.estimate(second, x, loss_fn)
    for name, gradient in gradients(whole.model).items():
        assert np.array_equal(gradient, gradients(second.model)[name])
