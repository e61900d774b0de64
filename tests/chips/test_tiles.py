"""Tiles and converters: against plain products, an independent numpy computation, and sampling device by device.

Budget: 1e-5 for every statistical assertion; seeds are fixed.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from support.checks import ONE_OVER_F, PROGRAMMING, Array, machine, moments_agree, sample_batch, tanh_net
from torch import nn

from noisylearn import Chip
from noisylearn.chips.readings import Plan
from noisylearn.ground.errors import UserError
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
    "conv2d dilated": (lambda: nn.Conv2d(2, 3, (3, 2), stride=2, padding=(2, 1), dilation=(2, 3)), (2, 9, 8)),
    "conv2d without bias": (lambda: nn.Conv2d(2, 4, 3, bias=False), (2, 6, 6)),
    "conv1d of groups": (lambda: nn.Conv1d(6, 9, 3, groups=3), (6, 8)),
    "conv2d of groups": (lambda: nn.Conv2d(4, 6, (3, 2), groups=2, padding=1), (4, 5, 6)),
    "depthwise": (lambda: nn.Conv2d(4, 4, 3, groups=4, padding=1), (4, 6, 5)),
    "depthwise, two outputs each": (lambda: nn.Conv2d(3, 6, 3, groups=3, stride=2), (3, 7, 7)),
    "same": (lambda: nn.Conv2d(2, 3, (4, 3), padding="same", dilation=(1, 2)), (2, 6, 7)),
    "same of lines": (lambda: nn.Conv1d(2, 3, 4, padding="same"), (2, 9)),
    "valid": (lambda: nn.Conv2d(2, 3, 3, padding="valid"), (2, 6, 7)),
    "reflect": (lambda: nn.Conv2d(2, 3, 3, padding=(1, 2), padding_mode="reflect"), (2, 6, 7)),
    "circular of lines": (lambda: nn.Conv1d(4, 2, 5, padding=2, padding_mode="circular", groups=2), (4, 9)),
    "replicate, same": (lambda: nn.Conv2d(2, 2, 4, padding="same", padding_mode="replicate"), (2, 7, 6)),
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


def test_converters_on_a_convolution_equal_an_independent_computation() -> None:
    """Every position of the image is one vector with an input scale of its own; patches are cut out by hand."""
    torch.manual_seed(0)
    layer, x = nn.Conv2d(2, 3, (2, 3), stride=(1, 2), padding=(1, 0)).double(), torch.randn(4, 2, 4, 7).double()
    found = Chip(layer, circuit(specification=tile(5) + dac(4) + adc(5, 0.7)))(x).numpy()
    W, b = layer.weight.detach().flatten(1).numpy(), layer.bias.detach().numpy()
    image = np.pad(x.numpy(), ((0, 0), (0, 0), (1, 1), (0, 0)))
    assert found.shape == (4, 3, 5, 3)
    for s, row, column in np.ndindex(4, 5, 3):
        patch = image[s, :, row : row + 2, 2 * column : 2 * column + 3].ravel()
        y = b.copy()
        for part in (slice(0, 4), slice(4, 8), slice(8, 12)):  # 12 inputs on tiles of at most 5 rows: 3 of 4
            if not patch[part].any():
                continue
            scale_x = np.abs(patch[part]).max()
            scale_w = np.abs(W[:, part]).max(1)
            product = (W[:, part] / scale_w[:, None]) @ quantised(patch[part] / scale_x, 4, 1.0)
            y += quantised(product, 5, 0.7) * scale_x * scale_w
        np.testing.assert_allclose(found[s, :, row, column], y, atol=1e-12)


@pytest.mark.parametrize("scale", ["column", "tile", "layer"])
def test_converters_on_the_groups_of_a_convolution_equal_an_independent_computation(scale: str) -> None:
    """Every group is a product of its own, with input scales and partial sums of its own."""
    torch.manual_seed(0)
    layer, x = nn.Conv2d(4, 6, 2, groups=2).double(), torch.randn(3, 4, 3, 3).double()
    found = Chip(layer, circuit(specification=tile(5, 2) + dac(4) + adc(5, 0.7), scale=scale))(x).numpy()
    W, b, image = layer.weight.detach().flatten(1).numpy(), layer.bias.detach().numpy(), x.numpy()
    for s, row, column, i in np.ndindex(3, 2, 2, 6):
        group, y = i // 3, b[i]
        patch = image[s, 2 * group : 2 * group + 2, row : row + 2, column : column + 2].ravel()
        block = slice(3 * group, 3 * group + 2) if i % 3 < 2 else slice(3 * group + 2, 3 * group + 3)
        for part in (slice(0, 4), slice(4, 8)):  # 8 inputs on tiles of at most 5 rows: 2 of 4
            scale_x = np.abs(patch[part]).max()
            scale_w = np.abs({"column": W[i, part], "tile": W[block, part], "layer": W}[scale]).max()
            product = W[i, part] / scale_w @ quantised(patch[part] / scale_x, 4, 1.0)
            y += quantised(product, 5, 0.7) * scale_x * scale_w
        assert found[s, i, row, column] == pytest.approx(y, abs=1e-12)


def test_a_depthwise_separable_network_on_a_packaged_machine_equals_a_computation_by_hand() -> None:
    """On isaac-2016, with the weights as its devices hold them: within half a step of the converter.

    Noise of reads is off. The largest product of every tile, one of 144, is above the calibrated range and clipped.
    """
    torch.manual_seed(0)
    depthwise, pointwise = nn.Conv2d(8, 8, 3, groups=8, padding="same"), nn.Conv2d(8, 6, 1)
    x = torch.rand(4, 8, 6, 6)
    chip = Chip(
        nn.Sequential(depthwise, nn.ReLU(), pointwise), load_profile("isaac-2016").without("thermal-shot-noise"), seed=0
    )
    chip.calibrate(x)
    found = chip.passes(x, Plan(((True, True),))).layers
    for name, layer, groups in (("0", depthwise, 8), ("2", pointwise, 1)):
        entered, left = found[name].input[0], found[name].activity[0].detach().double()
        weight, ranges = chip.weights()[name].double(), chip.state()[f"layer/{name}"]["adc.range"].double()
        images, k, n_in = (
            nn.functional.pad(entered.double(), [weight.shape[-1] // 2] * 4),
            weight.shape[-1],
            8 // groups,
        )
        within = []
        for channel, row, column in np.ndindex(*left.shape[1:]):
            group = channel * groups // len(weight)
            patch = images[:, group * n_in : (group + 1) * n_in, row : row + k, column : column + k].flatten(1)
            by_hand = patch @ weight[channel].flatten() + layer.bias[channel].item()
            unit = patch.abs().amax(1) * layer.weight[channel].abs().max().item()  # of inputs and of weights
            step = 2 * ranges[group].squeeze() / (2**9 - 2)
            within.append((left[:, channel, row, column] - by_hand).abs() <= 0.51 * unit * step)
        assert torch.stack(within).double().mean() >= 1 - 1 / 144


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


@pytest.mark.parametrize("passes", [1, 4])
def test_read_out_noise_is_that_of_single_devices_tile_by_tile(passes: int) -> None:
    """Lumped, against one draw per device, sample and tile in numpy; through an ADC, which is not Gaussian.

    Several passes share the products of the first layer, and each draws its own noise.
    """
    layer = linear(6, 3, bias=False)
    torch.manual_seed(5)
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
    readings = chip.passes(sample.repeat(n // passes, 1), Plan(((True,),) * passes))
    by_pass = readings.layers[""].activity.numpy()
    lumped = by_pass.reshape(n, 3)
    for i in range(3):
        if passes > 1:
            off = np.corrcoef(by_pass[:, :, i])[~np.eye(passes, dtype=bool)]
            assert np.abs(np.arctanh(off)).max() < stats.norm.isf(ALARM / 2) / math.sqrt(n / passes - 3)
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
    images = torch.randn(3, 2, 6, 6, dtype=torch.float64)
    for groups in (1, 2):
        reads = []
        for text in (constant, general):
            torch.manual_seed(0)
            layer = nn.Conv2d(2, 4, 3, padding=1, groups=groups).double()
            reads.append(Chip(layer, machine(text, devices=True), seed=3)(images))
        torch.testing.assert_close(*reads)


def test_rows_to_spare_in_the_last_tile_are_not_driven() -> None:
    """10 inputs on tiles of 4: noise of the inputs must not reach the two devices that hold nothing."""
    constant = 'kind = "read-noise"\nreference_g_max_us = 25.0\nsigma_us = { polynomial = [2.0] }'
    drivers = 'kind = "input-noise"\nsigma = 0.9'
    x = torch.randn(50, 10, dtype=torch.float64)
    a, b = (
        Chip(linear(10, 5), circuit(drivers, text, specification=tile(4)), seed=3)(x)
        for text in (constant, constant.replace("[2.0]", "[2.0, 0.0]"))
    )
    torch.testing.assert_close(a, b)


def test_gain_amplifies_the_noise_before_it_and_not_what_follows() -> None:
    """var = (gain^2 2 sigma_w^2 sum_j x_j^2 + sigma_y^2) per column, in units of full scale."""
    effects = (
        'kind = "read-noise"\nreference_g_max_us = 25.0\nsigma_us = { polynomial = [1.0] }',
        'kind = "gain-spread"\nsigma = 0.5',
        'kind = "output-noise"\nsigma = 0.05',
    )
    layer = linear(6, 4, bias=False)
    chip = Chip(layer, circuit(*effects), seed=2)
    x = torch.tensor([[1.0, 0.5, -0.2, 0.1, 0.9, -1.0]], dtype=torch.float64)
    y = chip(x.repeat(20_000, 1)).numpy()
    gain = chip.state()["layer/"]["gain-spread.gain"].numpy()[0, 0]
    assert np.ptp(gain) > 0.5
    W = layer.weight.detach().numpy()
    for i in range(4):
        variance = gain[i] ** 2 * 2 * (1 / 25) ** 2 * (x.numpy() ** 2).sum() + 0.05**2
        scale = np.abs(W[i]).max()
        assert moments_agree(y[:, i] / scale, gain[i] * (x.numpy()[0] @ W[i]) / scale, variance, ALARM)


def test_later_layers_see_the_inputs_of_each_pass() -> None:
    """Inputs that differ from pass to pass: products, their scale, and noise that scales with it."""
    layer = linear(4, 2, bias=False)
    n = 5000
    chip = Chip(layer, circuit('kind = "output-noise"\nsigma = 0.1', specification=tile(2)), seed=1)
    one = torch.tensor([1.0, 0.3, -0.5, 0.2], dtype=torch.float64)
    x = torch.stack([one.repeat(n, 1), 3 * one.flip(0).repeat(n, 1)])
    y = chip._placed[""].read(x, 2, "pass").numpy()
    W = layer.weight.detach().numpy()
    for p in range(2):
        for i in range(2):
            u = x[p, 0].numpy()
            scales = [np.abs(u[j : j + 2]).max() * np.abs(W[i, j : j + 2]).max() for j in (0, 2)]
            assert moments_agree(y[p, :, i], u @ W[i], 0.01 * (scales[0] ** 2 + scales[1] ** 2), ALARM)


def test_output_noise_is_independent_between_tiles_outputs_samples_passes_and_layers() -> None:
    """Correlations of 4000 draws; variance: tiles add, scaled by input and weight."""
    model = nn.Sequential(linear(4, 3, bias=False), nn.Tanh(), linear(3, 3, bias=False))
    chip = Chip(model, circuit('kind = "output-noise"\nsigma = 0.1', specification=tile(2)), seed=0)
    x = torch.tensor([[1.0, 0.5, -2.0, 0.1]], dtype=torch.float64).repeat(4000, 1)
    readings = chip.passes(x, Plan(((True, True),) * 2)).layers
    first = (readings["0"].activity - model[0](x)).detach().numpy()
    W = model[0].weight.detach().numpy()
    for i in range(3):
        sigma2 = 0.01 * ((1.0 * np.abs(W[i, :2]).max()) ** 2 + (2.0 * np.abs(W[i, 2:]).max()) ** 2)
        assert moments_agree(first[0, :, i], 0.0, sigma2, ALARM)
    later = readings["2"]
    second = (later.activity - model[2](later.input)).detach().numpy()
    drawn = [*first[0].T, *first[1].T, *second[0].T, *second[1].T, first[0, ::-1, 0]]
    assert uncorrelated(drawn)


def uncorrelated(drawn: list[Array]) -> bool:
    """Whether all pairs of equally long samples are, Bonferroni over the pairs; the middle of an odd sample is left."""
    correlation = np.corrcoef(drawn)[np.triu_indices(len(drawn), 1)]
    limit = stats.norm.isf(ALARM / 2 / len(correlation)) / math.sqrt(len(drawn[0]) - 3)
    return bool(np.abs(np.arctanh(correlation)).max() < limit)


def test_noise_and_gains_of_different_tiles_are_independent() -> None:
    """Weights of the first tile alone show in column 0, of the second in column 1; the other tile is at scale 1e-9."""
    layer = linear(4, 2, bias=False)
    with torch.no_grad():
        layer.weight.fill_(1e-9)
        layer.weight[0, :2], layer.weight[1, 2:] = 1.0, 1.0
    chip = Chip(layer, circuit('kind = "output-noise"\nsigma = 0.1', specification=tile(2)), seed=0)
    x = torch.ones(4000, 4, dtype=torch.float64)
    noise = (chip(x) - layer(x)).detach().numpy()
    assert uncorrelated([*noise.T])
    assert moments_agree(noise[:, 0], 0.0, 0.01, ALARM)
    layer = linear(200, 50)
    effects = ('kind = "gain-spread"\nsigma = 0.1', 'kind = "offset-spread"\nsigma = 0.1')
    chip = Chip(layer, circuit(*effects, specification=tile(1)), seed=0)
    chip(torch.ones(1, 200, dtype=torch.float64))
    held = chip.state()["layer/"]
    gain, offset = held["gain-spread.gain"].numpy(), held["offset-spread.offset"].numpy()
    assert gain.shape == offset.shape == (200, 1, 50)
    assert uncorrelated([v.ravel() for v in (gain[0::2], gain[1::2], offset[0::2], offset[1::2])])
    assert moments_agree(gain.ravel(), 1.0, 0.01, ALARM)


def test_layers_of_one_shape_have_gains_and_offsets_of_their_own() -> None:
    model = nn.Sequential(linear(60, 60), nn.Tanh(), linear(60, 60))
    effects = ('kind = "gain-spread"\nsigma = 0.1', 'kind = "offset-spread"\nsigma = 0.1')
    chip = Chip(model, circuit(*effects, specification=tile(1)), seed=0)
    chip(torch.ones(1, 60, dtype=torch.float64))
    held = [chip.state()[f"layer/{name}"] for name in ("0", "2")]
    assert uncorrelated([h[key].numpy().ravel() for h in held for key in ("gain-spread.gain", "offset-spread.offset")])


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


@pytest.mark.parametrize("max_halvings", [1, 2, 5])
def test_halved_reads_equal_an_independent_computation(max_halvings: int) -> None:
    """Two tiles, a DAC, an ADC that saturates often; a vector is read again as long as any of its outputs saturates."""
    layer = linear(6, 3, bias=False)
    more = f'saturation = "halve-inputs"\nmax_halvings = {max_halvings}\n'
    chip = Chip(layer, circuit(specification=tile(3) + dac(7) + adc(6, 1.0, more)))
    x = torch.rand(40, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = chip.passes(x, Plan(((True,),) * 2)).layers[""].activity.numpy()
    W, used = layer.weight.detach().numpy(), []
    for s, row in enumerate(x.numpy()):
        for halvings in range(max_halvings + 1):
            products, scales = [], []
            for part in (slice(0, 3), slice(3, 6)):
                scale_x, scale_w = np.abs(row[part]).max() * 2**halvings, np.abs(W[:, part]).max(1)
                products.append((W[:, part] / scale_w[:, None]) @ quantised(row[part] / scale_x, 7, 1.0))
                scales.append(scale_x * scale_w)
            if np.abs(products).max() < 1.0:
                break
        used.append(halvings)
        expected = (quantised(np.array(products), 6, 1.0) * scales).sum(0)
        np.testing.assert_allclose(found[:, s], [expected] * 2, atol=1e-12)
    assert min(used) < max(used), "the case is made so that vectors differ"


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


def test_calibration_sets_every_tile_to_its_own_quantile() -> None:
    layer = linear(6, 4, bias=False)
    chip = Chip(layer, circuit(specification=tile(2) + FIXED + adc(8, 3.0, "calibration_quantile = 0.9\n")))
    x = torch.randn(500, 6, dtype=torch.float64) * torch.tensor([1.0, 1.0, 0.2, 0.2, 0.0, 0.0])
    chip.calibrate(x)
    W = layer.weight.detach().numpy()
    limits = []
    for part in (slice(0, 2), slice(2, 4)):
        w = W[:, part] / np.abs(W[:, part]).max(1, keepdims=True)
        limits.append(np.quantile(np.abs(x.numpy()[:, part] / 2.0 @ w.T), 0.9))
    found = chip.state()["layer/"]["adc.range"]
    assert found.shape == (3, 1, 1)
    np.testing.assert_allclose(
        found.flatten(), [*limits, 3.0], rtol=1e-9, err_msg="without signal a tile keeps its own"
    )


def test_calibration_sees_what_the_converter_will_see() -> None:
    """Gains and offsets of the columns lie before the converter: the range is the largest value with them."""
    layer, x = linear(6, 4, bias=False), torch.randn(300, 6, dtype=torch.float64)
    effects = ('kind = "gain-spread"\nsigma = 0.5', 'kind = "offset-spread"\nsigma = 1.0')
    specification = FIXED + adc(24, 1e-3, "calibration_quantile = 1.0\n")
    chip = Chip(layer, circuit(*effects, specification=specification, scale="layer"))
    chip.calibrate(x)
    found = chip.state()["layer/"]["adc.range"]
    assert float((chip(x).abs() / (2.0 * layer.weight.detach().abs().max())).max()) == pytest.approx(float(found))
    assert float(found) > 1.5 * float((layer(x).detach().abs() / (2.0 * layer.weight.abs().max())).max())


def test_calibration_takes_more_products_than_a_torch_quantile() -> None:
    layer = nn.Linear(1, 170, bias=False)
    nn.init.constant_(layer.weight, 1.0)
    chip = Chip(layer, circuit(specification=FIXED + adc(8, 3.0, "calibration_quantile = 0.5\n")))
    chip.calibrate(torch.linspace(-1, 1, 100_001).unsqueeze(1))
    assert float(chip.state()["layer/"]["adc.range"]) == pytest.approx(0.25, rel=1e-4)


def test_a_dac_cuts_inputs_beyond_a_fixed_range_to_it() -> None:
    layer = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(layer.weight, 1.0)
    x = torch.linspace(-5, 5, 10_001, dtype=torch.float64).unsqueeze(1)
    y = Chip(layer, circuit(specification=FIXED + dac(3)))(x)
    torch.testing.assert_close(y.unique(), torch.arange(-3, 4).double() * 2 / 3)
    assert (y - x.clamp(-2, 2)).abs().max() <= 1 / 3 + 1e-12
    torch.testing.assert_close(Chip(layer, circuit(specification=FIXED))(x), x, msg="without one nothing is cut")


def test_conductances_above_a_minimum_hold_the_same_weights() -> None:
    """G+ - G- = w (g_max - g_min) / max|w|, both at least g_min; the minimum has noise of its own."""
    noise = 'kind = "read-noise"\nreference_g_max_us = 25.0\nsigma_us = { polynomial = [0.0, 1.0] }'
    layer = linear(10, 5)
    for profile in (circuit(specification=tile(4)), circuit(noise, specification=tile(4))):
        mapping = profile.specification.mapping.model_copy(update={"g_min_us": 5.0})
        profile = profile.model_copy(
            update={"specification": profile.specification.model_copy(update={"mapping": mapping})}
        )
        chip = Chip(layer, profile, seed=0)
        torch.testing.assert_close(chip.weights()[""], layer.weight.detach())
        written = chip.state()["layer/"]["written"]
        assert float(written.min()) == 5.0
        assert float(written.max()) == pytest.approx(25.0)
        y = chip(torch.eye(10, dtype=torch.float64).repeat(2000, 1)).reshape(2000, 10, 5).numpy()
        W = layer.weight.detach().numpy()
        if profile.calibration.effects:
            for part in (slice(0, 4), slice(4, 8), slice(8, 10)):
                scale = np.abs(W[:, part]).max(1, keepdims=True) / 20.0
                g = np.abs(W[:, part]) / scale + 5.0
                deviation = np.sqrt((g / 25) ** 2 + (5 / 25) ** 2) * scale
                z = (y[:, part] - W.T[part] - layer.bias.detach().numpy()) / deviation.T
                assert moments_agree(z.ravel(), 0.0, 1.0, ALARM)
        else:
            np.testing.assert_allclose(y[0] - layer.bias.detach().numpy(), W.T, atol=1e-12)


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
    noisy = circuit('kind = "output-noise"\nsigma = 0.1', specification=tile(4))
    assert not Chip(layer, noisy)(torch.zeros(2, 6, dtype=torch.float64)).any(), "a tile that is not driven is not read"
    y = Chip(layer, circuit(PROGRAMMING, specification=tile(4)))(torch.randn(2, 6, dtype=torch.float64))
    assert torch.isfinite(y).all()
    assert (y[:, 1] == 0).all()


def test_convolutions_in_three_dimensions_are_refused() -> None:
    with pytest.raises(UserError, match=r"layer '0' \(Conv3d\).*take Linear, Conv1d and Conv2d"):
        Chip(nn.Sequential(nn.Conv3d(1, 1, 2)), circuit())


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
    pcm = load_profile("pcm-nandakumar-2019")
    for isolate in (pcm.only, pcm.without):
        with pytest.raises(UserError, match=r"effect of profile pcm-nandakumar-2019 'drift'") as caught:
            isolate("drift")
        assert "\n" not in str(caught.value)


def test_deep_layers_are_calibrated_on_what_calibrated_layers_give() -> None:
    """A second calibration on the same samples changes nothing."""
    model = nn.Sequential(linear(64, 32, bias=False), nn.Tanh(), linear(32, 32, bias=False))
    chip = Chip(model, circuit(specification=adc(4, 128.0, "calibration_quantile = 0.999\n")))
    x = torch.randn(500, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    chip.calibrate(x)
    limits = [chip.state()[f"layer/{name}"]["adc.range"].clone() for name in ("0", "2")]
    assert max(float(limit) for limit in limits) < 20
    chip.calibrate(x)
    for name, limit in zip(("0", "2"), limits, strict=True):
        torch.testing.assert_close(chip.state()[f"layer/{name}"]["adc.range"], limit)
