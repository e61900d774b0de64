"""A map of the package, drawn from the code: its rooms, what they import, and which modules a call enters.

python tools/house.py map        # what stands in CONTRIBUTING.md; tests/test_house.py holds it there
python tools/house.py journey    # the modules that samples pass through, on their way through estimate and run
"""

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch

import noisylearn as nl

PACKAGE = Path(nl.__file__).parent


def modules() -> Iterator[tuple[str, Path]]:
    """(dotted name below the package, file) of every module."""
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), file


def imported(file: Path) -> set[str]:
    """Dotted names below the package that a file imports from, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "noisylearn":
            below = node.module.split(".")[1:]
            found |= {".".join(below)} if below else {alias.name for alias in node.names}
    return found


def room_of(name: str) -> str:
    """The first part of a dotted name."""
    return name.split(".")[0]


def arrows() -> dict[str, set[str]]:
    """Room -> the rooms that it imports."""
    found: dict[str, set[str]] = {}
    for name, file in modules():
        if "." in name or file.name == "__init__.py":
            found.setdefault(room_of(name), set()).update(map(room_of, imported(file)))
    found.pop("", None)
    return {room: others - {room, "version", ""} for room, others in found.items()}


def levels(of: dict[str, set[str]]) -> dict[str, int]:
    """Room -> how many rooms lie one on the other below it. Raises ValueError where rooms import each other."""
    found: dict[str, int] = {}
    while len(found) < len(of):
        ready = [room for room in of if room not in found and of[room] <= set(found)]
        if not ready:
            raise ValueError(f"rooms import each other: {', '.join(sorted(set(of) - set(found)))}")
        found |= {room: max((found[other] + 1 for other in of[room]), default=0) for room in ready}
    return found


def drawn_map() -> str:
    """The rooms from the ground up, as a table in Markdown."""
    of = arrows()
    level = levels(of)
    lines = ["| level | room | what lives there | imports |", "| ---: | --- | --- | --- |"]
    for room in sorted(of, key=lambda room: (level[room], room)):
        text = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8"))) or ""
        others = ", ".join(sorted(of[room], key=lambda other: (level[other], other))) or "-"
        lines.append(f"| {level[room]} | `{room}/` | {text.splitlines()[0]} | {others} |")
    return "\n".join(lines)


def entered(call: Callable[[], Any]) -> list[str]:
    """Modules of the package whose functions a call runs, in the order in which it first comes to them."""
    found: dict[str, None] = {}

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        name = frame.f_globals.get("__name__", "")
        if event == "call" and name.startswith("noisylearn."):
            found.setdefault(name.removeprefix("noisylearn."))

    sys.setprofile(watch)
    try:
        call()
    finally:
        sys.setprofile(None)
    return list(found)


def journeys() -> dict[str, list[str]]:
    """Modules that samples enter on their second way through a rule, when everything is set up."""
    mlp, rnn = nl.networks.mlp(4, (3,), 2), nl.networks.RNN(4, 3, 2)
    rule = nl.rules.ANP(baseline="noisy")
    chips = [nl.Chip(model, "pcm-nandakumar-2019") for model in (mlp, rnn)]
    x, target = torch.rand(5, 4), torch.rand(5, 2)

    def squared(output: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return (output - wanted).square().mean(1)

    calls: dict[str, Callable[[], Any]] = {
        "estimate": lambda: rule.estimate(chips[0], x, lambda output: squared(output, target)),
        "run": lambda: rule.run(chips[1], x.expand(6, 5, 4), target.expand(6, 5, 2), squared),
    }
    for call in calls.values():
        call()
    return {name: entered(call) for name, call in calls.items()}


if __name__ == "__main__":
    if sys.argv[1:] == ["map"]:
        print(drawn_map())
    elif sys.argv[1:] == ["journey"]:
        for name, passed in journeys().items():
            print(f"{name} ({len(passed)}): {' -> '.join(passed)}")
    else:
        sys.exit(__doc__)
