"""The product with lumped noise, in Numba and in Triton, against float64 and the same normal numbers."""

import pytest
import torch
from support.kits import Kit
from torch import Tensor

from noisylearn.ground.counter_draws import CounterDraws
from noisylearn.kernels.on_gpu.noisy_product import BLOCKS

STREAM = ("layer", "read", "pass")
ROUNDING = 3e-6  # of float32, in sums of up to 70 products of order one


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def expected(x: Tensor, weight: Tensor, bias: Tensor | None, variance: Tensor, n_passes: int) -> Tensor:
    """By definition, in float64; the normal numbers are those of the stream."""
    draws = CounterDraws(4, dtype=torch.float64)
    z = draws.normal(STREAM, (n_passes, x.shape[1], len(weight)), range(n_passes))
    x, weight, variance = x.double(), weight.double(), variance.double()
    mean = x @ weight.T + (0.0 if bias is None else bias.double())
    return mean + (x**2 @ variance.T).clamp(min=0).sqrt() * z


def found(
    kit: Kit, x: Tensor, weight: Tensor, bias: Tensor | None, variance: Tensor, n_passes: int, *blocks: object
) -> Tensor:
    keys = CounterDraws(4, kit.device).keys(STREAM, range(n_passes))
    given = (None if one is None else one.to(kit.device) for one in (x, weight, bias, variance))
    return kit.module("noisy_product").noisy_product(*given, keys, *blocks).double().cpu()


@pytest.mark.parametrize(("seen", "n_passes"), [(1, 3), (3, 3)])
def test_it_is_the_product_with_the_noise_of_the_stream_in_any_tiling(kit: Kit, seen: int, n_passes: int) -> None:
    x, weight, bias, variance = numbers(seen, 21, 70), numbers(35, 70) / 8, numbers(35), numbers(35, 70).abs() / 8
    tilings = ((BLOCKS,), ((16, 16, 16),), ((64, 32, 64),)) if kit.name == "triton" else ((),)
    for tiling in tilings:
        y = found(kit, x, weight, bias, variance, n_passes, *tiling)
        torch.testing.assert_close(y, expected(x, weight, bias, variance, n_passes), rtol=1e-5, atol=ROUNDING)


def test_inputs_of_any_layout_one_variance_for_a_row_and_no_bias(kit: Kit) -> None:
    x, weight = numbers(21, 2, 70).transpose(0, 1), numbers(70, 35).T
    variance = numbers(35, 1).abs().expand(35, 70)
    y = found(kit, x, weight, None, variance, 2)
    torch.testing.assert_close(y, expected(x, weight, None, variance, 2), rtol=1e-5, atol=3 * ROUNDING)
    assert y.transpose(0, 1).is_contiguous()


def test_a_negative_variance_counts_as_zero_and_empty_batches_give_nothing(kit: Kit) -> None:
    x, weight = numbers(1, 3, 5), numbers(4, 5)
    y = found(kit, x, weight, None, -torch.ones(4, 5), 2)
    torch.testing.assert_close(y, (x @ weight.T).expand(2, 3, 4).double(), rtol=1e-5, atol=ROUNDING)
    assert found(kit, x[:, :0], weight, None, weight, 2).shape == (2, 0, 4)
