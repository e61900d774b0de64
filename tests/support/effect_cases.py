"""What every registered effect does to one value: its distribution, written down apart from the package's code."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import constants, stats
from support.checks import DRIFT, ONE_OVER_F, PROGRAMMING, Array, machine

from noisylearn.effects import Effect, Setting

PCM_EFFECTS = {e.kind: e for e in machine(PROGRAMMING, DRIFT, ONE_OVER_F, devices=True).calibration.effects}
NOW = Setting(g_max_us=25.0, since_write_s=1.0, t0_s=20.0, pass_interval_s=1e-6)

# The distribution of one read, as a cdf on reals, with the mass of atoms at zero apart.
Cdf = Callable[[Array], Array]


@dataclass
class Case:
    """An effect at one value and setting, with the cdf of one read; `floored`: reads below zero land at zero.

    atoms: value -> probability, instead of a cdf, where only a few values can come out.  shape: of n independent reads.
    """

    effect: Effect
    value: float
    setting: Setting
    cdf: Cdf | None = None
    floored: bool = False
    z: Callable[[Array], Array] | None = None  # read -> standard normal, to count tails
    atoms: Mapping[float, float] = field(default_factory=dict)
    shape: Callable[[int], tuple[int, ...]] = lambda n: (n,)


def np_polynomial(r: float) -> float:
    return 0.26348 + 1.9650 * r - 1.1731 * r**2


def np_q(r: float) -> float:
    """Nandakumar 2019 as devices.md has it."""
    return min(0.0088 / max(r**0.65, 1e-3), 0.2)


def np_drift(r: float) -> tuple[float, float]:
    log = math.log(r)
    return min(max(-0.0155 * log + 0.0244, 0.049), 0.1), min(max(-0.0125 * log - 0.0059, 0.008), 0.045)


def _gaussian(kind: str, sigma: float) -> Iterator[Case]:
    (effect,) = machine(f'kind = "{kind}"\nsigma = {sigma}').calibration.effects
    for value in (0.0, -3.0, 2.5):
        normal = stats.norm(value, sigma)
        yield Case(effect, value, Setting(), normal.cdf, z=lambda x, v=value: (x - v) / sigma)


def _programming() -> Iterator[Case]:
    effect = PCM_EFFECTS["programming-noise"]
    for g_max in (25.0, 40.0):
        for r in (0.0, 0.005, 0.02, 0.3, 1.0):
            target, sigma = r * g_max, g_max / 25 * np_polynomial(r)
            normal = stats.norm(target, sigma)
            z = (lambda x, t=target, s=sigma: (x - t) / s) if r >= 0.3 else None
            yield Case(effect, target, Setting(g_max_us=g_max), normal.cdf, floored=True, z=z)


def _drift() -> Iterator[Case]:
    effect = PCM_EFFECTS["power-law-drift"]
    # The spread is never small against the mean in published fits; one made up so that folding shows.
    (folded,) = machine(
        'kind = "power-law-drift"\nexponent_mean = { polynomial = [0.01] }\nexponent_spread = { polynomial = [0.03] }',
        devices=True,
    ).calibration.effects
    for e, fit in ((effect, np_drift), (folded, lambda r: (0.01, 0.03))):
        for since in (1.0, 3600.0, 86400.0):
            for r in (0.01, 0.1, 0.5, 1.0):
                mu, s = fit(r)
                log_time = math.log((since + 20) / 20)

                def cdf(x: Array, mu: float = mu, s: float = s, log_time: float = log_time, r: float = r) -> Array:
                    nu = -np.log(x / (25 * r)) / log_time
                    below = stats.norm.cdf((nu - mu) / s) - stats.norm.cdf((-nu - mu) / s)
                    return np.where(nu > 0, 1 - below, 1.0)

                yield Case(e, 25 * r, replace(NOW, since_write_s=since), cdf)


def _one_over_f() -> Iterator[Case]:
    effect = PCM_EFFECTS["one-over-f-read-noise"]
    for since in (0.0, 1.0, 86400.0):
        for r in (0.002, 0.1, 1.0):
            sigma = 25 * r * np_q(r) * math.sqrt(math.log((since + 20 + 250e-9) / 500e-9))
            normal = stats.norm(25 * r, sigma)
            yield Case(
                effect,
                25 * r,
                replace(NOW, since_write_s=since),
                normal.cdf,
                z=lambda x, m=25 * r, s=sigma: (x - m) / s,
            )


def _effect(text: str) -> Effect:
    (effect,) = machine(text, devices=True).calibration.effects
    return effect


def _levels() -> Iterator[Case]:
    for value, result in ((0.0, 0.0), (3.0, 0.0), (5.2, 25 / 3), (13.0, 50 / 3), (24.0, 25.0)):
        yield Case(_effect('kind = "levels"\ncount = 4'), value, NOW, atoms={result: 1.0})
    above = replace(NOW, g_min_us=1.0)
    for value, result in ((0.0, 1.0), (4.9, 1.0), (5.1, 9.0), (20.9, 17.0), (21.1, 25.0), (30.0, 25.0)):
        yield Case(_effect('kind = "levels"\ncount = 4'), value, above, atoms={result: 1.0})


def _range() -> Iterator[Case]:
    for value, result in ((0.0, 1.0), (1.5, 1.5), (25.0, 20.0)):
        text = 'kind = "conductance-range"\nfloor_us = 1.0\nceiling_us = 20.0'
        yield Case(_effect(text), value, NOW, atoms={result: 1.0})


def _spread() -> Iterator[Case]:
    for sigma in (0.1, 0.8):
        text = f'kind = "conductance-spread"\nsigma = {sigma}\ndistribution = '
        normal = stats.norm(10.0, 10.0 * sigma)
        yield Case(_effect(text + '"normal"'), 10.0, NOW, normal.cdf, floored=True)
        lognormal = stats.lognorm(sigma, scale=10.0 * math.exp(-(sigma**2) / 2))
        z = lambda x, s=sigma: (np.log(x / 10.0) + s**2 / 2) / s  # noqa: E731
        yield Case(_effect(text + '"lognormal"'), 10.0, NOW, lognormal.cdf, z=z)


def _stuck() -> Iterator[Case]:
    text = 'kind = "stuck-devices"\nat_g_min = 0.09\nat_g_max = 0.02'
    setting = replace(NOW, g_min_us=1.0)
    yield Case(_effect(text), 7.0, setting, atoms={1.0: 0.09, 25.0: 0.02, 7.0: 0.89})


def _read_noise() -> Iterator[Case]:
    curves = {"{ polynomial = [0.4] }": lambda r: 0.4, "{ polynomial = [0.1, 0.5], clip = [0.0, 0.3] }": None}
    for curve, fit in curves.items():
        fit = fit or (lambda r: min(0.1 + 0.5 * r, 0.3))
        effect = _effect(f'kind = "read-noise"\nreference_g_max_us = 40.0\nsigma_us = {curve}')
        for value in (0.0, 5.0, 25.0):
            sigma = 25 / 40 * fit(value / 25)
            yield Case(effect, value, NOW, stats.norm(value, sigma).cdf, z=lambda x, v=value, s=sigma: (x - v) / s)


def _thermal_shot() -> Iterator[Case]:
    effect = _effect('kind = "thermal-shot-noise"\ntemperature_k = 300.0\nread_voltage_v = 0.2\nbandwidth_mhz = 50.0')
    for g_us in (1.0, 25.0):
        g, volt, band = g_us * 1e-6, 0.2, 50e6
        current_variance = 4 * constants.k * 300 * g * band + 2 * constants.e * g * volt * band
        sigma = math.sqrt(current_variance) / volt * 1e6
        yield Case(effect, g_us, NOW, stats.norm(g_us, sigma).cdf, z=lambda x, v=g_us, s=sigma: (x - v) / s)


def _telegraph_devices() -> Iterator[Case]:
    """With no time between passes all is shared: three values. Else the rest is Gaussian; dwell times all alike."""
    text = 'kind = "random-telegraph-noise"\nshare = 0.3\nrelative_amplitude = { polynomial = [0.2] }\n'
    effect = _effect(text + "dwell_time_s = [1e-3, 1e3]")
    never = replace(NOW, pass_interval_s=0.0)
    yield Case(effect, 10.0, never, atoms={9.0: 0.15, 11.0: 0.15, 10.0: 0.7})
    effect = _effect(text.replace("0.3", "1.0") + "dwell_time_s = [1e-6, 1e-6]")
    for interval_s in (0.2e-6, 1e-6, 1e-4):
        rho = math.exp(-2 * interval_s / 1e-6)
        low, high = (stats.norm(10 + side * math.sqrt(rho), math.sqrt(1 - rho)) for side in (-1, 1))
        cdf = lambda x, a=low, b=high: (a.cdf(x) + b.cdf(x)) / 2  # noqa: E731
        yield Case(effect, 10.0, replace(NOW, pass_interval_s=interval_s), cdf)


def _relaxation() -> Iterator[Case]:
    """Between two stated times, in ln t, and outside; with a shift of the mean."""
    effect = _effect(
        'kind = "relaxation"\nreference_g_max_us = 50.0\ntimes_s = [20.0, 2000.0]\nshift_us_per_log_time = -0.1\n'
        "sigma_us = [{ polynomial = [1.0, 1.0] }, { polynomial = [3.0, 2.0] }]"
    )
    for since in (0.0, 180.0, 1e5):
        age = 20.0 + since
        share = min(math.log(age / 20) / math.log(100), 1.0)
        for value in (1.0, 20.0):
            r = value / 25
            sigma = 25 / 50 * ((1 + r) * (1 - share) + (3 + 2 * r) * share)
            normal = stats.norm(value - 0.1 * math.log(age / 20), sigma)
            yield Case(effect, value, replace(NOW, since_write_s=since), normal.cdf, floored=True)


def _circuit(kind: str, sigma: float, deviation: Callable[[float], float]) -> Iterator[Case]:
    """Effects in units of full scale, which need tiles around them."""
    (effect,) = (e for e in machine(f'kind = "{kind}"\nsigma = {sigma}', tiles=True).calibration.effects)
    for value in (0.7, -2.0):
        s = deviation(value)
        yield Case(effect, value, NOW, stats.norm(value, s).cdf, z=lambda x, v=value, s=s: (x - v) / s)


def _nonlinear() -> Iterator[Case]:
    (effect,) = machine('kind = "iv-nonlinearity"\nkappa = 2.0', tiles=True).calibration.effects
    for value in (0.0, -0.5, 1.0):
        yield Case(effect, value, NOW, atoms={math.sinh(2 * value) / math.sinh(2): 1.0})


def _uniform() -> Iterator[Case]:
    (effect,) = machine('kind = "uniform-node"\nwidth = 0.3').calibration.effects
    yield Case(effect, 1.5, Setting(), stats.uniform(1.35, 0.3).cdf, shape=lambda n: (1, n, 1))


def _bernoulli() -> Iterator[Case]:
    (effect,) = machine('kind = "bernoulli-node"\namplitude = 0.25').calibration.effects
    yield Case(effect, 1.0, Setting(), atoms={0.75: 0.5, 1.25: 0.5}, shape=lambda n: (1, n, 1))


def _lfsr() -> Iterator[Case]:
    """256 values, one register unit apart; the mantissa shifts them by 64 units."""
    for mantissa, exponent in ((0, 3), (2, 7), (-1, 0)):
        text = f'kind = "lfsr-node"\nexponent = {exponent}\nmantissa = {mantissa}\nlsb = 0.25'
        (effect,) = machine(text).calibration.effects
        values = [0.5 + 0.25 * 2**exponent / 2**7 * (r - 128 + 64 * mantissa) for r in range(256)]
        yield Case(effect, 0.5, Setting(), atoms=dict.fromkeys(values, 1 / 256), shape=lambda n: (1, n, 1))


def _correlated() -> Iterator[Case]:
    (effect,) = machine('kind = "correlated-node"\nsigma = 0.1\ncorrelation = 0.6').calibration.effects
    z = lambda x: (x - 1) / 0.1  # noqa: E731
    yield Case(effect, 1.0, Setting(), stats.norm(1.0, 0.1).cdf, z=z, shape=lambda n: (1, n, 1))


def _telegraph_neurons() -> Iterator[Case]:
    text = 'kind = "telegraph-node"\namplitude = 0.2\namplitude_spread = 0.1\noffset_spread = 0.05\n'
    (effect,) = machine(text + "dwell_time_us = 1.0", devices=True).calibration.effects
    sigma = math.hypot(0.05, 0.02)
    low, high = stats.norm(0.8, sigma), stats.norm(1.2, sigma)
    yield Case(effect, 1.0, NOW, lambda x: (low.cdf(x) + high.cdf(x)) / 2, shape=lambda n: (1, 1, n))


def _ornstein_uhlenbeck() -> Iterator[Case]:
    text = 'kind = "ornstein-uhlenbeck-node"\nsigma = 0.2\ncorrelation_time_us = 2.0'
    (effect,) = machine(text, devices=True).calibration.effects
    for value in (0.0, 1.5):
        normal = stats.norm(value, 0.2)
        yield Case(effect, value, NOW, normal.cdf, z=lambda x, v=value: (x - v) / 0.2, shape=lambda n: (1, n, 1))


NOT_OF_ONE_VALUE = {"ir-drop": "depends on all inputs and weights of a column: test_tiles.py"}
CASES: dict[str, Callable[[], Iterator[Case]]] = {
    "gaussian-node": lambda: _gaussian("gaussian-node", 0.03),
    "gaussian-weight": lambda: _gaussian("gaussian-weight", 0.2),
    "programming-noise": _programming,
    "power-law-drift": _drift,
    "one-over-f-read-noise": _one_over_f,
    "levels": _levels,
    "conductance-range": _range,
    "conductance-spread": _spread,
    "stuck-devices": _stuck,
    "read-noise": _read_noise,
    "thermal-shot-noise": _thermal_shot,
    "random-telegraph-noise": _telegraph_devices,
    "relaxation": _relaxation,
    "input-noise": lambda: _circuit("input-noise", 0.02, lambda v: 0.02),
    "output-noise": lambda: _circuit("output-noise", 0.06, lambda v: 0.06),
    "offset-spread": lambda: _circuit("offset-spread", 0.1, lambda v: 0.1),
    "gain-spread": lambda: _circuit("gain-spread", 0.05, lambda v: 0.05 * abs(v)),
    "iv-nonlinearity": _nonlinear,
    "uniform-node": _uniform,
    "bernoulli-node": _bernoulli,
    "lfsr-node": _lfsr,
    "correlated-node": _correlated,
    "telegraph-node": _telegraph_neurons,
    "ornstein-uhlenbeck-node": _ornstein_uhlenbeck,
}
ALL = [(kind, i, case) for kind, cases in CASES.items() for i, case in enumerate(cases())]
