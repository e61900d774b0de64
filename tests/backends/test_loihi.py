"""The integer emulator against arithmetic written out number by number, and against the rules' own equations.

Budget: 1e-5 for every statistical assertion; seeds are fixed.
"""

import math
import warnings
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from support.checks import mean_agrees
from torch import Tensor, nn

import noisylearn as nl
from noisylearn.backends.loihi.arithmetic import shifted_to_nearest, trace_of
from noisylearn.backends.loihi.critic import Critic
from noisylearn.backends.loihi.emulator import Emulator
from noisylearn.backends.loihi.engine import Engine
from noisylearn.backends.loihi.grammar import Factor, Product, parsed, written
from noisylearn.backends.loihi.microcode import Microcode, to_microcode
from noisylearn.backends.loihi.network import FixedNetwork, Register
from noisylearn.backends.loihi.neurons import Neurons
from noisylearn.backends.loihi.quantisation import quantise
from noisylearn.backends.loihi.rounding import Fixed, thresholds
from noisylearn.backends.loihi.saturation import Saturation
from noisylearn.backends.loihi.schedule import Schedule
from noisylearn.backends.losses import cross_entropy, squared_error
from noisylearn.backends.netlist.rate import Decorrelator, from_model
from noisylearn.effects import LfsrNode, Setting
from noisylearn.ground.errors import UserError
from noisylearn.profiles import HardwareProfile, load_profile
from noisylearn.profiles.cores import Cores
from noisylearn.rules.base import Rule

ALARM = 1e-5
PROFILE = load_profile("loihi2-lava-0.10")
CORES = PROFILE.specification.cores
assert CORES is not None
RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.uniform(0, 1, (40, 6))
SIGNED = RANDOM.uniform(-1, 1, (40, 6))
TARGETS = RANDOM.normal(size=(40, 3))


def mlp(*hidden: int, activation: str = "relu", seed: int = 0) -> nn.Sequential:
    return nl.networks.mlp(6, hidden or (8,), 3, seed=seed, activation=activation)  # type: ignore[arg-type]


def rnn(*hidden: int) -> nl.networks.RNN:
    return nl.networks.RNN(6, hidden or (8,), 3, activation="relu", bias=True)


def with_cores(**changes: object) -> HardwareProfile:
    assert CORES is not None
    specification = PROFILE.specification.model_copy(update={"cores": CORES.model_copy(update=changes)})
    return PROFILE.model_copy(update={"specification": specification})


def with_noise(**changes: object) -> HardwareProfile:
    effects = (PROFILE.calibration.effects[0].model_copy(update=changes),)
    return PROFILE.model_copy(update={"calibration": PROFILE.calibration.model_copy(update={"effects": effects})})


def fixed(model: nn.Module, inputs: np.ndarray = INPUTS, profile: HardwareProfile = PROFILE) -> FixedNetwork:
    return quantise(from_model(model), profile, inputs)


def microcode_for(
    rule: Rule | None = None, rate: float = 1e-3, mantissa: int = 4, model: nn.Module | None = None
) -> Microcode:
    return to_microcode(rule or nl.rules.ANP(baseline="noisy"), fixed(model or mlp()), rate, mantissa)


# ---- arithmetic and the engine, against Python's integers ----


def test_a_spike_leaves_half_its_payload_halves_to_even() -> None:
    payloads = np.arange(256)
    assert trace_of(payloads, 7).tolist() == [min(round(p / 2), 127) for p in range(256)]


def test_shifts_go_to_the_nearest_integer() -> None:
    values = np.arange(-40, 40)
    assert shifted_to_nearest(values, -3).tolist() == [math.floor(v / 8 + 0.5) for v in range(-40, 40)]
    assert shifted_to_nearest(values, 2).tolist() == [4 * v for v in range(-40, 40)]


