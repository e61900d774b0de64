"""A training step shared by processes over gloo, against the same step in one process with one thread, and its bytes.

Processes take turns in every round: one works alone while the others wait, all work alone at the same time (what the
machine allows at most), then they share a step, by draws, and by parts of the batch and draws. Efficiency is

    seconds alone / (processes x seconds shared),

beside it that of processor seconds, in which waiting for each other or for other jobs of the machine does not count,
but work that is not divided and sending do; and the efficiency over that of the processes side by side: what sharing
costs, whatever the machine allows. "Of fastest" is the efficiency from the fastest round of each: where the machine has
other jobs, the nearest to that without.
"""

import argparse
import itertools
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
import torch.multiprocessing as mp
from rich.console import Console
from rich.table import Table
from timing import machine
from torch import Tensor

import noisylearn as nl
from noisylearn.distributed import Ranks, joined
from noisylearn.rules.feedback import layerwise
from noisylearn.rules.perturbation import NoisyPasses
from noisylearn.rules.sharing import Send

NETS = {"784-300-10": [784, 300, 10], "784-1024x2-10": [784, 1024, 1024, 10], "784-1024x3-10": [784, *[1024] * 3, 10]}
ALONE, SIDE_BY_SIDE, BY_DRAWS, BY_BATCH = "alone", "alone, side by side", "by draws", "by batch"
BY_SEEDS = "by draws, losses sent"
RULES = {"anp": nl.rules.ANP, "np": nl.rules.NP, "lf": nl.rules.LearnedFeedback}
Seconds = tuple[float, float]  # of the wall clock and of the processor


