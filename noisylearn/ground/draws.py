"""Named random streams: every random number of a run is determined by seed, name of the stream and number of the call.

A stream is named by what draws from it, for example ("hidden", "programming-noise", "write"). Its k-th call gives the
same numbers whatever was drawn before, from it or from others, so a new effect never shifts the numbers of another one,
and a look at the chip never shifts those of training. Noise of passes has one stream per pass: pass p of a plan sees
the same numbers in a plan of 2 passes and of 20, in one call and in several.

A seed gives the same numbers for the same stream, call and shape on the same kind of device (CPU or CUDA) with the
same torch version. Seeds of calls have 32 bits, all that torch's CPU generator uses: of n calls about n^2 / 2^33
pairs give the same numbers, by chance.
"""

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from noisylearn.ground.errors import UserError

Name = tuple[str, ...]
SEED, CALLS = "seed", "calls"  # keys of a state


def stream_seed(seed: int, name: Name) -> int:
    """Seed of the first call of one stream, 32 bits, from a hash of (seed, name).

    Args:
        seed: of the run.
        name: of the stream.
    """
    return _hashed(_text(seed, name))


def _text(seed: int, name: Name) -> bytes:
    return "|".join((str(seed), *name)).encode()


def _hashed(text: bytes, n_bytes: int = 4) -> int:
    return int.from_bytes(hashlib.blake2b(text, digest_size=n_bytes).digest(), "little")


def _is_whole_number(value: Tensor) -> bool:
    return value.numel() == 1 and not value.is_floating_point() and not value.is_complex()


class _Calls:
    """The calls of one stream: how many it has answered, and the seed of the next."""

    def __init__(self, seed: int, name: Name, answered: int = 0) -> None:
        self._stream = _text(seed, name)
        self.answered = answered

    def next_seed(self, n_bytes: int = 4) -> int:
        """Seed of the next call, of so many bytes."""
        call, self.answered = self.answered, self.answered + 1
        return _hashed(self._stream + b"\0%d" % call if call else self._stream, n_bytes)