def one_weight(rule: tuple[Product, ...], w: int, traces: dict[str, int], threshold: float) -> int:
    """One weight through one learning phase, as Lava's source has it, in Python's integers."""
    accumulator = w * 128
    for product in rule:
        value, width = product.mantissa, 4
        for factor in product.factors:
            bits = 9 if factor.variable == "w" else 7
            this = (w if factor.variable == "w" else traces[factor.variable]) + factor.constant
            value *= max(-(2**bits), min(2**bits - 1, this))
            width += bits
        value = (value // 2 ** max(0, width - 15)) * 2 ** (product.exponent + 7)
        value = max(-(2**15) - 1, min(2**15 - 1, value))
        accumulator = max(-(2**15) - 1, min(2**15 - 1, accumulator + value))
    rounded = math.floor(accumulator / 128) + (threshold / 128 < (accumulator / 128) % 1)
    return max(-256, min(255, rounded))


RULES = [
    "-4*2^-7*x0*x1*y1 + 4*2^-7*x0*x1*y2",
    "-2^-5*x0*x1*y1 + 2^-5*x0*x1*y2",
    "-7*2^3*x0*x1*y1 + 7*2^3*x0*x1*y2",
    "-3*2^-7*x0*x1*y1 + 5*2^-6*x0*x1*y2",
    "-4*2^-7*x0*x1*(y1-64)",
    "2^-7*x0*(x1-20)*y1 - 2^-7*x0*w",
    "-2^-7*x0*x1*y1*y2 + 2^-7*x0*x1*w",
]


@pytest.mark.parametrize("text", RULES)
@pytest.mark.parametrize("both", [False, True], ids=["either sign", "both signs"])
@pytest.mark.parametrize("threshold", [127.0, 64.0, 13.7])
def test_the_engine_changes_every_weight_as_written_out(text: str, both: bool, threshold: float) -> None:
    assert CORES is not None
    random = np.random.default_rng(1)
    rule = parsed(text)
    for few in (False, True):
        weights = random.integers(-256, 256, (9, 14))
        engine = Engine("c", weights, rule, CORES, Fixed(threshold))
        x1, x0 = random.integers(0, 128, 14), random.random(14) < (0.08 if few else 0.9)
        y1, y2 = random.integers(0, 128, 9) * (random.random(9) < 0.7), random.integers(0, 128, 9)
        y2 = y2 if both else y2 * (y1 == 0)
        engine.learn(x1, x0, {"y1": y1, "y2": y2}, Saturation())
        expected = weights.copy()
        for i, j in np.ndindex(weights.shape):
            if x0[j]:
                traces = {"x1": int(x1[j]), "y1": int(y1[i]), "y2": int(y2[i])}
                expected[i, j] = one_weight(rule, int(weights[i, j]), traces, threshold)
        np.testing.assert_array_equal(engine.weights, expected)


def test_the_engine_says_what_it_clipped() -> None:
    assert CORES is not None
    engine = Engine("c", np.full((1, 2), 250), parsed("4*2^-7*x0*x1*y1"), CORES, Fixed(127))
    counts = Saturation()
    engine.learn(np.array([127, 127]), np.array([True, True]), {"y1": np.array([126])}, counts)
    assert counts.counts == {"weights of c": 2}
    assert "SATURATED" in str(counts)
    assert "weights of c 2" in str(counts)
    assert str(Saturation()) == "nothing saturated"


@pytest.mark.parametrize(
    ("rounding", "stochastic"), [("nearest", None), ("floor", None), ("shared", 1), ("per-synapse", 1)]
)
def test_roundings(rounding: str, stochastic: int | None) -> None:
    """A change of 38/128: nearest and floor never show it, the others on average, the last one weight by weight."""
    assert CORES is not None
    chosen = thresholds(rounding, (50, 50), (0, 0))  # type: ignore[arg-type]
    engine = Engine("c", np.zeros((50, 50)), parsed("4*2^-7*x0*x1*y1"), CORES, chosen)
    ups = []
    for _ in range(200):
        engine.weights[:] = 0
        engine.learn(np.full(50, 19), np.ones(50, bool), {"y1": np.full(50, 4)}, Saturation())
        ups.append(engine.weights.copy())
    found = np.array(ups)
    assert found.max() <= 1
    if stochastic is None:
        assert not found.any()
        return
    per_phase = found.mean((1, 2))
    if rounding == "shared":
        assert set(per_phase) == {0.0, 1.0}
        hits = int(per_phase.sum())
        assert stats.binomtest(hits, 200, 38 / 128).pvalue > ALARM
    else:
        assert stats.binomtest(int(found.sum()), found.size, 38 / 128).pvalue > ALARM
        assert per_phase.std() == pytest.approx(math.sqrt(38 / 128 * 90 / 128 / 2500), rel=0.25)


def test_the_engine_refuses_traces_that_it_does_not_implement() -> None:
    assert CORES is not None
    with pytest.raises(UserError, match="x1, y1, y2, y3 and w only"):
        Engine("c", np.zeros((2, 2)), parsed("2^-3*x0*x2*y1"), CORES, Fixed(64))


# ---- the language of rules ----


@pytest.mark.parametrize("text", [*RULES, "u0*t*y2", "-x0*sgn(w)", "2^-3*y0*x1*d", "3*x0*y1*x2", "x0*(w+12) - u2*y3"])
def test_rules_read_back_as_they_were_written(text: str) -> None:
    rule = parsed(text)
    assert parsed(written(rule)) == rule
    assert parsed(text.replace(" ", "")) == rule


def test_a_rule_is_parsed_into_its_products() -> None:
    assert parsed("-3*2^-5*x0*x1*(y2-127) + u4*w") == (
        Product(-3, -5, "x0", (Factor("x1"), Factor("y2", -127))),
        Product(1, 0, "u4", (Factor("w"),)),
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0.1*x0*y1", "'0.1'"),
        ("x1*y1", "0 dependencies"),
        ("x0*y0*x1", "2 dependencies"),
        ("8*2^-7*x0*x1", "mantissa 8"),
        ("-8*2^-7*x0*x1", "mantissa -8"),
        ("2^-8*x0*x1", "power of two -8"),
        ("2^9*x0*x1", "power of two 9"),
        ("x0*z1", "'z1'"),
        ("x0*sgn(y1)", r"'sgn\(y1\)'"),
        ("u0*w + u1*t", "several decimations"),
        ("x0*x1 + -x0*y1", r"\+-"),
        ("", "empty"),
        ("x0*2^-3*y1", r"'2\^-3'"),
    ],
)
def test_what_the_engine_would_change_or_refuse_is_refused(text: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason) as caught:
        parsed(text)
    assert "\n" not in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="x012yuwt*+-^() 9", max_size=25))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        rule = parsed(text)
    except UserError:
        return
    assert parsed(written(rule)) == rule


