"""A log for TensorBoard."""

from pathlib import Path
from typing import TYPE_CHECKING

from noisylearn.callbacks.base import Callback, End, Run, beside, check_installed, measured

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoardLog(Callback):
    """Writes the loss of every step and the measurements of every epoch, over the steps.

    A resumed run is written anew from its history; TensorBoard then leaves out what was written before.

    Args:
        folder: of its events; None for beside the run file.

    Raises:
        UserError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path | str | None = None) -> None:
        check_installed("tensorboard", "log tensorboard", "tensorboard")
        self.folder = None if folder is None else Path(folder)
        self.writer: SummaryWriter | None = None

    def start(self, run: Run) -> None:
        """Open the log, and write what the run has done."""
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(beside(run, self.folder, ".tensorboard", "log tensorboard")), purge_step=0)
        for i, loss in enumerate(run.losses, start=1):
            self.writer.add_scalar("loss", loss, i)
        for epoch in range(run.epoch):
            self._write(run, epoch)

    def step(self, run: Run) -> None:
        """Write the loss."""
        assert self.writer is not None
        self.writer.add_scalar("loss", run.losses[-1], run.step)

    def epoch(self, run: Run) -> None:
        """Write all measurements of the epoch."""
        self._write(run, run.epoch - 1)

    def end(self, run: Run, how: End) -> None:
        """Close the log."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None

    def _write(self, run: Run, epoch: int) -> None:
        assert self.writer is not None
        for name, value in measured(run, epoch).items():
            self.writer.add_scalar(name, value, (epoch + 1) * run.steps_per_epoch)
        self.writer.flush()