class Draws:
    """Random numbers from named streams of one seed.

    Args:
        seed: of the run, a whole number of at most 63 bits.
        device: where the numbers are made.
        dtype: of the numbers.

    Raises:
        UserError: the seed has more bits.
    """

    seed_name = SEED  # key of a state that no other kind of draws takes

    def __init__(self, seed: int, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        if not hasattr(seed, "__index__") or not -(2**63) <= seed < 2**63:
            raise UserError(f"seed {seed}: give a whole number of at most 63 bits")
        self._seed = seed
        self.device = torch.device(device)
        self.dtype = dtype
        self._streams: dict[Name, _Calls] = {}
        self._of_passes: dict[tuple[Name, tuple[int, ...]], list[_Calls]] = {}
        self._generator = torch.Generator(self.device)
        self._numbers: Sequence[int] | None = None

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self._seed

    def stream(self, *name: str) -> torch.Generator:
        """A new generator for one call of a stream, for library functions that take a generator.

        Args:
            name: of the stream.
        """
        return torch.Generator(self.device).manual_seed(self._next_seed(name))

    def normal(self, name: Name, shape: tuple[int, ...], passes: Sequence[int] | None = None) -> Tensor:
        """Independent numbers ~ N(0, 1).

        Args:
            name: of the stream.
            shape: of the result.
            passes: indices in the plan of the passes along the first axis, each of which has a stream of its own; None
                to take all numbers from one stream.

        Returns:
            Numbers of the given shape.

        Raises:
            ValueError: the first axis has not one entry per pass.
        """
        return self._filled(Tensor.normal_, name, shape, passes)

    def uniform(self, name: Name, shape: tuple[int, ...], passes: Sequence[int] | None = None) -> Tensor:
        """Independent numbers ~ U[0, 1).

        Args:
            name: of the stream.
            shape: of the result.
            passes: indices in the plan of the passes along the first axis, each of which has a stream of its own; None
                to take all numbers from one stream.

        Returns:
            Numbers of the given shape.

        Raises:
            ValueError: the first axis has not one entry per pass.
        """
        return self._filled(Tensor.uniform_, name, shape, passes)

    @contextmanager
    def numbered(self, numbers: Sequence[int] | None) -> Iterator[None]:
        """In this block, the passes of a draw are passes of a larger plan, and have the streams that they have there.

        Args:
            numbers: of every pass, its index in the larger plan; None where the plan is the whole one.
        """
        before, self._numbers = self._numbers, numbers
        try:
            yield
        finally:
            self._numbers = before

    def anew(self) -> "Draws":
        """The same streams from their first call on, for numbers that are made again rather than kept."""
        other = copy.copy(self)
        other._streams, other._of_passes = {}, {}
        return other

    def state(self) -> dict[str, Tensor]:
        """The seed, and how many calls every stream that was used has answered, for a checkpoint."""
        calls = {"|".join((CALLS, *name)): torch.tensor(calls.answered) for name, calls in self._streams.items()}
        return {self.seed_name: torch.tensor(self.seed), **calls}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over a saved seed, and let every stream continue after the calls it had answered.

        Args:
            state: as `state` gave it.

        Raises:
            UserError: the state has another form; nothing has changed then.
        """
        calls = {key: value for key, value in state.items() if key != self.seed_name}
        is_known = all(key.startswith(f"{CALLS}|") for key in calls) and all(map(_is_whole_number, state.values()))
        if self.seed_name not in state or not is_known:
            raise UserError(
                "random streams in another form than this version's (0.1.0 kept positions of generators), or of "
                "another kind, by counter or not: continue with the version and kind that wrote them, or start anew"
            )
        self._seed = int(state[self.seed_name])
        names = {key: tuple(key.split("|")[1:]) for key in calls}
        self._streams = {name: _Calls(self.seed, name, int(calls[key])) for key, name in names.items()}
        self._of_passes = {}

    def _filled(
        self, fill: Callable[..., Tensor], name: Name, shape: tuple[int, ...], passes: Sequence[int] | None
    ) -> Tensor:
        self._shape_of_draw(name, shape, passes)
        drawn = torch.empty(shape, device=self.device, dtype=self.dtype)
        parts = (drawn,) if passes is None else drawn.unbind()
        for part, calls in zip(parts, self._streams_of(name, passes), strict=True):
            fill(part, generator=self._generator.manual_seed(calls.next_seed()))
        return drawn

    def _shape_of_draw(self, name: Name, shape: tuple[int, ...], passes: Sequence[int] | None) -> tuple[int, ...]:
        """Shape of what is drawn from one stream."""
        if passes is None:
            return shape
        if len(passes) != shape[0]:
            raise ValueError(
                f"stream {name}: {len(passes)} passes, but numbers of shape {shape}; the first axis is theirs"
            )
        return shape[1:]

    def _streams_of(self, name: Name, passes: Sequence[int] | None) -> list[_Calls]:
        """The stream of a draw, or those of its passes."""
        if passes is None:
            return [self._calls(name)]
        numbers = passes if self._numbers is None else [self._numbers[p] for p in passes]
        return self._calls_of(name, tuple(numbers))

    def _next_seed(self, name: Name) -> int:
        return self._calls(name).next_seed()

    def _calls(self, name: Name) -> _Calls:
        calls = self._streams.get(name)
        if calls is None:
            calls = self._streams[name] = _Calls(self.seed, name)
        return calls

    def _calls_of(self, name: Name, passes: tuple[int, ...]) -> list[_Calls]:
        """Streams of the passes of a draw, found once: reads along a sequence ask for the same ones at every step."""
        found = self._of_passes.get((name, passes))
        if found is None:
            found = self._of_passes[name, passes] = [self._calls((*name, f"pass {p}")) for p in passes]
        return found


class RecordedDraws(Draws):
    """Draws that also record every number they gave, in order, all passes of a draw together, for a replay elsewhere.

    Args:
        seed: of the run.
        device: where the numbers are made.
        dtype: of the numbers.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        super().__init__(seed, device, dtype)
        self.record: dict[Name, list[Tensor]] = {}

    def normal(self, name: Name, shape: tuple[int, ...], passes: Sequence[int] | None = None) -> Tensor:
        """Numbers as `Draws.normal` gives them, recorded."""
        return self._kept(name, super().normal(name, shape, passes))

    def uniform(self, name: Name, shape: tuple[int, ...], passes: Sequence[int] | None = None) -> Tensor:
        """Numbers as `Draws.uniform` gives them, recorded."""
        return self._kept(name, super().uniform(name, shape, passes))

    def _kept(self, name: Name, drawn: Tensor) -> Tensor:
        self.record.setdefault(name, []).append(drawn.clone())
        return drawn


class ReplayedDraws(Draws):
    """Draws that give back recorded numbers, stream by stream, in the dtype they were recorded in.

    Args:
        record: name of a stream -> its numbers, draw by draw.
        device: where the numbers are needed.
    """

    def __init__(self, record: Mapping[Name, list[Tensor]], device: torch.device | str = "cpu") -> None:
        super().__init__(seed=0, device=device)
        self._left = {name: list(tensors) for name, tensors in record.items()}

    def normal(self, name: Name, shape: tuple[int, ...], passes: Sequence[int] | None = None) -> Tensor:
        """The next recorded numbers of a stream, whatever their distribution.

        Args:
            name: of the stream.
            shape: of the result.
            passes: unused; a record has all passes of a draw together.

        Returns:
            Numbers of the given shape.

        Raises:
            IndexError: a stream is asked for more than was recorded.
            ValueError: the recorded numbers have another shape.
        """
        if not self._left.get(name):
            raise IndexError(f"replayed stream {name} is exhausted")
        drawn = self._left[name].pop(0)
        if tuple(drawn.shape) != tuple(shape):
            raise ValueError(f"replayed stream {name}: recorded shape {tuple(drawn.shape)}, asked {tuple(shape)}")
        return drawn.to(self.device, copy=True)

    uniform = normal


class StreamOf:
    """Draws bound to the name of one place (layer, effect), and to passes where the noise is theirs.

    Args:
        draws: random streams.
        place: first parts of the stream's name.
        passes: indices in the plan of the passes along the first axis of whatever is drawn; None without passes.
    """

    def __init__(self, draws: Draws, *place: str, passes: Sequence[int] | None = None) -> None:
        self._draws = draws
        self._place = place
        self._passes = passes

    def normal(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """Independent numbers ~ N(0, 1).

        Args:
            purpose: last part of the stream's name.
            shape: of the result; with passes, they are along the first axis.

        Returns:
            Numbers of the given shape.
        """
        return self._draws.normal((*self._place, purpose), shape, self._passes)

    def uniform(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """Independent numbers ~ U[0, 1).

        Args:
            purpose: last part of the stream's name.
            shape: of the result; with passes, they are along the first axis.

        Returns:
            Numbers of the given shape.
        """
        return self._draws.uniform((*self._place, purpose), shape, self._passes)
