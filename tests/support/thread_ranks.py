"""Ranks that are threads of this process, for tests of how work is shared; processes are in tests/distributed."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor

from noisylearn.distributed import LostRankError, Ranks

Found = TypeVar("Found")


class ThreadRanks(Ranks):
    """One of several threads; sums are in the order of the numbers, so that all get the same."""

    def __init__(self, number: int, count: int, barrier: threading.Barrier, place: list[Any]) -> None:
        super().__init__(number, count)
        self._barrier, self._place = barrier, place
        self.sent: list[int] = []  # bytes of every sum

    def gathered(self, value: Any) -> list[Any]:
        self._place[self.number] = value
        self._wait()
        found = list(self._place)
        self._wait()
        return found

    def from_first(self, make: Callable[[], Any]) -> Any:
        return self.gathered(make() if self.is_first else None)[0]

    def _reduce(self, flat: Tensor) -> None:
        self.sent.append(flat.nbytes)
        parts = self.gathered(flat.clone())
        flat.copy_(sum(parts[1:], parts[0]))

    def _wait(self) -> None:
        try:
            self._barrier.wait(30)
        except threading.BrokenBarrierError:
            raise LostRankError("a thread has ended") from None


def in_threads(count: int, work: Callable[[ThreadRanks], Found]) -> list[Found]:
    """What every rank finds, in order; the first error of any is raised here.

    Args:
        count: of ranks.
        work: what each of them does.
    """
    barrier, place = threading.Barrier(count), [None] * count
    found: list[Any] = [None] * count
    errors: list[Exception] = []

    def run(number: int) -> None:
        try:
            found[number] = work(ThreadRanks(number, count, barrier, place))
        except Exception as error:
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    real = [error for error in errors if not isinstance(error, LostRankError)] or errors
    if real:
        raise real[0]
    return found