# ---- networks in integers ----


@pytest.mark.parametrize("model", [mlp(), mlp(9, 7), rnn(), rnn(9, 7)], ids=["mlp", "deep", "rnn", "deep rnn"])
@pytest.mark.parametrize("inputs", [INPUTS, SIGNED], ids=["positive", "signed"])
def test_integers_compute_what_the_floats_do(model: nn.Module, inputs: np.ndarray) -> None:
    network = fixed(model, inputs)
    emulator = Emulator(to_microcode(nl.rules.ANP(baseline="noisy", update="online"), network, 1e-3), "squared-error")
    x = torch.tensor(inputs, dtype=torch.float32)
    with torch.no_grad():
        if network.is_recurrent:
            state, outputs = None, []
            for step in x:
                y, state = model(step[None], state)
                outputs.append(y[0])
            expected = torch.stack(outputs).numpy()
        else:
            expected = model(x).numpy()
    found = emulator.forward(inputs)
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max() + 0.01
    assert np.abs(found - expected).max() > 0


def test_weights_are_even_integers_near_the_floats_and_come_back() -> None:
    model = mlp()
    network = fixed(model)
    for c in network.connections:
        assert not (c.weights % 2).any()
        assert np.abs(c.weights).max() <= 256
        assert np.abs(c.weights).max() > 32, "headroom of two and powers of two leave at least a quarter of the range"
        assert c.largest_error <= c.unit
    back = network.to_netlist({c.name: c.weights for c in network.connections})
    for mine, original in zip(back.connections, from_model(model).connections, strict=True):
        unit = network.connections[0].unit
        np.testing.assert_allclose(mine.weight, original.weight, atol=2 * unit)
        assert mine.bias is not None
        assert original.bias is not None
        np.testing.assert_allclose(mine.bias, original.bias, atol=2 * unit)


def test_signed_inputs_are_split_and_never_wrapped() -> None:
    network = fixed(mlp(), SIGNED)
    payloads = network.encoded(SIGNED)
    unit = network.populations[0].payload_unit
    assert payloads.min() >= 0
    np.testing.assert_allclose((payloads[:, :6] - payloads[:, 6:12]) * unit, SIGNED, atol=unit)
    with pytest.raises(UserError, match="payloads have no sign"):
        fixed(mlp(), INPUTS).encoded(SIGNED)
    with pytest.raises(UserError, match="split"):
        network.to_netlist({c.name: c.weights for c in network.connections})
    counts = Saturation()
    fixed(mlp(), INPUTS / 4).encoded(INPUTS, counts)
    assert counts.counts["input payloads"] > 0


