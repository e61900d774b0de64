"""Check on CUDA what must agree with the CPU, then time what runs there beside the least it needs.

python benchmarks/gpu.py --all [--minutes 10] [--json]      # checks, then times, in at most so many minutes
python benchmarks/gpu.py --device cpu                       # the checks alone, where there is no GPU: half a minute
"""

import argparse
import json
import sys
import time
from dataclasses import asdict
from typing import Any

import torch
from gpu_checks import CHECKS, Check, why_not
from gpu_times import Row, rows
from rich.console import Console
from rich.table import Table
from timing import machine

NO_GPU = "no CUDA device here: nothing was run; --device cpu runs the checks on this CPU"


def checked(device: torch.device, stop: float) -> tuple[list[Check], list[str]]:
    """All checks that a device has, and what was left out."""
    found, left_out = [], []
    for name, checks in CHECKS.items():
        if reason := why_not(name, device):
            left_out.append(f"checks of {name}: {reason}")
            continue
        for check in checks(device):
            print(f"{'agrees' if check.holds else 'DIFFERS'}: {check.name}", file=sys.stderr)
            found.append(check)
            if time.monotonic() > stop:
                return found, [*left_out, f"the rest of '{name}' and what follows (no time left)"]
    return found, left_out


def as_table(title: str, words: list[str], numbers: list[str], cells: list[list[str]]) -> Table:
    """A table with some columns of words, then some of numbers."""
    table = Table(title=title, title_justify="left")
    for column in words:
        table.add_column(column)
    for column in numbers:
        table.add_column(column, justify="right")
    for row in cells:
        table.add_row(*row)
    return table


def tables(checks: list[Check], times: list[Row], where: str) -> list[Table]:
    """Checks, and times where some were taken."""
    compared = [[check.name, f"{check.deviation:.1e}", "" if check.holds else "DIFFERS"] for check in checks]
    found = [as_table(f"Checks\n{where}", ["what"], ["deviation", ""], compared)]
    timed = [
        [
            row.setting,
            row.contender,
            f"{row.ms:.3f}",
            f"{row.floor_ms:.3f}",
            f"{row.ms / row.floor_ms:.1f}",
            f"{row.n_bytes / 2**20:.2f}",
            f"{row.flops / 1e9:.2f}",
        ]
        for row in times
    ]
    if not times:
        return found
    numbers = ["ms", "floor ms", "times floor", "MiB", "Gflop"]
    return [*found, as_table(f"Times\n{where}", ["setting", "contender"], numbers, timed)]


def report(document: dict[str, Any], checks: list[Check], times: list[Row], as_json: bool) -> None:
    """One JSON document, or tables."""
    if as_json:
        print(json.dumps(document, indent=2))
        return
    where = ", ".join(f"{key} {value}" for key, value in document["machine"].items())
    console = Console() if Console().is_terminal else Console(width=140)
    for table in tables(checks, times, where):
        console.print(table)
    for what in document["left_out"]:
        print(f"left out: {what}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="checks and times; without it the checks alone")
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"), help="cuda, or cpu")
    parser.add_argument("--minutes", type=float, default=10.0, help="time for everything")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    if options.device.type == "cuda" and not torch.cuda.is_available():
        print(NO_GPU, file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    stop = time.monotonic() + 60 * options.minutes
    checks, left_out = checked(options.device, stop)
    times = list(rows(options.device, stop - time.monotonic())) if options.all else []
    document = {
        "machine": machine(options.device),
        "checks": [asdict(check) | {"holds": check.holds} for check in checks],
        "times": [asdict(row) for row in times],
        "left_out": left_out,
    }
    report(document, checks, times, options.json)
    return 0 if all(check.holds for check in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
