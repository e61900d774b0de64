"""Integer LIF neurons: by hand, against Lava bit for bit, against the float network they were made from."""

import dataclasses
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from noisylearn import UserError, networks
from noisylearn.backends.lava.compat import is_installed
from noisylearn.backends.lava.group import run_in_group
from noisylearn.backends.lava.lif import run_lif_in_lava
from noisylearn.backends.loihi.lif import LIMIT, Counts, Dense, Lif, LifNetwork, run_lif
from noisylearn.backends.loihi.lif_quantisation import quantise_spiking
from noisylearn.backends.netlist.spiking import from_spiking

pytest.importorskip("snntorch", reason="snntorch is not installed")
needs_lava = pytest.mark.skipif(not is_installed(), reason="lava-nc 0.10.0 is not installed")
KINDS = ["leaky", "rleaky", "synaptic"]


def one_neuron(weight: int = 2, exponent: int = 0, **changes: object) -> LifNetwork:
    zero = np.zeros(1, dtype=np.int32)
    fields = {"du": 4095, "dv": 0, "threshold": 2**17 - 1, "bias_mantissa": zero, "bias_exponent": 0}
    fields |= {"u_start": zero, "v_start": zero} | changes
    into = Dense(np.array([[weight]], dtype=np.int32), exponent)
    return LifNetwork((Lif(into, **fields),), Dense(np.array([[2]], dtype=np.int32), 0))


def of(value: int) -> np.ndarray:
    return np.array([value], dtype=np.int32)


def train(*spikes: int) -> np.ndarray:
    return np.array(spikes)[:, None, None]


def fired(network: LifNetwork, *spikes: int) -> list[int]:
    return run_lif(network, train(*spikes)).spikes[0][:, 0, 0].astype(int).tolist()


def test_a_spike_arrives_a_step_later_and_fires_only_above_the_threshold() -> None:
    assert fired(one_neuron(weight=10, threshold=9), 1, 0, 0) == [0, 1, 0]
    assert fired(one_neuron(weight=10, threshold=10), 1, 0, 0, 0) == [0, 0, 0, 0], "equal is not above"
    assert fired(one_neuron(weight=10, threshold=10), 1, 1, 0, 0) == [0, 0, 1, 0], "and then starts from zero"
    assert run_lif(one_neuron(weight=10, threshold=9), train(1, 0, 0)).readout.ravel().tolist() == [0, 0, 2]


def test_exponents_shift_the_sum_and_round_down() -> None:
    sent = {e: int(Dense(np.array([[-6, 2]], dtype=np.int32), e).send(np.ones((1, 2), bool))[0, 0]) for e in (-3, 0, 2)}
    assert sent == {-3: -1, 0: -4, 2: -16}


