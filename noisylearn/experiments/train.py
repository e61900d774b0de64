"""One run from a configuration to its file: checks, and whether an earlier one is continued."""

import glob
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch

from noisylearn import tasks
from noisylearn.callbacks import Callback, EarlyStopping
from noisylearn.distributed import Ranks
from noisylearn.experiments.build import build_setup, check_device, load_data, optimizer_class
from noisylearn.experiments.config import TrainConfig
from noisylearn.experiments.earlier import named, to_continue, versions
from noisylearn.experiments.run import CHECKPOINT_EVERY_S, Live, OnStep, Order, Told, how_made
from noisylearn.experiments.run_file import RunFile, now, prepare_folder
from noisylearn.experiments.trainer import Trainer
from noisylearn.ground.errors import UserError
from noisylearn.ground.tree_file import SUFFIX, Tree
from noisylearn.profiles import HardwareProfile
from noisylearn.rules.sharing import Send, Share, share_of
from noisylearn.tasks.own_file import errors_of
from noisylearn.version import __version__

FEW_DRAWS = 8  # of a process: with fewer, at least a seventh of its passes and products are done elsewhere too


def train(
    config: TrainConfig,
    profile: HardwareProfile,
    out: Path,
    data_dir: str | None = None,
    resume: bool = False,
    on_step: OnStep = lambda step, total, loss: None,
    checkpoint_every_s: float = CHECKPOINT_EVERY_S,
    ranks: Ranks | None = None,
    send: Send = "gradients",
    on_read: Callable[[], None] = lambda: None,
    callbacks: Sequence[Callback] = (),
    onwards: str = "--resume",
) -> RunFile:
    """Train as configured and write one HDF5 file; a finished run is not run again.

    A kill at any moment leaves the last checkpoint, at most `checkpoint_every_s` seconds and one step old; Ctrl-C and
    SIGTERM leave the step in flight. A run resumed from there ends bit for bit like an uninterrupted one.

    Args:
        config: the configuration.
        profile: of the machine.
        out: folder for the run file.
        data_dir: folder with the data files; None for the default.
        resume: whether to continue an unfinished run; otherwise it is refused.
        on_step: called after every step as on_step(steps done, steps in all, loss).
        checkpoint_every_s: seconds between checkpoints.
        ranks: the processes that share the run; all of them call this function, and the first alone reads and writes
            the file. None for one process.
        send: what the processes send each other, see `noisylearn.rules.sharing.share_of`.
        on_read: called where the run was finished before, so that its file is all there is to do.
        callbacks: that go along, with the first process alone. What decides about the end is a setting, `patience`.
        onwards: what goes on with the run where it is interrupted, in words.

    Returns:
        The run file.

    Raises:
        UserError: the rule cannot learn on the profile, data is bad, the folder cannot be written to, the processes
            cannot share the run, or an unfinished run may not be continued: without `resume`, or where another version
            started it.
        RunawayError: the loss is not finite, or a weight norm diverges.
    """
    ranks, rule = ranks or Ranks(), config.build_rule()
    rule.check(profile)
    _warn_of_few_draws(share_of(rule, profile, ranks, config.batch_parts, send), ranks)
    optimizer_class(config.optimizer)
    run_id = config.identity(profile, __version__)
    name = f"{tasks.describe(config.task).name}-{config.label}-{profile.name}-seed{config.seed}"
    file = RunFile(out / f"{name}-{run_id}{SUFFIX}")
    own = {"id": run_id, "config": config.model_dump_json(), "profile": profile.full_text}
    if ranks.is_first:
        prepare_folder(out)
    with file.held() if ranks.is_first else nullcontext():
        earlier = ranks.from_first(lambda: _earlier(file, config, profile, own, name, resume))
        if earlier is not None and earlier["status"] == "finished":
            on_read()
            return file
        check_device(config.device)
        ranks.check_device(config.device)
        data = load_data(config, data_dir, runs_files=True)
        facts = _facts(config, profile, ranks) | {"started": (earlier or {}).get("started", now())}
        order = Order(name, own, facts, config.uniform(), _remedies(config), onwards)
        deciding = [EarlyStopping(config.patience)] if config.patience else []
        with errors_of(config.task), out_of_memory():
            training = Trainer(build_setup(config, profile, data), ranks, send)
            if earlier is not None:
                training.load(earlier)
            Live(order, training, file, [*deciding, *callbacks, Told(on_step)], checkpoint_every_s).go()
    return file


def _warn_of_few_draws(share: Share, ranks: Ranks) -> None:
    """Where processes share draws alone: each runs the baseline, the first product and the update as well."""
    few = share.numbers is not None and len(share.draws) < FEW_DRAWS
    if few and share.n_parts < ranks.count:
        warnings.warn(
            f"each of the {ranks.count} processes runs {len(share.draws)} of {share.n_draws} draws and the baseline "
            f"once more: --batch-parts {ranks.count} shares all work of a step",
            stacklevel=3,
        )


def _earlier(
    file: RunFile, config: TrainConfig, profile: HardwareProfile, own: Tree, name: str, resume: bool
) -> Tree | None:
    """What a run's file holds of it, None where there is no file. Raises UserError where it may not be continued."""
    earlier = to_continue(file, own, config.epochs, resume, "--resume")
    if earlier is None and resume:
        _refuse_other_versions(config, profile, file.path.parent.glob(f"{glob.escape(name)}-*{SUFFIX}"))
    return earlier


def _refuse_other_versions(config: TrainConfig, profile: HardwareProfile, paths: Iterable[Path]) -> None:
    """Raises UserError where other versions left this very run unfinished: they drew other random numbers."""
    for path in paths:
        try:
            tree = RunFile(path).read()
            same = TrainConfig.of_run(tree, path) == config and tree["profile"] == profile.full_text
        except UserError:  # damaged, or of a configuration that this version does not know
            continue
        theirs, ours = (named(found) for found in (json.loads(tree["versions"]), versions()))
        if same and tree["status"] == "running" and theirs != ours:
            raise UserError(
                f"run file {path}: this run, unfinished, by {theirs}; {ours} draws other random numbers and cannot "
                f"continue it: finish it with the versions that wrote it, or remove it (or, with train, leave --resume "
                "out) to start anew"
            )


@contextmanager
def out_of_memory() -> Iterator[None]:
    """Raise torch's errors about memory as a UserError."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error):
            raise UserError("not enough memory: lower --draws, --batch or --hidden") from None
        raise


def _remedies(config: TrainConfig) -> str:
    found = [f"lower --lr (now {config.lr:g})"]
    if config.decorrelation_rate:
        found.append(f"lower --decorrelation-rate (now {config.decorrelation_rate:g})")
    if not config.weight_normalisation:
        found.append("add --weight-normalisation")
    return " or ".join(found)


def _facts(config: TrainConfig, profile: HardwareProfile, ranks: Ranks) -> Tree:
    """Attributes of a run file: how the run was made, and by how many processes."""
    facts = how_made(config.build_rule(), profile, config.device)
    return facts | {"machine": f"{facts['machine']}, {ranks.count} processes"} if ranks.count > 1 else facts
