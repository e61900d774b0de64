"""Train a chip that is not ours: a process of its own, reached over a pipe, whose noise this side cannot see.

The black box holds the weights, adds noise of a kind and size that it keeps to itself, and answers with what its pins
show: outputs, and the input and pre-activation of every layer. Two noisy passes are enough, for learned feedback and
for DANP. With --loss-only the outputs serve the loss alone: learned feedback is refused, DANP learns.

Run:  python examples/chip_in_the_loop.py [--rule lf|anp] [--loss-only] [--epochs 5] [--state FILE] [--kill-after STEPS]
"""

import argparse
import math
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import noisylearn as nl

BATCH, RATE = 20, 1e-2
RULES = {"lf": nl.rules.LearnedFeedback(baseline="noisy"), "anp": nl.rules.ANP(baseline="noisy")}
LOSS_ONLY = ("loss", "input", "activity")


def network() -> nn.Module:
    """The same structure on both sides of the pipe; its weights travel."""
    return nl.decorrelate(nl.networks.mlp(64, (32,), 10, seed=0), rate=1e-3)


def black_box(pipe: Connection) -> None:
    """The chip. Nothing in here is known to the host but the names of the layers."""
    model, readings = network(), {}
    secret = torch.Generator().manual_seed(int.from_bytes(os.urandom(4), "little"))

    def disturbed(name: str) -> Any:
        def after(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            size = 0.02 * args[0].norm(dim=1, keepdim=True) + 0.01
            kind = torch.rand(output.shape, generator=secret) - torch.rand(output.shape, generator=secret)
            readings[name] = args[0], output + size * kind
            return readings[name][1]

        return after

    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_hook(disturbed(name))
    while True:
        try:
            order, content = pipe.recv()
        except EOFError:  # the host is gone
            return
        if order == "program":
            model.load_state_dict(content)
            pipe.send("done")
        else:
            with torch.no_grad():
                output = model(content)
            pipe.send((output.numpy(), {name: (x.numpy(), a.numpy()) for name, (x, a) in readings.items()}))


class PipeChip:
    """The two methods of a chip, by messages: change these twenty lines for the hardware on your bench."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=black_box, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def forward(self, x: Tensor) -> tuple[Tensor, Mapping[str, tuple[Tensor, Tensor]]]:
        output, readings = self._ask("forward", x)
        pairs = {name: (torch.from_numpy(i), torch.from_numpy(a)) for name, (i, a) in readings.items()}
        return torch.from_numpy(output), pairs

    def program(self, state: Mapping[str, Tensor]) -> None:
        self._ask("program", dict(state))

    def _ask(self, order: str, content: Any) -> Any:
        try:
            self.pipe.send((order, content))
            return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(timeout=5)
            raise nl.UserError(
                f"the chip (process {self.process.pid}) ended with status {self.process.exitcode} during '{order}'; "
                "start again with the same --state to continue after the last full step"
            ) from None


def save(file: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, learner: nl.rules.Learner) -> None:
    """Written beside and renamed: a kill leaves the state of a full step."""
    beside = file.with_name(f".{file.name}.part")
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "rule": learner.state}
    torch.save({"step": step, **state}, beside)
    beside.replace(file)


def train(rule: nl.rules.Rule, epochs: int, state: Path, kill_after: int | None, loss_only: bool) -> float:
    """Train, or go on training; returns the accuracy on the test part, read from the chip."""
    task, model = nl.tasks.load("digits"), network()
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    step = 0
    saved = torch.load(state, weights_only=True) if state.exists() else None
    if saved is not None:
        step = saved["step"]
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        print(f"continuing after step {step}")
    hardware = PipeChip()
    chip = nl.OwnChip(model, hardware, "black box", *([LOSS_ONLY] if loss_only else []))
    learner = nl.rules.Learner(rule, chip)
    if saved is not None:
        learner.state = saved["rule"]
    per_epoch, accuracy = len(task.train_inputs) // BATCH, math.nan
    while step < epochs * per_epoch:
        order = torch.randperm(len(task.train_inputs), generator=torch.Generator().manual_seed(step // per_epoch))
        rows = order.split(BATCH)[step % per_epoch]
        targets = task.train_targets[rows]
        if step == kill_after:
            os.kill(hardware.process.pid or 0, signal.SIGKILL)
        learner.estimate(task.train_inputs[rows], lambda out, t=targets: F.cross_entropy(out, t, reduction="none"))
        optimizer.step()
        chip.program()
        step += 1
        save(state, step, model, optimizer, learner)
        if step % per_epoch == 0:
            accuracy = float((chip(task.test_inputs).argmax(1) == task.test_targets).float().mean())
            print(f"epoch {step // per_epoch} of {epochs}: {accuracy:.1%} on the chip", flush=True)
    return accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rule", choices=RULES, default="lf")
    parser.add_argument("--loss-only", action="store_true", help="the chip shows the loss, but not its outputs")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--state", type=Path, default=Path("black_box.pt"), help="where to keep the last full step")
    parser.add_argument("--kill-after", type=int, help="kill the chip before this step, to see what happens")
    options = parser.parse_args()
    try:
        train(RULES[options.rule], options.epochs, options.state, options.kill_after, options.loss_only)
    except nl.UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