def test_current_and_voltage_decay_towards_zero() -> None:
    # voltage -3 at half a decay: -1 (towards zero), then 0; biases of +1 and +2 tell the three values apart
    for start, bias, expected in ((-3, 65, 1), (-3, 66, 1), (-129, 65, 0), (-130, 65 + 1, 1)):
        network = one_neuron(dv=2048, threshold=1, v_start=of(start), bias_mantissa=of(bias))
        assert fired(network, 0)[0] == int(-(-start // 2) + bias > 64), (start, bias, expected)
    # current 100 keeps (4095 - 2047) / 4096 = 1/2 of itself: 50 enters the voltage, then 25
    network = one_neuron(du=2047, threshold=1, u_start=of(100), v_start=of(0))
    assert fired(network, 0, 0, 0) == [0, 1, 0]  # 50, 75 > 64, reset, 12
    # 2^18 is halved to 2^17 = 2048 << 6 exactly, which is above 2047 << 6 alone
    for threshold, spike in ((2047, 1), (2048, 0)):
        assert fired(one_neuron(du=2047, threshold=threshold, u_start=of(2**18)), 0) == [spike]


def test_bias_is_shifted_by_its_exponent_alone() -> None:
    assert fired(one_neuron(threshold=1, bias_mantissa=of(16), bias_exponent=2), 0, 0, 0) == [0, 1, 0]  # 64, 128
    assert fired(one_neuron(threshold=1, bias_mantissa=of(17), bias_exponent=2), 0, 0, 0) == [1, 1, 1]  # 68


def test_what_does_not_fit_wraps_or_saturates_and_is_counted() -> None:
    loud = one_neuron(weight=254, exponent=7, du=0)  # 254 * 2^7 * 2^6 = 2,080,768 a spike; 2^23 after five
    found = run_lif(loud, np.ones((7, 1, 1)))
    assert found.counts.current_wraps > 0
    assert found.counts.voltage_saturations > 0
    steady = run_lif(one_neuron(bias_mantissa=of(-4095), bias_exponent=7), np.zeros((20, 1, 1)))
    n_held = 20 - (LIMIT - 1) // (4095 << 7)
    assert steady.counts == Counts(voltage_saturations=n_held)
    many = LifNetwork((dataclasses.replace(loud.layers[0], into=Dense(np.full((1, 3), 254, np.int32), 7)),))
    assert run_lif(many, np.ones((1, 2, 3))).counts.accumulator_overflows == 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"du": 4096}, "du = 4096 of integer neurons: give 0 to 4095"),
        ({"threshold": 2**17}, "threshold = 131072"),
        ({"bias_mantissa": of(5000)}, "bias_mantissa = 5000"),
        ({"weight": 255}, "give even integers from -254 to 254"),
        ({"exponent": 8}, "exponent from -8 to 7"),
    ],
)
def test_numbers_out_of_range_are_refused(change: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        one_neuron(**change)


def test_inputs_must_be_spikes_of_the_right_size() -> None:
    with pytest.raises(UserError, match="not all 0 or 1"):
        run_lif(one_neuron(), np.full((3, 1, 1), 0.5))
    with pytest.raises(UserError, match=r"give \(time, batch, 1\)"):
        run_lif(one_neuron(), np.ones((3, 1)))


def spike_trains(steps: int, batch: int, n: int, rate: float = 0.2) -> np.ndarray:
    return (np.random.default_rng(0).random((steps, batch, n)) < rate).astype(np.int32)


def followed(model: networks.Spiking, inputs: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Spikes of every layer and outputs of the float network."""
    spikes: list[list[np.ndarray]] = [[] for _ in model.sizes]
    neurons = [model.get_submodule(f"neurons{i}") for i in range(1, len(model.sizes) + 1)]
    hooks = [
        module.register_forward_hook(lambda m, a, out, kept=kept: kept.append(out[0].numpy() > 0))
        for module, kept in zip(neurons, spikes, strict=True)
    ]
    state, outputs = None, []
    with torch.no_grad():
        for x in torch.from_numpy(inputs).float():
            y, state = model(x, state)
            outputs.append(y.numpy())
    for hook in hooks:
        hook.remove()
    return [np.stack(kept) for kept in spikes], np.stack(outputs)


def spiking(kind: str, sizes: tuple[int, ...] = (40, 30), **options: object) -> networks.Spiking:
    return networks.Spiking(30, sizes, 4, neuron=kind, seed=1, **{"reset": "zero", "threshold": 0.3} | options)


@pytest.mark.parametrize("kind", KINDS)
def test_the_quantised_network_follows_the_float_one(kind: str) -> None:
    model, inputs = spiking(kind), spike_trains(60, 16, 30)
    quantised = quantise_spiking(from_spiking(model))
    result = run_lif(quantised.network, quantised.padded(inputs))
    spikes, outputs = quantised.answer(result)
    exact, wanted = followed(model, inputs)
    assert not result.counts.any
    for found, true, bound in zip(spikes, exact, (0.93, 0.8), strict=True):
        assert 0.05 < true.mean() < 0.6
        assert (found[:3] == true[:3]).mean() > 0.95
        assert (found == true).mean() > bound
    assert np.corrcoef(outputs.ravel(), wanted.ravel())[0, 1] > (0.9 if kind == "rleaky" else 0.98)


@pytest.mark.parametrize("kind", ["leaky", "rleaky"])
def test_a_network_of_numbers_that_fit_gives_the_same_spikes(kind: str) -> None:
    model, generator = spiking(kind, (40, 30), beta=1.0, threshold=0.5), np.random.default_rng(6)

    def even(*shape: int) -> torch.Tensor:
        """Multiples of 1/128 with a largest of 254/256, so that the scale is 2^14."""
        found = 2 * generator.integers(-127, 128, shape) * (generator.random(shape) < 0.3)
        found.flat[0] = 254
        return torch.from_numpy(found / 256).float()

    with torch.no_grad():
        for i in (1, 2):
            layer, neurons = model.get_submodule(f"hidden{i}"), model.get_submodule(f"neurons{i}")
            layer.weight.copy_(even(*layer.weight.shape))
            layer.bias.copy_(torch.from_numpy(generator.integers(0, 500, len(layer.bias)) / 2**14))
            if kind == "rleaky":
                neurons.recurrent.weight.copy_(even(*neurons.recurrent.weight.shape))
                neurons.recurrent.bias.copy_(torch.from_numpy(generator.integers(0, 500, len(layer.bias)) / 2**14))
    inputs = spike_trains(60, 16, 30)
    quantised = quantise_spiking(from_spiking(model))
    result = run_lif(quantised.network, quantised.padded(inputs))
    exact, _ = followed(model, inputs)
    assert quantised.scales == (2.0**14, 2.0**14)
    assert not result.counts.any
    for found, true in zip(quantised.answer(result)[0], exact, strict=True):
        assert 0.05 < true.mean() < 0.6
        assert np.array_equal(found, true)


@pytest.mark.parametrize("kind", KINDS)
def test_bias_acts_from_the_first_step_of_the_input_in_every_layer(kind: str) -> None:
    model = spiking(kind, (40, 30))
    with torch.no_grad():
        for name in ("hidden1", "hidden2"):
            model.get_submodule(name).bias.uniform_(0.02, 0.07, generator=torch.Generator().manual_seed(2))
            model.get_submodule(name).weight.mul_(0.01)
    silence = np.zeros((12, 1, 30), dtype=np.int32)
    quantised = quantise_spiking(from_spiking(model))
    assert quantised.clipped == 0
    spikes, _ = quantised.answer(run_lif(quantised.network, quantised.padded(silence)))
    exact, _ = followed(model, silence)
    for found, true in zip(spikes, exact, strict=True):
        assert true.sum() > 20
        assert (found != true).sum() <= 2  # at the threshold, rounding decides


def test_decorrelation_is_folded_into_the_weights() -> None:
    from noisylearn import decorrelate

    model = decorrelate(spiking("leaky"), 1e-3)
    with torch.no_grad():
        for module in model.modules():
            if hasattr(module, "matrix"):
                module.matrix.add_(0.1 * torch.randn(module.matrix.shape, generator=torch.Generator().manual_seed(3)))
    inputs = spike_trains(30, 8, 30)
    outputs, _ = quantise_spiking(from_spiking(model))(inputs)
    _, wanted = followed(model, inputs)
    assert np.corrcoef(outputs.ravel(), wanted.ravel())[0, 1] > 0.98


def test_what_integer_neurons_cannot_do_is_refused() -> None:
    with pytest.raises(UserError, match="reset='zero', or accept other spikes with approximate_reset=True"):
        quantise_spiking(from_spiking(spiking("leaky", reset="subtract")))
    assert quantise_spiking(from_spiking(spiking("leaky", reset="subtract")), approximate_reset=True).scales
    spread = spiking("leaky")
    spread.neurons1.beta = torch.linspace(0.8, 0.9, 40)
    with pytest.raises(UserError, match=r"beta differs from neuron to neuron \(0.8 to 0.9\)"):
        quantise_spiking(from_spiking(spread))
    huge = spiking("leaky", threshold=1e6)
    with pytest.raises(UserError, match="train with a lower threshold"):
        quantise_spiking(from_spiking(huge))


def processes_with(text: str) -> list[str]:
    """Command lines, of any process, that name a text."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found.append((folder / "cmdline").read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return [line for line in found if text in line]


def densities(n: int) -> np.ndarray:
    """400 steps of input spikes: sparse, middling, dense, none."""
    generator = np.random.default_rng(4)
    return np.concatenate([generator.random((100, 1, n)) < rate for rate in (0.02, 0.2, 0.7, 0.0)])


@pytest.mark.slow
@needs_lava
@pytest.mark.timeout(150)
@pytest.mark.parametrize("kind", KINDS)
def test_lava_gives_the_same_spikes_bit_for_bit(kind: str) -> None:
    network = quantise_spiking(from_spiking(spiking(kind, (40, 30, 20)))).network
    ours, theirs = run_lif(network, densities(30)), run_lif_in_lava(network, densities(30))
    for found, lava in zip(ours.spikes, theirs.spikes, strict=True):
        assert 0.05 < lava.mean() < 0.6
        assert np.array_equal(found, lava)
    assert np.array_equal(ours.readout, theirs.readout)


@pytest.mark.slow
@needs_lava
@pytest.mark.timeout(150)
def test_lava_wraps_and_saturates_as_the_emulator_does() -> None:
    generator = np.random.default_rng(5)

    def dense(n_out: int, n_in: int, exponent: int) -> Dense:
        return Dense((2 * generator.integers(-127, 128, (n_out, n_in))).astype(np.int32), exponent)

    def whole(n: int, limit: int) -> np.ndarray:
        return generator.integers(-limit, limit + 1, n).astype(np.int32)

    layers = (
        Lif(dense(50, 30, 7), 40, 30, 100_000, whole(50, 4095), 7, whole(50, 8_000_000), whole(50, 8_000_000)),
        Lif(dense(40, 50, 5), 0, 0, 120_000, whole(40, 4095), 5, whole(40, 9), whole(40, 9), dense(40, 40, 7)),
        Lif(dense(20, 40, -3), 2000, 4095, 3, whole(20, 4095), 0, whole(20, 9), whole(20, 9)),
    )
    network = LifNetwork(layers, dense(5, 20, -2))
    ours, theirs = run_lif(network, densities(30)), run_lif_in_lava(network, densities(30))
    assert ours.counts.current_wraps > 100
    assert ours.counts.voltage_saturations > 100
    assert ours.counts.accumulator_overflows > 100
    for found, lava in zip(ours.spikes, theirs.spikes, strict=True):
        assert lava.any()
        assert np.array_equal(found, lava)
    assert np.array_equal(ours.readout, theirs.readout)


@pytest.mark.slow
@needs_lava
@pytest.mark.timeout(60)
def test_no_process_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert run_lif_in_lava(one_neuron(), np.ones((5, 1, 1))).spikes[0].shape == (5, 1, 1)
    assert not processes_with(str(tmp_path))


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc to count processes")
def test_a_child_that_takes_too_long_is_stopped_with_its_children(tmp_path: Path) -> None:
    loop = "import sys, time; time.sleep(100)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {loop!r}, sys.argv[1]])"
    with pytest.raises(UserError, match=r"did not finish within 2 s and was ended"):
        run_in_group([sys.executable, "-c", parent, str(tmp_path)], tmp_path, 2.0)
    for _ in range(100):
        if not processes_with(str(tmp_path)):
            return
        time.sleep(0.1)
    raise AssertionError("a child is left")


def test_a_child_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Lava stopped: ValueError: no such thing"):
        run_in_group([sys.executable, "-c", "raise ValueError('no such thing')"], tmp_path, 30.0)


def test_lava_takes_one_sample() -> None:
    with pytest.raises(UserError, match=r"give \(time, 1, n_in\)"):
        run_lif_in_lava(one_neuron(), np.ones((5, 2, 1)))
