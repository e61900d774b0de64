"""Tiles and converters: against plain products, an independent numpy computation, and sampling device by device.

Budget: 1e-5 for every statistical assertion; seeds are fixed.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from checks import ONE_OVER_F, PROGRAMMING, Array, machine, moments_agree, sample_batch, tanh_net
from scipy import stats
from torch import nn

from noisylearn import Chip
from noisylearn.errors import UserError
from noisylearn.passes import Plan
from noisylearn.profiles import HardwareProfile, load_profile
from noisylearn.rules import ANP, BP

ALARM = 1e-5
FIXED = '[specification.inputs]\nCITEDscaling = "fixed"\nrange = 2.0\n'


def tile(rows: int, columns: int = 1000) -> str:
    return f"[specification.tile]\nCITEDrows = {rows}\ncolumns = {columns}\n"


def dac(bits: int) -> str:
    return f"[specification.dac]\nCITEDbits = {bits}\n"


def adc(bits: int, limit: float, more: str = "") -> str:
    return f"[specification.adc]\nCITEDbits = {bits}\nrange = {limit}\n{more}"


def circuit(*effects: str, specification: str = "", scale: str = "column") -> HardwareProfile:
    return machine(*effects, tiles=True, scale=scale, specification=specification)


def linear(n_in: int, n_out: int, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(n_in, n_out, bias=bias).double()


LAYERS = {
    "linear": (lambda: nn.Linear(10, 7), (10,)),
    "linear of sequences": (lambda: nn.Linear(10, 7), (3, 10)),
    "conv1d": (lambda: nn.Conv1d(2, 5, 3, stride=2, padding=2, dilation=2), (2, 11)),
    "conv2d": (lambda: nn.Conv2d(3, 4, (2, 3), stride=(1, 2), padding=(1, 0)), (3, 6, 7)),
    "conv2d without bias": (lambda: nn.Conv2d(2, 4, 3, bias=False), (2, 6, 6)),
}


@pytest.mark.parametrize("scale", ["column", "tile", "layer"])
@pytest.mark.parametrize("rows", [1, 3, 4, 6, 100])
@pytest.mark.parametrize("name", LAYERS)
def test_without_converters_tiles_give_the_plain_product(name: str, rows: int, scale: str) -> None:
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    layer = make().double()
    chip = Chip(layer, circuit(specification=tile(rows, 3), scale=scale))
    x = torch.randn(4, *shape, dtype=torch.float64)
    torch.testing.assert_close(chip(x), layer(x).detach())
    torch.testing.assert_close(chip.weights()[""], layer.weight.detach())


def quantised(y: Array, bits: int, limit: float) -> Array:
    step = 2 * limit / (2**bits - 2)
    return np.round(np.clip(y, -limit, limit) / step) * step


@pytest.mark.parametrize("scaling", ["absolute-maximum", "fixed"])
@pytest.mark.parametrize("scale", ["column", "tile", "layer"])
def test_converters_and_partial_sums_equal_an_independent_computation(scaling: str, scale: str) -> None:
    """10 inputs on tiles of 4 rows and 3 columns: three tiles of 4, 4 and 2 inputs, column by column in numpy."""
    layer, x = linear(10, 5), torch.rand(6, 10, dtype=torch.float64) * 3 - 1
    specification = tile(4, 3) + dac(4) + adc(5, 0.7) + (FIXED if scaling == "fixed" else "")
    effects = ('kind = "offset-spread"\nsigma = 0.05', 'kind = "gain-spread"\nsigma = 0.1')
    chip = Chip(layer, circuit(*effects, specification=specification, scale=scale))
    found = chip(x).numpy()
    held = chip.state()["layer/"]
    offset, gain = held["offset-spread.offset"].numpy(), held["gain-spread.gain"].numpy()
    W, b, inputs = layer.weight.detach().numpy(), layer.bias.detach().numpy(), x.numpy()
    expected = np.tile(b, (6, 1))
    for t, columns in enumerate((slice(0, 4), slice(4, 8), slice(8, 10))):
        part = inputs[:, columns]
        scale_x = np.full((6, 1), 2.0) if scaling == "fixed" else np.abs(part).max(1, keepdims=True)
        driven = quantised(part / scale_x, 4, 1.0)
        for i in range(5):
            block = slice(0, 3) if i < 3 else slice(3, 5)
            largest = {"column": W[i, columns], "tile": W[block, columns], "layer": W}[scale]
            scale_w = np.abs(largest).max()
            y = driven @ (W[i, columns] / scale_w)
            y = quantised((y + offset[t, 0, i]) * gain[t, 0, i], 5, 0.7)
            expected[:, i] += y * scale_x[:, 0] * scale_w
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_ir_drop_equals_an_independent_computation() -> None:
    layer, x = linear(8, 3, bias=False), torch.rand(5, 8, dtype=torch.float64) * 2 - 1
    text = 'kind = "ir-drop"\nscale = 1.5\nwire_resistance_ohm = 35.0\ndevice_conductance_us = 50.0'
    found = Chip(layer, circuit(text))(x).numpy()
    W, inputs, n = layer.weight.detach().numpy(), x.numpy(), 8
    for s in range(5):
        scale_x = np.abs(inputs[s]).max()
        u = inputs[s] / scale_x
        for i in range(3):
            scale_w = np.abs(W[i]).max()
            w = W[i] / scale_w
            a = n * 35.0 * 50e-6 * (np.abs(w) * np.abs(u)).sum()
            c = a * (a * (0.05 * a - 0.2) + 0.5)
            lost = sum(w[j] * u[j] * (1 - (1 - j / n) ** 2) for j in range(n))
            assert found[s, i] == pytest.approx((w @ u - 1.5 * c * lost) * scale_x * scale_w, abs=1e-12)


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_an_adc_has_an_odd_number_of_codes_with_zero_among_them(bits: int) -> None:
    layer = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(layer.weight, 1.0)
    chip = Chip(layer, circuit(specification=FIXED + adc(bits, 0.5)))
    x = torch.linspace(-2, 2, 100_001, dtype=torch.float64).unsqueeze(1)
    y = chip(x)
    codes = y.unique()
    assert len(codes) == 2**bits - 1
    assert 0 in codes
    inside = x.abs() <= 1.0
    assert (y - x)[inside].abs().max() <= 2 * 0.5 / (2**bits - 2) + 1e-12
    assert float(y.max()) == pytest.approx(1.0), "saturates at range x scale"


def test_read_out_noise_is_that_of_single_devices_tile_by_tile() -> None:
    """Lumped, against one draw per device, sample and tile in numpy; through an ADC, which is not Gaussian."""
    layer = linear(6, 3, bias=False)
    noise = 'kind = "output-noise"\nsigma = 0.1'
    chip = Chip(layer, circuit(PROGRAMMING, ONE_OVER_F, noise, specification=tile(3) + adc(6, 1.0)), seed=1)
    sample = torch.randn(1, 6, dtype=torch.float64)
    n = 20_000
    held = chip.state()["layer/"]
    g, slow = held["written"].numpy(), held["one-over-f-read-noise.slow"][-1].numpy()
    rel = held["one-over-f-read-noise.relative"].numpy()
    effect = chip.profile.calibration.effects[1]
    setting = chip._placed[""].setting
    shared = effect.covariance(setting.pass_interval_s, setting)  # type: ignore[union-attr]
    fresh = effect.log_bandwidth(setting) - shared  # type: ignore[union-attr]
    rng = np.random.default_rng(0)
    x = sample[0].numpy()
    direct = np.zeros((n, 3))
    for t in range(2):
        part = slice(3 * t, 3 * t + 3)
        scale_x = np.abs(x[part]).max()
        mean_g = g[:, :, part] * (1 + rel[:, :, part] * np.sqrt(shared) * slow[:, :, part])
        z = rng.standard_normal((n, 2, 3, 3))
        read = mean_g + g[:, :, part] * rel[:, :, part] * np.sqrt(fresh) * z
        y = np.einsum("nij,j->ni", (read[:, 0] - read[:, 1]) / 25.0, x[part] / scale_x)
        y += 0.1 * rng.standard_normal(y.shape)
        scale_w = np.abs(layer.weight.detach().numpy()[:, part]).max(1)
        direct += quantised(y, 6, 1.0) * scale_x * scale_w
    lumped = chip(sample.repeat(n, 1)).numpy()
    for i in range(3):
        jitter = [1e-9 * rng.standard_normal(n) for _ in range(2)]  # codes repeat: ties are broken at random
        assert stats.ks_2samp(lumped[:, i] + jitter[0], direct[:, i] + jitter[1]).pvalue > ALARM
        assert abs(math.log(lumped[:, i].var() / direct[:, i].var())) < stats.norm.isf(ALARM / 2) * math.sqrt(4 / n)


def test_a_variance_that_all_devices_share_is_the_general_one() -> None:
    """sum_j x_j^2 in place of a product: the same draws give the same reads."""
    constant = 'kind = "read-noise"\nreference_g_max_us = 25.0\nsigma_us = { polynomial = [0.5] }'
    general = constant.replace("[0.5]", "[0.5, 0.0]")
    x = torch.randn(7, 10, dtype=torch.float64)
    for make in (lambda text: circuit(text, specification=tile(4)), lambda text: machine(text, devices=True)):
        a, b = (Chip(linear(10, 5), make(text), seed=3)(x) for text in (constant, general))
        torch.testing.assert_close(a, b)
        assert not torch.allclose(a, linear(10, 5)(x))


def test_output_noise_is_independent_between_tiles_outputs_samples_passes_and_layers() -> None:
    """Correlations of 4000 draws within 4.4 sigma; variance: tiles add, scaled by input and weight."""
    model = nn.Sequential(linear(4, 3, bias=False), nn.Tanh(), linear(3, 3, bias=False))
    chip = Chip(model, circuit('kind = "output-noise"\nsigma = 0.1', specification=tile(2)), seed=0)
    x = torch.tensor([[1.0, 0.5, -2.0, 0.1]], dtype=torch.float64).repeat(4000, 1)
    readings = chip.passes(x, Plan(((True, True),) * 2)).layers
    first = (readings["0"].activity - model[0](x)).detach().numpy()
    W = model[0].weight.detach().numpy()
    for i in range(3):
        sigma2 = 0.01 * ((1.0 * np.abs(W[i, :2]).max()) ** 2 + (2.0 * np.abs(W[i, 2:]).max()) ** 2)
        assert moments_agree(first[0, :, i], 0.0, sigma2, ALARM)
    drawn = [*first[0].T, *first[1].T, first[0, ::-1, 0], (readings["2"].activity[0, :, 0]).numpy()]
    correlation = np.corrcoef([d[1:-1] for d in drawn[:7]])
    off = correlation[~np.eye(7, dtype=bool)]
    assert np.abs(np.arctanh(off)).max() < stats.norm.isf(ALARM / 2) / math.sqrt(4000 - 5)


def test_input_noise_is_fresh_in_every_pass_and_common_to_the_columns() -> None:
    layer = linear(1, 4, bias=False)
    chip = Chip(layer, circuit('kind = "input-noise"\nsigma = 0.05'), seed=0)
    a = chip.passes(torch.ones(3000, 1, dtype=torch.float64), Plan(((True,),) * 2)).layers[""].activity
    noise = (a / layer.weight.detach().T - 1).numpy()
    np.testing.assert_allclose(noise[..., 0], noise[..., 3], atol=1e-12)
    assert moments_agree(noise[0, :, 0], 0.0, 0.05**2, ALARM)
    assert abs(np.corrcoef(noise[0, :, 0], noise[1, :, 0])[0, 1]) < stats.norm.isf(ALARM / 2) / math.sqrt(3000)


def test_halving_the_inputs_saves_what_clipping_loses_up_to_its_limit() -> None:
    layer = nn.Linear(8, 1, bias=False).double()
    nn.init.constant_(layer.weight, 1.0)
    x = torch.ones(2, 8, dtype=torch.float64)
    x[1] = torch.tensor([1.0, -1.0] * 4)
    read = {
        halvings: Chip(
            layer,
            circuit(
                specification=adc(
                    8, 1.5, f'saturation = "halve-inputs"\nmax_halvings = {halvings}\n' if halvings else ""
                )
            ),
        )(x)
        for halvings in (0, 1, 2, 3, 6)
    }
    for halvings, expected in ((0, 1.5), (1, 3.0), (2, 6.0), (3, 8.0), (6, 8.0)):
        assert float(read[halvings][0]) == pytest.approx(expected, abs=8 * 1.5 / 127)
        assert float(read[halvings][1]) == 0.0, "the other vector is not read again"


def test_noise_is_drawn_anew_where_inputs_are_halved_and_every_pass_has_its_own() -> None:
    layer = linear(8, 4, bias=False)
    more = 'saturation = "halve-inputs"\nmax_halvings = 3\n'
    profile = circuit('kind = "output-noise"\nsigma = 0.05', specification=adc(12, 0.4, more))
    a = Chip(layer, profile, seed=0).passes(torch.rand(500, 8, dtype=torch.float64), Plan(((True,),) * 3))
    passes = a.layers[""].activity
    assert passes.shape == (3, 500, 4)
    assert not torch.equal(passes[0], passes[1])


def test_calibration_gives_an_adc_of_few_bits_its_codes_back() -> None:
    layer = linear(256, 1, bias=False)
    x = torch.randn(4000, 256, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    chip = Chip(layer, circuit(specification=adc(4, 256.0, "calibration_quantile = 0.999\n")))
    assert len(chip(x).div(x.abs().amax(1, keepdim=True)).unique()) <= 3, "the largest possible range wastes the codes"
    chip.calibrate(x)
    limit = float(chip.state()["layer/"]["adc.range"])
    driven = x / x.abs().amax(1, keepdim=True)
    products = (driven @ (layer.weight.detach() / layer.weight.detach().abs().max()).T).abs()
    assert limit == pytest.approx(float(products.quantile(0.999)), rel=1e-9)
    error = (chip(x) - layer(x)).std() / layer(x).std()
    assert error < 0.15


def test_state_carries_gains_offsets_and_ranges() -> None:
    specification = tile(4) + adc(6, 3.0, "calibration_quantile = 0.99\n")
    effects = (
        'kind = "offset-spread"\nsigma = 0.05',
        'kind = "gain-spread"\nsigma = 0.1',
        'kind = "output-noise"\nsigma = 0.02',
    )
    x = torch.randn(20, 10, dtype=torch.float64)
    profile = circuit(*effects, specification=specification)
    one = Chip(linear(10, 5), profile, seed=0)
    one.calibrate(x)
    one(x)
    other = Chip(linear(10, 5), profile, seed=7)
    other.load_state(one.state())
    assert torch.equal(one(x), other(x))


def test_nothing_in_gives_nothing_out() -> None:
    layer = linear(6, 3, bias=False)
    with torch.no_grad():
        layer.weight[1] = 0.0
    y = Chip(layer, circuit(specification=tile(4) + dac(6) + adc(6, 2.0)))(torch.zeros(2, 6, dtype=torch.float64))
    assert torch.equal(y, torch.zeros(2, 3, dtype=torch.float64))
    y = Chip(layer, circuit(PROGRAMMING, specification=tile(4)))(torch.randn(2, 6, dtype=torch.float64))
    assert torch.isfinite(y).all()
    assert (y[:, 1] == 0).all()


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(4, 4, 3, groups=2), nn.Conv3d(1, 1, 2), nn.Conv2d(1, 1, 3, padding="same")]
)
def test_a_layer_that_is_not_one_matrix_is_refused(layer: nn.Module) -> None:
    with pytest.raises(UserError, match=r"layer '0' \(Conv.*not one matrix product.*use Linear"):
        Chip(nn.Sequential(layer), circuit())


def test_backprop_through_the_chip_goes_back_through_the_product_of_the_weights_there() -> None:
    model, (x, t) = tanh_net(5, 4, 2), sample_batch(8, 5, 2)
    chip = Chip(model, circuit(PROGRAMMING, specification=tile(3) + dac(5) + adc(5, 2.0)), seed=0)
    BP(forward="chip").estimate(chip, x, lambda out: (out - t).square().sum(1))
    W = {k: v.clone().requires_grad_() for k, v in chip.weights().items()}
    layers = (model[0], model[2])
    with torch.no_grad():
        h_read = chip.digital_pass(x, on_devices=True).layers["0"].activity[0]
        y_read = chip.digital_pass(x, on_devices=True).layers["2"].activity[0]
    linear0 = F.linear(x, W["0"], layers[0].bias.detach())
    h = torch.tanh(linear0 + (h_read - linear0).detach())
    linear1 = F.linear(h, W["2"], layers[1].bias.detach())
    y = linear1 + (y_read - linear1).detach()
    (y - t).square().sum(1).mean().backward()
    torch.testing.assert_close(layers[0].weight.grad, W["0"].grad)
    torch.testing.assert_close(layers[1].weight.grad, W["2"].grad)


def test_activity_based_perturbation_learns_through_converters() -> None:
    """The estimate is a descent direction: positive cosine with the true gradient, over 200 batches."""
    model, (x, t) = tanh_net(6, 8, 2), sample_batch(32, 6, 2)
    profile = circuit('kind = "output-noise"\nsigma = 0.06', specification=tile(4) + dac(8) + adc(9, 4.0))
    chip = Chip(model, profile, seed=0)

    def loss(out: torch.Tensor) -> torch.Tensor:
        return (out - t).square().sum(1)

    BP().estimate(chip, x, loss)
    true = torch.cat([p.grad.flatten() for p in model.parameters()])
    cosines = []
    for _ in range(200):
        ANP(baseline="noisy").estimate(chip, x, loss)
        found = torch.cat([p.grad.flatten() for p in model.parameters()])
        cosines.append(float(F.cosine_similarity(found, true, dim=0)))
    error = np.std(cosines) / math.sqrt(200)
    assert np.mean(cosines) > 0.1 + stats.norm.isf(ALARM) * error


# ---- one effect at a time ----


def test_only_and_without_leave_a_machine_with_the_effects_named() -> None:
    pcm = load_profile("pcm-nandakumar-2019")
    drift = pcm.only("power-law-drift")
    assert [e.kind for e in drift.all_effects()] == ["power-law-drift"]
    assert drift.name == "pcm-nandakumar-2019-only-power-law-drift"
    assert "aihwkit" not in drift.sources, "nothing cites it any more"
    rest = pcm.without("power-law-drift")
    assert [e.kind for e in rest.all_effects()] == ["programming-noise", "one-over-f-read-noise"]
    assert pcm.only().all_effects() == []
    with_converters = circuit('kind = "output-noise"\nsigma = 0.1', specification=dac(4) + adc(5, 1.0))
    assert [e.kind for e in with_converters.only("adc").all_effects()] == ["adc"]
    assert [e.kind for e in with_converters.without("dac").all_effects()] == ["output-noise", "adc"]


def test_what_is_isolated_no_longer_shows_noise_that_is_gone() -> None:
    node = load_profile("gaussian-node").only()
    assert "injected_noise" not in node.observable
    with pytest.raises(UserError, match=r"effect of profile pcm-nandakumar-2019 'drift'"):
        load_profile("pcm-nandakumar-2019").only("drift")
