"""Named random streams whose numbers are made by counter, the same in plain torch and in kernels."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor

from noisylearn.ground.draws import Draws, Name
from noisylearn.ground.philox import normals, uniforms

KEY_BYTES = 8
Make = Callable[[Tensor, int, int, torch.dtype], Tensor]


class Made(NamedTuple):
    """Functions of keys, rows, columns and dtype that make the numbers, as those of `noisylearn.ground.philox` do."""

    normals: Make = normals
    uniforms: Make = uniforms


class CounterDraws(Draws):
    """Draws by counter: a call of a stream has a key of 64 bits, under which every number has a counter of its own.

    The last axis of a shape is that of the columns, all before it (after the passes) are rows; see
    `noisylearn.ground.philox`. CPU and CUDA give the same numbers, to the rounding of logarithm, sine and cosine; in
    float32 and float64 alike. They are other numbers than those of `Draws`, and take longer on a CPU.

    Args:
        seed: of the run.
        device: where the numbers are made.
        dtype: of the numbers.
        made: what makes them; the same numbers to rounding, in less time.
    """

    seed_name = "counter-seed"

    def __init__(
        self,
        seed: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        made: Made = Made(),  # noqa: B008
    ) -> None:
        super().__init__(seed, device, dtype)
        self.made = made

    def normal(self, name: Name, shape: tuple[int, ...], passes: Sequence[int] | None = None) -> Tensor:
        """Independent numbers ~ N(0, 1), see `Draws.normal`."""
        return self._made(self.made.normals, name, shape, passes)

    def uniform(self, name: Name, shape: tuple[int, ...], passes: Sequence[int] | None = None) -> Tensor:
        """Independent numbers ~ U[0, 1), see `Draws.uniform`."""
        return self._made(self.made.uniforms, name, shape, passes)

    def keys(self, name: Name, passes: Sequence[int] | None = None) -> Int64[Tensor, " keys"]:
        """Keys of the next draw of a stream, in place of its numbers; it counts as a draw.

        Args:
            name: of the stream.
            passes: indices in the plan of the passes that are drawn for; None for one key.

        Returns:
            One key for every pass, or one.
        """
        keys = [calls.next_seed(KEY_BYTES) for calls in self._streams_of(name, passes)]
        signed = [key - 2**64 if key >= 2**63 else key for key in keys]
        return torch.tensor(signed).to(self.device, non_blocking=True)

    def _made(self, make: Make, name: Name, shape: tuple[int, ...], passes: Sequence[int] | None) -> Tensor:
        of_draw = self._shape_of_draw(name, shape, passes)
        n_columns = of_draw[-1] if of_draw else 1
        n_rows = torch.Size(of_draw[:-1]).numel()
        return make(self.keys(name, passes), n_rows, n_columns, self.dtype).reshape(shape)