def _changed(**changes: object) -> FixedNetwork:
    netlist = from_model(mlp())
    populations = (netlist.populations[0], replace(netlist.populations[1], **changes), netlist.populations[2])  # type: ignore[arg-type]
    return quantise(replace(netlist, populations=populations), PROFILE, INPUTS)


@pytest.mark.parametrize("activation", ["tanh", "leaky-relu", "identity"])
def test_signed_activities_are_refused_with_the_remedy(activation: str) -> None:
    with pytest.raises(UserError, match="use activation relu"):
        fixed(mlp(activation=activation))


def test_what_has_no_integers_is_refused() -> None:
    with pytest.raises(UserError, match="decorrelated"):
        _changed(decorrelation=Decorrelator(np.eye(8), 0.1))
    netlist = from_model(mlp())
    with pytest.raises(UserError, match=r"no \[specification.cores\]"):
        quantise(netlist, "gaussian-node", INPUTS)
    with pytest.raises(UserError, match="no power of two"):
        quantise(netlist, with_noise(lsb=3e-4), INPUTS)
    unborn = from_model(nl.networks.RNN(6, 8, 3, activation="relu"))
    unborn = replace(unborn, connections=tuple(replace(c, weight=0 * c.weight) for c in unborn.connections))
    with pytest.raises(UserError, match="all weights are zero"):
        quantise(unborn, PROFILE, INPUTS)
    with pytest.raises(UserError, match=r"takes \(samples, 6\)"):
        fixed(mlp()).encoded(INPUTS[:, :4])


def spoilt(values: np.ndarray, by: float) -> np.ndarray:
    changed = np.array(values, dtype=np.float64)
    changed.flat[3] = by
    return changed


@pytest.mark.parametrize("by", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_becomes_no_integer(by: float) -> None:
    network = fixed(mlp())
    emulator = Emulator(to_microcode(nl.rules.ANP(baseline="noisy"), network, 1e-3), "squared-error")
    before = emulator.weights
    with pytest.raises(UserError, match="inputs: 1 of 240 numbers are not finite"):
        fixed(mlp(), spoilt(INPUTS, by))
    with pytest.raises(UserError, match="inputs: 1 of 240"):
        emulator.forward(spoilt(INPUTS, by))
    with pytest.raises(UserError, match="inputs: 1 of 240"):
        emulator.run(spoilt(INPUTS, by), TARGETS)
    with pytest.raises(UserError, match="targets: 1 of 120"):
        emulator.run(INPUTS, spoilt(TARGETS, by))
    with pytest.raises(UserError, match="rates: 1 of 40"):
        emulator.run(INPUTS, TARGETS, rates=spoilt(np.ones(40), by))
    broken = mlp()
    with torch.no_grad():
        next(broken.parameters())[0, 0] = by
    with pytest.raises(UserError, match=r"weights of connection .*: 1 of 48"):
        fixed(broken)
    with pytest.raises(UserError, match="the loss of a sample is not finite"):
        Emulator(emulator._microcode, lambda outputs, target: outputs[:, 0] * by).run(INPUTS, TARGETS)
    assert all(np.array_equal(emulator.weights[name], before[name]) for name in before)


def test_the_emulator_takes_tensors_and_lists_and_refuses_what_is_neither() -> None:
    network = fixed(mlp(), torch.tensor(INPUTS))  # type: ignore[arg-type]
    microcode = to_microcode(nl.rules.ANP(baseline="noisy"), network, 1e-3)
    given_as = [(INPUTS, TARGETS), (torch.tensor(INPUTS), torch.tensor(TARGETS)), (INPUTS.tolist(), TARGETS.tolist())]
    results = [Emulator(microcode, "squared-error").run(x, t).losses for x, t in given_as]  # type: ignore[arg-type]
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])
    emulator = Emulator(microcode, "cross-entropy")
    for other in (None, "text", [["a"]], [[1.0], [1.0, 2.0]], torch.ones(4, 6, requires_grad=True), 1j * INPUTS):
        with pytest.raises(UserError, match="inputs: no array of numbers"):
            emulator.forward(other)  # type: ignore[arg-type]
    for target in (np.full(40, 3), np.full(40, -1), np.full(40, 0.5), TARGETS[:, 0], TARGETS):
        with pytest.raises(UserError, match="does not fit the loss of 3 outputs"):
            emulator.run(INPUTS, target)
    with pytest.raises(UserError, match="0 targets"):
        emulator.run(INPUTS, np.zeros(0))


