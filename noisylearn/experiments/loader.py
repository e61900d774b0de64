"""A DataLoader as batches of a run: with its shuffling, augmentation and workers, and the same numbers when resumed."""

import hashlib
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader

from noisylearn.experiments.identity import bytes_of
from noisylearn.ground.draws import stream_seed
from noisylearn.ground.errors import UserError
from noisylearn.ground.global_numbers import GlobalNumbers
from noisylearn.tasks.base import Samples
from noisylearn.tasks.own import checked_pair, joined

WHAT = "training loader"
MOST_SAMPLES = 10_000  # kept in memory of the first epoch: to calibrate with, to look at, to fit trivial baselines to


@dataclass(frozen=True)
class FirstEpoch:
    """What a loader gives in its first epoch.

    Args:
        samples: the first of them.
        steps: batches.
        digest: hash of all samples.
        batch: samples of the first batch.
    """

    samples: Samples
    steps: int
    digest: str
    batch: int


class LoaderBatches:
    """Batches of a DataLoader, epoch by epoch.

    What an epoch draws, from the global generators, in workers or from generators of the loader, follows from the seed
    and the number of the epoch alone. Within an epoch, batches that were done before are loaded again and left out.

    Args:
        loader: gives pairs (inputs, targets).
        seed: of the run.
        device: of the network.

    Raises:
        UserError: the loader keeps its workers from epoch to epoch, is empty, or its batches have another form.
    """

    def __init__(self, loader: DataLoader[Any], seed: int, device: str) -> None:
        if loader.persistent_workers:
            raise UserError(
                "persistent_workers=True: what such workers draw depends on the epochs before, so that a resumed run "
                "would be another; leave it out"
            )
        self.loader, self.seed, self.device = loader, seed, device
        self._stands: tuple[int, int] | None = None  # epoch and number of the batch that comes next
        self._batches: Generator[Samples, None, None] | None = None
        self.first = self._read()
        self.size = self.first.batch

    @property
    def steps_per_epoch(self) -> int:
        """Batches of the first epoch."""
        return self.first.steps

    def batch(self, step: int) -> Samples:
        """Inputs and targets of a step.

        Args:
            step: its number, from 0.

        Raises:
            UserError: an epoch has fewer batches than the first.
        """
        epoch, index = divmod(step, self.steps_per_epoch)
        if self._batches is None or self._stands != (epoch, index):
            self.close()
            self._batches = self._epoch(epoch)
            for _ in range(index):
                next(self._batches, None)
        self._stands = None  # until the batch is there: an error may end the epoch
        found = next(self._batches, None)
        if found is None:
            raise UserError(f"{WHAT}: epoch {epoch + 1} has fewer batches than the first, which had {self.first.steps}")
        self._stands = divmod(step + 1, self.steps_per_epoch)
        if self._stands[1] == 0:
            self._stands = None
        return found[0].to(self.device), found[1].to(self.device)

    def close(self) -> None:
        """End the workers of an epoch that is under way."""
        if self._batches is not None:
            self._batches.close()
        self._batches = self._stands = None

    def _epoch(self, epoch: int) -> Generator[Samples, None, None]:
        """All batches of an epoch."""
        seed = stream_seed(self.seed, ("data", "loader", str(epoch)))
        numbers = GlobalNumbers(seed)
        with numbers.drawn():
            self._seed_own(seed, epoch)
            batches = iter(self.loader)
        try:
            while True:
                with numbers.drawn():
                    batch = next(batches, None)
                if batch is None:
                    return
                yield checked_pair(batch, WHAT)
        finally:
            _end_workers(batches)

    def _seed_own(self, seed: int, epoch: int) -> None:
        """Seed the generators of the loader and its samplers, and tell samplers the epoch."""
        batch_sampler = self.loader.batch_sampler
        for one in (self.loader, self.loader.sampler, batch_sampler, getattr(batch_sampler, "sampler", None)):
            if isinstance(generator := getattr(one, "generator", None), torch.Generator):
                generator.manual_seed(seed)
            if callable(tell := getattr(one, "set_epoch", None)):
                tell(epoch)

    def _read(self) -> FirstEpoch:
        """Go through the first epoch once."""
        digest, kept, n_kept, steps = hashlib.sha256(), [], 0, 0
        for inputs, targets in self._epoch(0):
            for part in (inputs, targets):
                digest.update(bytes_of(part))
            if n_kept < MOST_SAMPLES:
                kept.append((inputs, targets))
                n_kept += len(inputs)
            steps += 1
        return FirstEpoch(joined(kept, WHAT), steps, digest.hexdigest(), len(kept[0][0]))


def _end_workers(batches: Any) -> None:
    """End the workers of an iterator now: the garbage collector would wait for each of them for half a minute."""
    if end := getattr(batches, "_shutdown_workers", None):
        end()
