"""A run: a training with its file, its callbacks, and whatever may end it."""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from noisylearn.callbacks import Callback, End, Run
from noisylearn.experiments.build import machine
from noisylearn.experiments.earlier import versions
from noisylearn.experiments.run_facts import HELD_OUT
from noisylearn.experiments.run_file import RunFile, now
from noisylearn.experiments.trainer import Trainer
from noisylearn.ground.errors import RunawayError, UserError
from noisylearn.ground.interrupt import ends_held_back
from noisylearn.ground.tree_file import Tree
from noisylearn.profiles import HardwareProfile
from noisylearn.rules import Rule
from noisylearn.rules.guard import LossWatch

CHECKPOINT_EVERY_S = 10.0
WATCHED_SAMPLES = 50  # at least, for a mean loss that says whether it grows


OnStep = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Told(Callback):
    """Passes every step on to a function.

    Args:
        on_step: (steps done, steps in all, loss).
    """

    on_step: OnStep

    def step(self, run: Run) -> None:
        """Pass the step on."""
        self.on_step(run.step, run.total_steps, run.losses[-1])


@dataclass(frozen=True)
class Order:
    """What a run is: its name, what identifies it, and how it is spoken of.

    Args:
        name: what is trained by what, where, with which seed.
        own: `id`, `config` and `profile`, as the run file has them.
        facts: further attributes of the run file: how the run was made.
        settings: as plain values.
        remedies: what to do where it runs away, in words.
        resume: how to say that it is to go on.
    """

    name: str
    own: Tree
    facts: Tree
    settings: Mapping[str, Any]
    remedies: str
    resume: str


def how_made(rule: Rule, profile: HardwareProfile, device: str) -> Tree:
    """Attributes of a run file: versions, computer, and what to cite.

    Args:
        rule: the learning rule.
        profile: of the machine.
        device: of torch.
    """
    citations = {"rule": rule.source} | {key: source.citation for key, source in profile.sources.items()}
    return {"versions": json.dumps(versions()), "machine": machine(device), "citations": json.dumps(citations)}