def test_huge_inputs_are_clipped_and_counted() -> None:
    network, counts = fixed(mlp()), Saturation()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        payloads = network.encoded(np.full((1, 6), 1e300), counts)
    assert payloads[0, :6].tolist() == [255] * 6
    assert counts.counts["input payloads"] == 6


@pytest.mark.parametrize(("headroom", "value"), [("weight_headroom", math.nan), ("activity_headroom", -1.0)])
def test_a_headroom_is_a_factor(headroom: str, value: float) -> None:
    with pytest.raises(UserError, match=f"{headroom} = {value}: give a factor above 0"):
        quantise(from_model(mlp()), PROFILE, INPUTS, **{headroom: value})


def test_an_epoch_too_long_is_one_clear_error() -> None:
    deep = nl.networks.mlp(6, [4] * 60, 3, activation="relu")
    with pytest.raises(UserError, match=r"t_epoch = 64.*at most 60 layers") as caught:
        to_microcode(nl.rules.ANP(baseline="noisy"), fixed(deep), 1e-3)
    assert "\n" not in str(caught.value)
    assert to_microcode(nl.rules.ANP(baseline="noisy"), fixed(nl.networks.mlp(6, [4] * 59, 3, activation="relu")), 1e-3)


def test_the_phases_of_two_layers() -> None:
    """Source 0 and 1, hidden 1 and 2, readout 2 and 3, learning 4, as written down beforehand."""
    schedule = Schedule(2)
    table = [[schedule.pass_at(stage, phase) for phase in range(schedule.t_epoch)] for stage in range(3)]
    assert table == [[0, 1, None, None, None], [None, 0, 1, None, None], [None, None, 0, 1, None]]
    assert schedule.learning_phase == 4
    assert [schedule.phase(step) for step in (1, 5, 6)] == [0, 4, 0]


# ---- noise ----


@pytest.mark.parametrize(("mantissa", "exponent"), [(0, 7), (2, 5), (-3, 6)])
def test_registers_hold_the_noise_that_the_profile_states(mantissa: int, exponent: int) -> None:
    profile = with_noise(mantissa=mantissa, exponent=exponent)
    effect = profile.calibration.effects[0]
    assert isinstance(effect, LfsrNode)
    stated = effect.moments(torch.zeros((), dtype=torch.float64), Setting())
    for p in fixed(mlp(), profile=profile).neurons:
        values = p.noise.values() * p.unit
        assert values.mean() == pytest.approx(float(stated.mean), rel=1e-9)
        assert p.noise_variance == pytest.approx(float(stated.variance), rel=1e-9)
        assert len(set(values)) == 256


def test_coarse_registers_lose_bits_downwards() -> None:
    assert Register(0, -2).values().tolist() == [math.floor((r - 128) / 4) for r in range(256)]


def test_drawn_noise_is_uniform_over_the_register() -> None:
    microcode = microcode_for(rule=nl.rules.NP(baseline="noisy"))
    population = microcode.network.neurons[0]
    neurons = Neurons(population, 1, microcode, seed=3)
    drawn = np.concatenate([neurons.integrate(np.zeros((2, 8), int), 0) for _ in range(4000)])
    counts = [int((drawn == value).sum()) for value in population.noise.values()]
    assert sum(counts) == drawn.size
    assert stats.chisquare(counts).pvalue > ALARM
    assert abs(np.corrcoef(drawn[::2].ravel(), drawn[1::2].ravel())[0, 1]) < 4.5 / math.sqrt(drawn.size / 2)


def test_a_clean_baseline_has_no_noise_and_others_do() -> None:
    for baseline, moved in (("clean", False), ("noisy", True)):
        microcode = microcode_for(rule=nl.rules.NP(baseline=baseline))  # type: ignore[arg-type]
        neurons = Neurons(microcode.network.neurons[0], 1, microcode, seed=0)
        activity = neurons.integrate(np.zeros((2, 8), int), 0)
        assert activity[0].any()
        assert activity[1].any() == moved


