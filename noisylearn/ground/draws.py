"""Named random streams: every random number of a run comes from (seed, name of the stream, position in it).

A stream is named by what draws from it, for example ("hidden", "programming-noise", "write"). Streams are
independent of one another, so a new effect never shifts the numbers of another one, and a look at the chip
never shifts the numbers of training. What a seed promises: the same numbers for the same stream on the same
kind of device (CPU or CUDA) and the same torch version.
"""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

Name = tuple[str, ...]


def stream_seed(seed: int, name: Name) -> int:
    """Seed of one stream, 32 bits (all that torch's CPU generator uses), from a hash of (seed, name)."""
    text = "|".join((str(seed), *name)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "little")


class Draws:
    """Random numbers from named streams of one seed.

    normal(name, shape) ~ N(0, 1) and uniform(name, shape) ~ U[0, 1), of `dtype` on `device`.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.seed = seed
        self.device = torch.device(device)
        self.dtype = dtype
        self._streams: dict[Name, torch.Generator] = {}

    def stream(self, *name: str) -> torch.Generator:
        """The generator behind one stream, for library functions that take a generator."""
        if name not in self._streams:
            self._streams[name] = torch.Generator(self.device).manual_seed(stream_seed(self.seed, name))
        return self._streams[name]

    def normal(self, name: Name, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=self.stream(*name), device=self.device, dtype=self.dtype)

    def uniform(self, name: Name, shape: tuple[int, ...]) -> Tensor:
        return torch.rand(shape, generator=self.stream(*name), device=self.device, dtype=self.dtype)

    def state(self) -> dict[str, Tensor]:
        """Position of every stream that was used, for a checkpoint."""
        return {"|".join(name): generator.get_state() for name, generator in self._streams.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Put every stream back to a saved position; streams not named start anew."""
        self._streams.clear()
        for name, position in state.items():
            self.stream(*name.split("|")).set_state(position.cpu().to(torch.uint8))


class RecordedDraws(Draws):
    """Draws that also keep every number they gave, in order, for a replay elsewhere."""

    def __init__(self, seed: int, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        super().__init__(seed, device, dtype)
        self.record: dict[Name, list[Tensor]] = {}

    def normal(self, name: Name, shape: tuple[int, ...]) -> Tensor:
        return self._kept(name, super().normal(name, shape))

    def uniform(self, name: Name, shape: tuple[int, ...]) -> Tensor:
        return self._kept(name, super().uniform(name, shape))

    def _kept(self, name: Name, drawn: Tensor) -> Tensor:
        self.record.setdefault(name, []).append(drawn.clone())
        return drawn


class ReplayedDraws(Draws):
    """Draws that give back recorded numbers, stream by stream, in the dtype they were recorded in.

    Raises IndexError when a stream is asked for more than was recorded, ValueError for another shape.
    """

    def __init__(self, record: Mapping[Name, list[Tensor]], device: torch.device | str = "cpu") -> None:
        super().__init__(seed=0, device=device)
        self._left = {name: list(tensors) for name, tensors in record.items()}

    def normal(self, name: Name, shape: tuple[int, ...]) -> Tensor:
        if not self._left.get(name):
            raise IndexError(f"replayed stream {name} is exhausted")
        drawn = self._left[name].pop(0)
        if tuple(drawn.shape) != tuple(shape):
            raise ValueError(f"replayed stream {name}: recorded shape {tuple(drawn.shape)}, asked {tuple(shape)}")
        return drawn.to(self.device, copy=True)

    uniform = normal


class StreamOf:
    """Draws bound to the name of one place (layer, effect): what an effect is handed."""

    def __init__(self, draws: Draws, *place: str) -> None:
        self._draws = draws
        self._place = place

    def normal(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        return self._draws.normal((*self._place, purpose), shape)

    def uniform(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        return self._draws.uniform((*self._place, purpose), shape)