@dataclass(eq=False)
class Live:
    """A run at work: `noisylearn.callbacks.Run` is what callbacks see of it.

    Args:
        order: what it is.
        training: the network in training, new or continued.
        run_file: which is written; None to keep nothing.
        callbacks: that go along, with the first process alone.
        checkpoint_every_s: seconds between checkpoints.
    """

    order: Order
    training: Trainer
    run_file: RunFile | None
    callbacks: Sequence[Callback] = ()
    checkpoint_every_s: float = CHECKPOINT_EVERY_S
    stopped_early: str = ""
    good: Tree = field(default_factory=dict, init=False)  # the last checkpoint
    saved: float = field(default=0.0, init=False)  # when that was

    @property
    def id(self) -> str:
        """Hash of everything that affects the result."""
        return str(self.order.own["id"])

    @property
    def name(self) -> str:
        """What is trained by what, where, with which seed."""
        return self.order.name

    @property
    def file(self) -> Path | None:
        """The run file; None where none is kept."""
        return None if self.run_file is None else self.run_file.path

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings of the run, as plain values."""
        return self.order.settings

    @property
    def step(self) -> int:
        """Steps done."""
        return self.training.progress.step

    @property
    def total_steps(self) -> int:
        """Steps in all, unless a callback stops the run."""
        return self.training.total_steps

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.step // self.steps_per_epoch

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch."""
        return self.training.steps_per_epoch

    @property
    def losses(self) -> Sequence[float]:
        """Loss of the reference pass of every step done."""
        return self.training.progress.step_loss

    @property
    def history(self) -> Mapping[str, Sequence[float]]:
        """Measurement -> its value after every epoch done."""
        return self.training.progress.epoch

    @property
    def metric(self) -> str:
        """The held-out metric, as `history` names it."""
        return f"{HELD_OUT}{self.training.task.metric_name}"

    @property
    def higher_is_better(self) -> bool:
        """Whether a higher metric is better."""
        return self.training.task.higher_is_better

    @property
    def model(self) -> torch.nn.Module:
        """The network, with its digital weights."""
        return self.training.model

    @property
    def chip(self) -> Any:
        """The chip that it is on."""
        return self.training.chip

    def stop(self, reason: str) -> None:
        """End the run with the present epoch, as finished.

        Args:
            reason: in words, for the run file.
        """
        self.stopped_early = self.stopped_early or reason

    def go(self) -> Tree:
        """Train to the end.

        Ctrl-C and SIGTERM wait until the step in flight is done and saved. An error between two steps, such as one of a
        callback or of the data, leaves the state of this moment, any other one the last checkpoint.

        Returns:
            What the file of the finished run holds.

        Raises:
            RunawayError: the loss is not finite, or a weight norm diverges.
        """
        self._save()
        alone = self.training.ranks.count == 1
        with self._noted(), ends_held_back() if alone else nullcontext(lambda: False) as came, self._ended():
            for callback in self._listeners:
                callback.start(self)
            self._learn(came)
            if came():
                self._save()
                self._end("interrupted")
                return self.good
            tree = self.order.own | self.order.facts | self.training.finish()
            tree |= {"status": "finished", "ended": now()}
            tree |= {"stopped_early": self.stopped_early} if self.stopped_early else {}
            self._write(tree)
            self._end("finished")
        return tree

    def _learn(self, came: Callable[[], bool]) -> None:
        """Step by step to the end, or until a signal comes; with checkpoints by the clock.

        Processes that share the run go through the same steps, and save together when the first calls for it.
        """
        training, ranks = self.training, self.training.ranks
        alone, watch = ranks.count == 1, self._watch()
        while self._goes_on() and not came():
            started = time.monotonic()
            ranks.calls = ranks.is_first and started - self.saved >= self.checkpoint_every_s
            watch(training.step())
            training.progress.wall_s += time.monotonic() - started  # of training alone, without measurements
            ends = self.step % self.steps_per_epoch == 0
            if ends:
                training.end_epoch()
            for callback in self._listeners:
                callback.step(self)
                if ends:
                    callback.epoch(self)
            if time.monotonic() - self.saved >= self.checkpoint_every_s if alone else ranks.called:
                self._save()

    def _watch(self) -> LossWatch:
        """Warns where the loss grows, as seen in a tenth of an epoch."""
        first = math.ceil(WATCHED_SAMPLES / self.training.setup.batch)
        return LossWatch(first, max(first, self.steps_per_epoch // 10), self.order.remedies, list(self.losses))

    def _goes_on(self) -> bool:
        """Whether there is another step; a run that is stopped ends with its epoch, on all processes."""
        if self.step == self.total_steps:
            return False
        if self.step % self.steps_per_epoch:
            return True
        return not self.training.ranks.from_first(lambda: self.stopped_early)

    @property
    def _listeners(self) -> Sequence[Callback]:
        return self.callbacks if self.training.ranks.is_first else ()

    def _save(self) -> None:
        """Keep the state of this moment."""
        self.good = self.order.own | self.order.facts | self.training.checkpoint() | {"status": "running"}
        self._write(self.good)
        self.saved = time.monotonic()

    def _write(self, tree: Tree) -> None:
        if self.run_file is not None and self.training.ranks.is_first:
            self.run_file.write(tree)

    def _end(self, how: End) -> None:
        for callback in self._listeners:
            callback.end(self, how)

    @contextmanager
    def _ended(self) -> Iterator[None]:
        """Let a run that does not reach its end leave its last good state."""
        try:
            yield
        except RunawayError as stop:
            reason = f"{stop}; {self._kept}; {self.order.remedies}"
            stopped = {"status": "stopped", "reason": reason, "ended": now()}
            self.training.ranks.from_first(lambda: self._write(self.good | stopped))
            self._end("stopped")
            raise RunawayError(reason) from None
        except BaseException as error:
            if isinstance(error, Exception) and self.training.is_whole and self.training.ranks.count == 1:
                self._save()
            self._end("failed" if isinstance(error, Exception) else "interrupted")
            raise

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """Say with an error that is none of the run's own what is kept."""
        try:
            yield
        except UserError:
            raise
        except (Exception, KeyboardInterrupt) as error:
            onwards = "" if self.run_file is None else f"; {self.order.resume} goes on from there"
            error.add_note(f"{self._kept}{onwards}")
            raise

    @property
    def _kept(self) -> str:
        """What is kept, in words."""
        if self.run_file is None:
            return "no file is kept"
        return f"the state of step {self.good.get('step', 0)} is kept in {self.run_file.path}"