def test_passes_one_by_one_are_the_passes_together() -> None:
    microcode = microcode_for()
    together, alone = (Neurons(microcode.network.neurons[0], 1, microcode, seed=0) for _ in range(2))
    sums = np.arange(16).reshape(2, 8) * 100
    for _ in range(5):
        both = together.integrate(sums, 0)
        each = [alone.integrate(sums[i : i + 1], i)[0] for i in range(2)]
        np.testing.assert_array_equal(both, each)
        np.testing.assert_array_equal(
            together.spikes(both, 0), [alone.spikes(np.array([a]), i)[0] for i, a in enumerate(each)]
        )
        assert together.squared_norm() == alone.squared_norm()


def test_a_unit_that_falls_silent_leaves_no_trace() -> None:
    microcode = microcode_for()
    neurons = Neurons(microcode.network.neurons[0], 1, microcode, seed=0)
    activity = np.zeros((2, 8), int)
    activity[0, :4] = activity[1, 2:6] = 2**14
    sent = neurons.spikes(activity, 0)
    assert (sent[1, :2] == 1).all()
    assert (trace_of(sent[1, :2], 7) == 0).all()
    assert (sent[1, 6:8] == 0).all()
    assert sent[0, -1] == sent[1, -1] == microcode.network.neurons[0].constant


# ---- rules: what the cores do is the rule's equation ----


@pytest.mark.parametrize("kind", ["anp", "anp-layer", "np"])
@pytest.mark.parametrize("model", [mlp(9, 7), rnn()], ids=["deep", "rnn"])
def test_mean_update_is_minus_rate_times_the_estimate(kind: str, model: nn.Module) -> None:
    """Neurons, critic and engine at given losses; the estimate is written out here, and rounding averages to it."""
    rule: Rule = {
        "anp": nl.rules.ANP(baseline="noisy", update="online"),
        "anp-layer": nl.rules.ANP(baseline="noisy", scale="layer", update="online"),
        "np": nl.rules.NP(baseline="noisy", update="online"),
    }[kind]
    microcode = to_microcode(rule, fixed(model, profile=with_cores(third_factor_bits=16)), 2e-3)
    network = microcode.network
    population = [Neurons(p, i + 1, microcode, seed=5) for i, p in enumerate(network.neurons)]
    sums = [RANDOM.integers(-1000, 1000, (2, p.size)) for p in network.neurons]
    activity = [n.integrate(s, 0) for n, s in zip(population, sums, strict=True)]
    units = [p.unit for p in network.neurons]
    differences = [(a[0] - a[1]) * u for a, u in zip(activity, units, strict=True)]
    noises = [(a[0] - s[0]) * u for a, s, u in zip(activity, sums, units, strict=True)]
    losses = np.array([0.7, 0.4])
    total = sum((d**2).sum() for d in differences)
    step = 2.0**-12
    expected = {
        "anp": [0.3 * sum(d.size for d in differences) * d / total for d in differences],
        "anp-layer": [0.3 * d.size * d / (d**2).sum() for d in differences],
        "np": [0.3 * e / (step**2 * 65535 / 12) for e in noises],
    }[kind]
    factors = Critic(microcode, "squared-error").third_factors(losses, [n.squared_norm() for n in population])
    for p, neurons, factor, g in zip(network.neurons, population, factors, expected, strict=True):
        steps = np.array([np.subtract(*neurons.traces(factor)) for _ in range(3000)]) / microcode.trace_step
        assert not neurons.saturation.counts
        assert mean_agrees(steps * microcode.trace_units[p.name], g, ALARM)
        assert np.abs(g).max() > 2 * microcode.trace_units[p.name] / math.sqrt(3000), "far from the noise of rounding"
        for c in network.into(p.name):
            source = network.population(c.source)
            x1 = RANDOM.integers(0, 128, c.weights.shape[1])
            assert CORES is not None
            rule_of_c = microcode.products(c.name)
            engine = Engine(c.name, c.weights, rule_of_c, CORES, thresholds("per-synapse", c.weights.shape, (1, 2)))
            changes = []
            for _ in range(3000):
                engine.weights[:] = 0
                y1, y2 = neurons.traces(factor)
                engine.learn(x1, np.ones(x1.shape, bool), {"y1": y1, "y2": y2}, Saturation())
                changes.append(engine.weights.ravel() * c.unit)
            pre = 2 * x1 * source.payload_unit
            assert mean_agrees(np.array(changes), (-2e-3 * np.outer(g, pre)).ravel(), ALARM)
            assert microcode.effective_learning_rate(c) == pytest.approx(2e-3, rel=1e-12)


