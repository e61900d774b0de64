"""Lava's fixed-point engine beside the emulator, bit for bit. Lava runs in processes of its own, with time-outs."""

import subprocess
import sys
from pathlib import Path

import pytest

from noisylearn.backends.lava import compat
from noisylearn.ground.errors import UserError

ROOT = Path(__file__).parents[2]
needs_lava = pytest.mark.skipif(not compat.is_installed(), reason="lava-nc 0.10.0 is not installed")


def run(*arguments: str, seconds: float = 200.0) -> str:
    """Output of a script, both streams. Fails with it where the script does."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def parity(*options: str) -> list[str]:
    return run(str(ROOT / "benchmarks" / "loihi_parity.py"), "--hidden", "10", *options).splitlines()


@pytest.mark.slow
@needs_lava
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "options",
    [
        ("--rounding", "nearest", "floor", "shared", "per-synapse", "--samples", "20", "--rate", "0.03"),
        ("--rule", "np", "--samples", "20", "--rate", "0.03"),
        ("--layers", "2", "--samples", "20", "--rate", "0.03", "--mantissa", "1"),
        ("--samples", "20", "--rate", "1"),
    ],
    ids=["roundings", "np", "deep, losing bits", "saturating"],
)
def test_lava_and_the_emulator_agree_bit_for_bit(options: tuple[str, ...]) -> None:
    lines = parity(*options)
    assert len(lines) == 2 * (4 if "nearest" in options else 1)
    for line in lines:
        assert "{'losses': 0, 'payloads': 0, 'weights': 0, 'traces': 0}" in line
        assert " 0 weights learned" not in line


RULES = """
import numpy as np
from noisylearn.backends.lava.compat import load_lava
load_lava()
from lava.magma.core.learning.learning_rule_applier import LearningRuleApplierBitApprox
from lava.magma.core.learning.product_series import ProductSeries
from lava.magma.core.learning.symbolic_equation import SymbolicEquation
from noisylearn.profiles.cores import Cores
from noisylearn.backends.loihi.engine import Engine
from noisylearn.backends.loihi.grammar import parsed
from noisylearn.backends.loihi.rounding import Fixed
from noisylearn.backends.loihi.saturation import Saturation
from noisylearn.profiles import load_profile
cores = load_profile("loihi2-lava-0.10").specification.cores
random = np.random.default_rng(0)
texts = [
    "-4*2^-7*x0*x1*y1 + 4*2^-7*x0*x1*y2", "-7*2^8*x0*x1*y1", "-2^-5*x0*x1*(y1-64)", "3*x0*(x1+5)*y2 - 2^-3*x0*w",
    "-5*2^-2*x0*x1*y1*y3 + x0*w*y1",
]
for text in texts:
    series = ProductSeries(SymbolicEquation("dw", text))
    rule = parsed(text)
    assert [(p.s_mantissa, p.s_exp - 7, p.dependency) for p in series.products] == [
        (p.mantissa, p.exponent, p.dependency) for p in rule
    ], text
    found = [[(f.state_var, f.const or 0, f.is_sgn) for f in p.factors] for p in series.products]
    assert found == [[(f.variable, f.constant, f.is_sign) for f in p.factors] for p in rule], text
    for _ in range(20):
        w = random.integers(-256, 256, (6, 9))
        x1, x0 = random.integers(0, 128, 9), random.random(9) < 0.7
        y = {name: random.integers(0, 128, 6) for name in ("y1", "y2", "y3")}
        traces = {f"{name}_x0": np.repeat(trace[:, None], 9, 1) for name, trace in y.items()}
        accumulator = LearningRuleApplierBitApprox(series).apply(
            w << 7, shape=(6, 9), x0=x0[None], weights=w, x1_x0=x1[None], **traces
        )
        expected = np.clip(np.floor(accumulator / 128), -256, 255)
        engine = Engine("c", w, rule, cores, Fixed(127))
        engine.learn(x1, x0, y, Saturation())
        assert (engine.weights == expected).all(), text
for text in ("8*2^-7*x0*x1*y1", "-8*2^-7*x0*x1*y1"):
    (product,) = ProductSeries(SymbolicEquation("dw", text)).products
    assert product.s_mantissa in (4, -4), "the engine halves a mantissa of 8, for which ours is refused"
print("agree")
"""


@pytest.mark.slow
@needs_lava
@pytest.mark.timeout(120)
def test_lava_parses_and_applies_rules_as_the_emulator_does() -> None:
    assert run("-c", RULES, seconds=100) == "agree\n"


@pytest.mark.slow
@needs_lava
@pytest.mark.timeout(120)
def test_lava_reports_what_saturated_and_refuses_other_cores() -> None:
    code = """
import numpy as np
import noisylearn as nl
from noisylearn.ground.errors import UserError
from noisylearn.backends.lava.fixed import run_fixed
from noisylearn.backends.loihi.emulator import Emulator
from noisylearn.backends.loihi.microcode import to_microcode
from noisylearn.backends.loihi.quantisation import quantise
from noisylearn.backends.netlist.rate import from_model
from noisylearn.profiles import load_profile
random = np.random.default_rng(0)
x, y = random.uniform(0, 1, (6, 5)), 9 * random.normal(size=(6, 2))
profile = load_profile("loihi2-lava-0.10")
network = quantise(from_model(nl.networks.mlp(5, [7], 2, activation="relu")), profile, x)
microcode = to_microcode(nl.rules.ANP(baseline="noisy"), network, 3.0)
emulator = Emulator(microcode, "squared-error")
emulator.run(x, y)
found = run_fixed(microcode, "squared-error", x, y)
of_neurons = {k: n for k, n in emulator.saturation.counts.items() if not k.startswith(("weights", "products", "learn"))}
assert of_neurons and found.saturation.counts == of_neurons, (of_neurons, found.saturation.counts)
narrow = profile.specification.cores.model_copy(update={"weight_bits": 6})
narrow = profile.model_copy(update={"specification": profile.specification.model_copy(update={"cores": narrow})})
network = quantise(from_model(nl.networks.mlp(5, [7], 2, activation="relu")), narrow, x)
try:
    run_fixed(to_microcode(nl.rules.ANP(baseline="noisy"), network, 1e-3), "squared-error", x, y)
except UserError as error:
    print(error)
"""
    assert run("-c", code, seconds=100) == "cores.weight_bits = 6: Lava's engine has 8; use the emulator\n"


@pytest.mark.slow
@needs_lava
@pytest.mark.timeout(120)
def test_a_process_model_without_a_step_cannot_be_built() -> None:
    code = """
from noisylearn.backends.lava.compat import load_lava
load_lava()
from noisylearn.backends.lava.processes.monitored import Monitored
class Idle(Monitored):
    pass
try:
    Idle({"monitor": None})
except TypeError as error:
    print(error)
"""
    assert "abstract method" in run("-c", code, seconds=100)


def test_without_lava_the_error_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat, "_installed_version", lambda: None)
    monkeypatch.delitem(sys.modules, compat._VAR_MODEL, raising=False)
    with pytest.raises(UserError, match="noisylearn lava install --yes"):
        compat.load_lava()
