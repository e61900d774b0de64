"""The product with lumped noise, in Triton's interpreter or on a GPU, against float64 and the same normal numbers."""

import pytest
import torch
from torch import Tensor

from noisylearn.ground.counter_draws import CounterDraws
from noisylearn.kernels.noisy_product import BLOCKS, noisy_product

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
STREAM = ("layer", "read", "pass")
ROUNDING = 3e-6  # of float32, in sums of up to 70 products of order one


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(DEVICE)


def expected(x: Tensor, weight: Tensor, bias: Tensor | None, variance: Tensor, n_passes: int) -> Tensor:
    """By definition, in float64; the normal numbers are those of the stream."""
    draws = CounterDraws(4, DEVICE, torch.float64)
    z = draws.normal(STREAM, (n_passes, x.shape[1], len(weight)), range(n_passes))
    x, weight, variance = x.double(), weight.double(), variance.double()
    mean = x @ weight.T + (0.0 if bias is None else bias.double())
    return mean + (x**2 @ variance.T).sqrt() * z


def keys(n_passes: int) -> Tensor:
    return CounterDraws(4, DEVICE).keys(STREAM, range(n_passes))


@pytest.mark.parametrize("blocks", [BLOCKS, (16, 16, 16), (64, 32, 64)])
@pytest.mark.parametrize(("seen", "n_passes"), [(1, 3), (3, 3)])
def test_it_is_the_product_with_the_noise_of_the_stream_in_any_tiling(
    seen: int, n_passes: int, blocks: tuple[int, int, int]
) -> None:
    x, weight, bias, variance = numbers(seen, 21, 70), numbers(35, 70) / 8, numbers(35), numbers(35, 70).abs() / 8
    found = noisy_product(x, weight, bias, variance, keys(n_passes), blocks)
    torch.testing.assert_close(found.double(), expected(x, weight, bias, variance, n_passes), rtol=1e-5, atol=ROUNDING)


def test_inputs_of_any_layout_one_variance_for_a_row_and_no_bias() -> None:
    x, weight = numbers(21, 2, 70).transpose(0, 1), numbers(70, 35).T
    variance = numbers(35, 1).abs().expand(35, 70)
    found = noisy_product(x, weight, None, variance, keys(2))
    torch.testing.assert_close(found.double(), expected(x, weight, None, variance, 2), rtol=1e-5, atol=3 * ROUNDING)
    assert found.transpose(0, 1).is_contiguous()


def test_a_negative_variance_counts_as_zero_and_empty_batches_give_nothing() -> None:
    x, weight = numbers(1, 3, 5), numbers(4, 5)
    found = noisy_product(x, weight, None, -torch.ones(4, 5, device=DEVICE), keys(2))
    torch.testing.assert_close(found, (x @ weight.T).expand(2, 3, 4))
    assert noisy_product(x[:, :0], weight, None, weight, keys(2)).shape == (2, 0, 4)