@dataclass(frozen=True, kw_only=True)
class Reversed(nl.rules.ANP):
    """A rule from outside the package: activity-based, with the opposite sign."""

    name = "reversed"
    stands_alone = False  # not to be offered beside the package's rules for as long as the tests run

    def post(self, activity: Tensor, reference: Tensor, noise: Tensor | None) -> Tensor:
        return reference - activity


def test_a_rule_from_outside_the_package_runs_with_its_own_post() -> None:
    both = []
    for rule in (nl.rules.ANP(baseline="noisy"), Reversed(baseline="noisy")):
        emulator = Emulator(microcode_for(rule=rule, rate=1e-2), "squared-error")
        emulator.run(INPUTS[:1], TARGETS[:1])
        both.append(emulator.y["readout"])
    y, reverse = both
    assert (y["y1"] > 0).any()
    assert np.abs(y["y1"].astype(int) - reverse["y2"]).max() <= 2 * 1
    assert np.abs(y["y2"].astype(int) - reverse["y1"]).max() <= 2 * 1


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (nl.rules.WP(), "noise per synapse, which no public description of Loihi offers"),
        (nl.rules.INP(), "runs 3 passes"),
        (nl.rules.BP(), "no product of a loss difference"),
        (nl.rules.REINFORCE(), "no product of a loss difference"),
        (nl.rules.ANP(baseline="mean"), "baseline='noisy'"),
        (nl.rules.ANP(baseline="noisy", draws=2), "runs 3 passes"),
    ],
)
def test_rules_without_this_form_are_refused_with_the_reason(rule: Rule, reason: str) -> None:
    with pytest.raises(UserError, match=reason) as caught:
        microcode_for(rule=rule)
    assert "\n" not in str(caught.value)


def test_wrong_options_are_refused() -> None:
    network = fixed(rnn())
    with pytest.raises(UserError, match="credit='local'"):
        to_microcode(nl.rules.ANP(baseline="noisy", credit="trace", update="online"), network, 1e-3)
    with pytest.raises(UserError, match="update='online'"):
        to_microcode(nl.rules.ANP(baseline="noisy"), network, 1e-3)
    with pytest.raises(UserError, match="above 0"):
        microcode_for(rate=0.0)
    with pytest.raises(UserError, match="give 1, 2 or 4"):
        microcode_for(mantissa=3)
    with pytest.raises(UserError, match="unknown loss"):
        Emulator(microcode_for(), "hinge")
    with pytest.raises(UserError, match="give one of each"):
        Emulator(microcode_for(), "squared-error").run(INPUTS, TARGETS[:3])


@pytest.mark.parametrize(("mantissa", "lost"), [(4, 0.0), (2, 0.0), (1, 7 / 8 / 128)])
def test_truncated_products_lose_what_is_stated(mantissa: int, lost: float) -> None:
    assert CORES is not None
    microcode = microcode_for(mantissa=mantissa)
    assert microcode.lost_lsb == lost
    rule = microcode.products("input to hidden1")
    x1, steps = np.arange(128), np.arange(-15, 16)
    y = steps * microcode.trace_step
    for product, part in zip(rule, (np.maximum(y, 0), np.maximum(-y, 0)), strict=True):
        exact = product.mantissa * np.outer(part, x1) / 8
        loss = (exact - np.floor(exact)) / 128
        assert loss.max() == pytest.approx(lost)


def test_the_report_states_rates_and_roundings() -> None:
    microcode = microcode_for(rate=3e-3)
    text = microcode.report() + microcode.network.report()
    for words in ("effective learning rate 0.003", "-4*2^-7*x0*x1*y1", "t_epoch 5", "LSB 2^", "largest rounding error"):
        assert words in text
    assert f"relative rounding error up to {2**-7:.2g}" in text


def test_third_factors_keep_their_bits_and_say_when_they_do_not_fit() -> None:
    critic = Critic(microcode_for(), "squared-error")
    for value in (1.0, -0.3, 126.9, 1e-6, -7e-9, 0.0):
        mantissa, shift = critic._rounded("p", value)
        assert abs(mantissa) <= 127
        assert 0 <= shift <= 31
        assert mantissa * 2.0**-shift == pytest.approx(value, rel=2**-7, abs=2.0**-32)
    assert not critic.saturation.counts
    assert critic._rounded("p", 1e6) == (127, 0)
    assert critic._rounded("p", -1e6) == (-127, 0)
    assert critic.saturation.counts["third factor of p"] == 2