def make_step(
    rule: NoisyPasses, sizes: list[int], batch: int, ranks: Ranks, parts: int, send: Send = "gradients"
) -> Callable[[], object]:
    """A training step on random data, on a chip with injected Gaussian noise.

    Learned feedback: as many steps as it takes to learn once, after the first ones, which all are learned from.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, batch, sizes[0], generator=generator)
    y = torch.randint(10, (1, batch), generator=generator)
    model = nl.networks.mlp(sizes[0], sizes[1:-1], sizes[-1])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    chip = nl.Chip(model, "gaussian-node", seed=0)
    learner = nl.rules.Learner(rule, chip, ranks=ranks, parts=parts, send=send)

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(output, target, reduction="none")

    def step() -> None:
        learner.run(x, y, loss_fn, in_time=False)
        optimizer.step()
        chip.program()

    if rule.name != "lf":
        return step
    for _ in range(layerwise.LEARNED_AT_FIRST):
        step()
    return lambda: [step() for _ in range(layerwise.LEARNED_EVERY)]


def timed(step: Callable[[], object], ranks: Ranks, takes_part: bool) -> Seconds:
    """Seconds of a step that starts in all processes together, and processor seconds of all of them."""
    ranks.gathered(None)
    wall, processor = time.perf_counter(), time.process_time()
    if takes_part:
        step()
    spent = time.perf_counter() - wall, time.process_time() - processor
    all_spent = ranks.gathered(spent if takes_part else (0.0, 0.0))
    return max(one[0] for one in all_spent), sum(one[1] for one in all_spent)


def measure(
    rule: NoisyPasses, sizes: list[int], batch: int, rounds: int, ranks: Ranks, without: Collection[str]
) -> dict[str, list[Seconds]]:
    """Seconds of every way in every round, without some."""
    alone = make_step(rule, sizes, batch, Ranks(), 1)
    ways = {
        ALONE: (alone, ranks.is_first),
        SIDE_BY_SIDE: (alone, True),
        BY_BATCH: (make_step(rule, sizes, batch, ranks, ranks.count), True),
    }
    if "draws" in rule.divides:
        ways[BY_DRAWS] = make_step(rule, sizes, batch, ranks, 1), True
    if "activity" not in rule.needs():
        ways[BY_SEEDS] = make_step(rule, sizes, batch, ranks, 1, "losses"), True
    ways = {way: what for way, what in ways.items() if way not in without}
    found: dict[str, list[Seconds]] = {way: [] for way in ways}
    for turn in range(rounds + 1):
        for way, (step, takes_part) in ways.items():
            spent = timed(step, ranks, takes_part)
            if turn:  # the first warms up
                found[way].append(spent)
    return found


def efficiencies(found: Mapping[str, list[Seconds]], count: int) -> dict[str, dict[str, float]]:
    """Of every way: median and quartiles of the efficiency over the rounds, and that of processor seconds."""
    rows, fastest = {}, {way: min(one[0] for one in taken) for way, taken in found.items()}
    for way, taken in found.items():
        done = count if way == SIDE_BY_SIDE else 1  # steps
        wall = [done * one[0] / (count * other[0]) for one, other in zip(found[ALONE], taken, strict=True)]
        work = [done * one[1] / other[1] for one, other in zip(found[ALONE], taken, strict=True)]
        others = found.get(SIDE_BY_SIDE, [(math.nan, 0.0)] * len(taken))
        beside = [done * one[0] / (count * other[0]) for one, other in zip(others, taken, strict=True)]
        lower, median, upper = statistics.quantiles(wall, n=4)
        rows[way] = {
            "seconds": statistics.median(one[0] for one in taken), "efficiency": median, "lower": lower,
            "upper": upper, "of_processor_seconds": statistics.median(work),
            "of_side_by_side": statistics.median(beside), "of_fastest": done * fastest[ALONE] / (count * fastest[way]),
        }  # fmt: skip
    return rows


def bytes_of(rule: NoisyPasses, sizes: list[int], batch: int) -> dict[str, int]:
    """What a process gives to the sum of a step, in bytes, for ways of sharing; float32."""
    weights = sum((n_in + 1) * n_out for n_in, n_out in itertools.pairwise(sizes))
    sums = sum(n_in * (n_in + n_out) + 3 for n_in, n_out in itertools.pairwise(sizes[1:]))
    found = {
        "gradients (as in data-parallel backprop)": 4 * (weights + 2),  # with the loss, and a call to stop
        "losses of every draw and sample (--send losses)": 4 * (rule.draws * batch + 1),
        "signals g of every sample and unit (not sent)": 4 * batch * sum(sizes[1:]),
    }
    return found | ({"sums that feedback is learned from": 4 * (sums + 1)} if rule.name == "lf" else {})


def work(number: int, options: argparse.Namespace, port: int) -> None:
    """One of the processes; the first prints."""
    places = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": options.processes, "MASTER_PORT": port}
    os.environ.update({key: str(value) for key, value in places.items()}, MASTER_ADDR="127.0.0.1")
    torch.set_num_threads(1)
    nl.keep_freed_memory()
    rows: list[dict[str, Any]] = []
    with joined() as ranks:
        for net in options.net or ["784-1024x3-10"]:
            for draws in options.draws or ([1] if options.rule == "lf" else [8, 32, 128]):
                if ranks.is_first:
                    print(f"measuring {net}, {draws} draws ...", file=sys.stderr)
                rule = RULES[options.rule](draws=draws)
                found = measure(rule, NETS[net], options.batch, options.rounds, ranks, options.without)
                sent = bytes_of(rule, NETS[net], options.batch)
                rows.append({"net": net, "draws": draws, "ways": efficiencies(found, ranks.count), "bytes": sent})
    if ranks.is_first:
        report(rows, options)


def report(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """One JSON document, or a table of efficiencies and one of bytes."""
    load = [round(one, 1) for one in os.getloadavg()]
    about = {"rule": options.rule, "batch": options.batch, **machine(torch.device("cpu")), "load": load}
    if options.json:
        print(json.dumps({"machine": about, "processes": options.processes, "rows": rows}, indent=2))
        return
    console = Console(width=150)
    table = Table(title=f"{options.processes} processes: {about}", title_justify="left")
    measured = "seconds", "efficiency (quartiles)", "of fastest", "of processor seconds", "of side by side"
    for name in ("net", "draws", "step", *measured):
        table.add_column(name)
    for row in rows:
        for way, one in row["ways"].items():
            spread = f"{one['efficiency']:.2f} ({one['lower']:.2f} to {one['upper']:.2f})"
            more = [f"{one[key]:.2f}" for key in ("of_fastest", "of_processor_seconds", "of_side_by_side")]
            table.add_row(row["net"], str(row["draws"]), way, f"{one['seconds']:.2f}", spread, *more)
    console.print(table)
    table = Table(title="bytes that a process gives to a step", title_justify="left")
    for name in ("net", "draws", "what", "kB", "of gradients"):
        table.add_column(name)
    for row in rows:
        first = next(iter(row["bytes"].values()))
        for what, n_bytes in row["bytes"].items():
            table.add_row(row["net"], str(row["draws"]), what, f"{n_bytes / 1000:.1f}", f"{n_bytes / first:.2g}")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", choices=NETS, action="append", help="one net; may be repeated (default: the last)")
    parser.add_argument("--rule", choices=RULES, default="anp", help="np: also losses sent; lf: 4 steps by batch")
    parser.add_argument("--draws", type=int, action="append", help="may be repeated (default: 8, 32, 128; lf: 1)")
    parser.add_argument("--batch", type=int, default=1000, help="samples of a step")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="of every measurement, after one that warms up")
    parser.add_argument("--without", action="append", default=[], help="a step to leave out, as the table names it")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    port = 20000 + os.getpid() % 20000
    mp.spawn(work, (options, port), options.processes)


if __name__ == "__main__":
    main()
