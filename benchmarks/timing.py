"""Shared by the benchmarks: interleaved timings as ratios, peak memory, flops, and how they are printed."""

import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

Step = Callable[[], object]


@dataclass
class Ratio:
    """Time of a contender: median seconds of a call, and median and quartiles of its per-round ratio."""

    seconds: float
    median: float
    lower: float
    upper: float
    rounds: int

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.lower:.2f} to {self.upper:.2f})"


def interleaved(
    contenders: Mapping[str, Step],
    reference: str,
    device: torch.device,
    seconds: float,
    min_rounds: int = 7,
    block_s: float = 0.02,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Ratio]:
    """Time the contenders round robin for about `seconds`; ratios are formed within a round.

    Every round starts with another contender, so that no one always follows the same one. A call much shorter than
    `block_s` is repeated within its turn, so that the clock and cold caches weigh little. Where more jobs run than the
    machine has cores, `time.thread_time` as the clock leaves out what they take.
    """
    for call in contenders.values():
        _timed(call, 2, device, clock)
    repeats = {name: max(1, round(block_s / _timed(call, 1, device, clock))) for name, call in contenders.items()}
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    names, stop, rounds = list(contenders), time.perf_counter() + seconds, 0
    while rounds < min_rounds or time.perf_counter() < stop:
        first = rounds % len(names)
        for name in names[first:] + names[:first]:
            taken[name].append(_timed(contenders[name], repeats[name], device, clock))
        rounds += 1
    return {name: _ratio(times, taken[reference]) for name, times in taken.items()}


def _timed(call: Step, repeats: int, device: torch.device, clock: Callable[[], float]) -> float:
    """Seconds of one call, over `repeats` of them, with the device idle before and after."""
    _synchronize(device)
    start = clock()
    for _ in range(repeats):
        call()
    _synchronize(device)
    return (clock() - start) / repeats


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _ratio(times: Sequence[float], reference: Sequence[float]) -> Ratio:
    quotients = [t / r for t, r in zip(times, reference, strict=True)]
    lower, median, upper = statistics.quantiles(quotients, n=4)
    return Ratio(statistics.median(times), median, lower, upper, len(quotients))


def matrix_flops(call: Step) -> int:
    """Flops of the matrix products and convolutions of one call, backward included."""
    call()  # the first call of a chip also probes the model
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: _addmm_flops}) as counter:
        call()
    return counter.get_total_flops()


def _addmm_flops(total: torch.Size, a: torch.Size, b: torch.Size, **_: Any) -> int:
    """Flops of `addmm_`, which torch's counter does not know."""
    return 2 * a[0] * a[1] * b[1]


def peak_bytes(step: Step, device: torch.device, steps: int = 3) -> int:
    """Most bytes of tensors that steps hold beyond what is held between them.

    Both devices count what torch's allocator hands out: scratch space inside the libraries, and what the allocator
    keeps in reserve, are not in it.
    """
    step()
    if device.type == "cuda":
        _synchronize(device)
        held = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        for _ in range(steps):
            step()
        _synchronize(device)
        return torch.cuda.max_memory_allocated(device) - held
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        for _ in range(steps):
            step()
    assert profiler.profiler is not None
    assert profiler.profiler.kineto_results is not None
    changes = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    changes.sort(key=lambda event: event.start_ns())
    return max(accumulate((event.nbytes() for event in changes), initial=0))


def machine(device: torch.device) -> dict[str, Any]:
    """Where figures were measured."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {"device": str(device), "hardware": name, "threads": torch.get_num_threads(), "torch": torch.__version__}


@dataclass
class Row:
    """One line of a report: flops relative to the reference, time, and memory where it was measured."""

    setting: str
    contender: str
    flops: float
    time: Ratio
    peak_mib: float | None = None
    peak_ratio: float | None = None


def report(title: str, rows: Sequence[Row], device: torch.device, as_json: bool) -> None:
    """One JSON document, or a table."""
    if as_json:
        print(json.dumps({"title": title, "machine": machine(device), "rows": [asdict(row) for row in rows]}, indent=2))
        return
    where = ", ".join(f"{key} {value}" for key, value in machine(device).items())
    table = Table(title=f"{title}\n{where}", title_justify="left")
    table.add_column("setting")
    table.add_column("contender")
    columns = ["product flops", "time (quartiles)", "ms", "rounds"]
    with_memory = any(row.peak_mib is not None for row in rows)
    for column in [*columns, *(["peak MiB", "peak"] if with_memory else [])]:
        table.add_column(column, justify="right")
    last = ""
    for row in rows:
        if last not in ("", row.setting):
            table.add_section()
        cells = [f"{row.flops:.2f}", str(row.time), f"{1e3 * row.time.seconds:.2f}", str(row.time.rounds)]
        if with_memory:
            cells += ["" if v is None else f"{v:.{n}f}" for v, n in ((row.peak_mib, 1), (row.peak_ratio, 2))]
        table.add_row("" if row.setting == last else row.setting, row.contender, *cells)
        last = row.setting
    console = Console()
    (console if console.is_terminal else Console(width=140)).print(table)