# ---- runs ----


@pytest.mark.parametrize("model", [mlp(), rnn()], ids=["mlp", "rnn"])
def test_a_run_in_pieces_is_the_whole_run(model: nn.Module) -> None:
    microcode = to_microcode(nl.rules.ANP(baseline="noisy", update="online"), fixed(model), 1e-2)
    whole, pieces, other = (Emulator(microcode, "squared-error", seed) for seed in (1, 1, 2))
    losses = whole.run(INPUTS, TARGETS).losses
    first = pieces.run(INPUTS[:13], TARGETS[:13]).losses
    second = pieces.run(INPUTS[13:], TARGETS[13:]).losses
    other.run(INPUTS, TARGETS)
    np.testing.assert_array_equal(losses, np.concatenate([first, second]))
    for name, weights in whole.weights.items():
        np.testing.assert_array_equal(weights, pieces.weights[name])
        assert (weights != other.weights[name]).any()
        assert (weights != next(c for c in microcode.network.connections if c.name == name).weights).any()


def test_without_learning_nothing_changes() -> None:
    microcode = microcode_for(rate=1e-2)
    emulator = Emulator(microcode, "squared-error")
    before = emulator.weights
    emulator.run(INPUTS, TARGETS, learn=False)
    for name, weights in emulator.weights.items():
        np.testing.assert_array_equal(weights, before[name])


def test_a_run_that_saturates_says_so() -> None:
    emulator = Emulator(microcode_for(rate=3.0), "squared-error")
    emulator.run(INPUTS, 10 * TARGETS)
    counts = emulator.saturation.counts
    assert counts["traces of readout"] > 0
    assert counts["weights of hidden1 to readout"] > 0
    assert "SATURATED" in str(emulator.saturation)
    for weights in emulator.weights.values():
        assert weights.min() >= -256
        assert weights.max() <= 255


@pytest.mark.parametrize("rule", [nl.rules.ANP, nl.rules.NP])
def test_it_learns(rule: type[Rule]) -> None:
    random = np.random.default_rng(0)
    inputs = random.uniform(0, 1, (2000, 6))
    targets = inputs @ random.normal(size=(6, 3)) / 2
    emulator = Emulator(microcode_for(rule=rule(baseline="noisy"), rate=3e-3), "squared-error")  # type: ignore[call-arg]
    before = squared_error(emulator.forward(inputs), targets).mean()
    emulator.run(inputs, targets)
    assert squared_error(emulator.forward(inputs), targets).mean() < 0.3 * before


# ---- losses, profile ----


def test_losses_are_those_of_torch() -> None:
    outputs, labels, wanted = 5 * RANDOM.normal(size=(2, 7, 4)), RANDOM.integers(0, 4, 7), RANDOM.normal(size=(7, 4))
    for i in range(2):
        expected = F.cross_entropy(torch.tensor(outputs[i]), torch.tensor(labels), reduction="none")
        np.testing.assert_allclose(cross_entropy(outputs, labels)[i], expected, rtol=1e-12, atol=1e-13)
        expected = F.mse_loss(torch.tensor(outputs[i]), torch.tensor(wanted), reduction="none").mean(1)
        np.testing.assert_allclose(squared_error(outputs, wanted)[i], expected, rtol=1e-12)
    assert float(cross_entropy(np.array([1000.0, 0.0]), np.array(1))) == 1000.0


def test_the_profile_works_for_training_in_torch() -> None:
    chip = nl.Chip(mlp(), PROFILE, seed=0)
    x = torch.tensor(INPUTS, dtype=torch.float32)
    rule = nl.rules.NP(baseline="noisy")
    rule.estimate(chip, x, lambda y: (y**2).mean(1))
    assert nl.rules.WP().missing(PROFILE)


@pytest.mark.parametrize(
    ("key", "value"),
    [("weight_exponent", [3, -3]), ("learning_accumulator_bits", 7), ("rounding", "up"), ("trace_bits", 0)],
)
def test_cores_that_contradict_themselves_are_refused(key: str, value: object) -> None:
    assert CORES is not None
    with pytest.raises(ValueError, match=key):
        Cores.model_validate({**CORES.model_dump(exclude={"exceptions"}), key: value})
