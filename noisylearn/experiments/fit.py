"""Training of one's own network on one's own data, as a run like those of `noisylearn train`."""

import copy
import glob
import json
import warnings
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from noisylearn import tasks
from noisylearn.callbacks import Callback
from noisylearn.chips.simulated import Chip
from noisylearn.experiments.build import check_device
from noisylearn.experiments.config import label_options, split_label
from noisylearn.experiments.earlier import to_continue, versions
from noisylearn.experiments.identity import digest_of, settings_of, structure_of, text_of
from noisylearn.experiments.own_setup import Given, begun, optimizer_of
from noisylearn.experiments.run import CHECKPOINT_EVERY_S, Live, Order, Told, how_made
from noisylearn.experiments.run_file import RunFile, now, prepare_folder
from noisylearn.experiments.schedules import Schedule, SchedulerOf
from noisylearn.experiments.setup import OptimizerOf, Setup
from noisylearn.experiments.trainer import Trainer
from noisylearn.ground.errors import UserError
from noisylearn.ground.identity import identity_of
from noisylearn.ground.interrupt import term_said
from noisylearn.ground.table import Shown, Table
from noisylearn.ground.tree_file import SUFFIX, Tree, tensors
from noisylearn.networks.decorrelation import decorrelate
from noisylearn.profiles import HardwareProfile, load_profile
from noisylearn.progress import shown
from noisylearn.rules import Rule, rule_class
from noisylearn.rules.options import options_of
from noisylearn.tasks.own import OwnData, PerSample

RESUME = "resume=True"
DECORRELATION_RATE = 1e-4  # that of the recipe of all d... rules


@dataclass(frozen=True, eq=False, repr=False)
class Fitted(Shown):
    """A run that `noisylearn.fit` has finished.

    Args:
        file: the run file; None where none is kept.
        scores: final scores, and what the run took.
        baselines: trivial predictor -> its held-out metric.
        history: measurement -> its value after every epoch.
        losses: of every step.
        model: the trained network, in place of which the one that was given is left as it was.
        chip: the chip that it is on, as the scores "at once" were read from it, without the day of drift. Where the run
            was read from its file, it is programmed anew, with other errors of writing.
        stopped_early: why it ended before its last epoch; empty if it did not.
    """

    file: Path | None
    scores: dict[str, float]
    baselines: dict[str, float]
    history: dict[str, list[float]]
    losses: list[float]
    model: nn.Module
    chip: Chip
    stopped_early: str = ""

    def __repr__(self) -> str:
        """The scores beside those of trivial predictors, in a few lines."""
        scores = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in self.scores.items())
        lines = [scores, "trivial baselines: " + ", ".join(f"{name} {v:.4g}" for name, v in self.baselines.items())]
        lines += [f"ended early: {self.stopped_early}"] if self.stopped_early else []
        lines += [f"run file: {self.file}"] if self.file else []
        return "\n".join(lines)

    def tables(self) -> list[Table]:
        """The scores and what the run took, with trivial baselines."""
        rows = [[name.replace("_", " "), f"{value:.4g}"] for name, value in self.scores.items()]
        rows += [[f"trivial baseline: {name}", f"{value:.4g}"] for name, value in self.baselines.items()]
        rows += [["ended early", self.stopped_early]] if self.stopped_early else []
        return [Table(str(self.file or "run without a file"), ["measured", "value"], rows, numbers=1)]


def fit(
    model: nn.Module,
    data: OwnData | tasks.Task,
    loss: Any,
    profile: str | Path | HardwareProfile,
    rule: Rule | str,
    *,
    held_out: OwnData | None = None,
    metric: PerSample | None = None,
    higher_is_better: bool = True,
    optimizer: str | OptimizerOf = "adam",
    lr: float = 1e-3,
    schedule: str | SchedulerOf = "cosine",
    epochs: int = 10,
    batch: int = 100,
    weight_normalisation: bool = False,
    decorrelation_rate: float | None = None,
    seed: int = 0,
    device: str = "cpu",
    kernels: bool = False,
    name: str = "own",
    out: Path | str | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
    checkpoint_every_s: float = CHECKPOINT_EVERY_S,
) -> Fitted:
    """Train a network of your own on data of your own, on a simulated chip.

    The run goes the way of `noisylearn train`: the same guards, measurements, trivial baselines, progress, run file and
    checkpoints. The same call gives the same numbers; a finished run is read from its file.

    Args:
        model: any module that a `Chip` takes; it is copied, and left as it is. Its weights are part of the run's
            identity: make it from a seed, torch.manual_seed(0), to find the run again.
        data: training part: a DataLoader, a Dataset, or a pair (inputs, targets) of arrays; or a task, which has loss,
            metric and held-out part.
        loss: a loss of torch, such as nn.CrossEntropyLoss; or (outputs, targets) -> loss of every sample. None for the
            cross entropy of labels and the squared error of numbers.
        profile: of the machine: name, TOML file, or profile.
        rule: the learning rule; or its name on the command line, such as "danp" (with d in front: decorrelated). No
            recipes apply: by name a rule has its defaults, with a noisy baseline where no pass is clean.
        held_out: the part that is measured on, like `data`; read into memory once.
        metric: (outputs, targets) -> score of every sample. None for the accuracy of labels, and the squared error of
            numbers.
        higher_is_better: whether a higher score of `metric` is better.
        optimizer: name of a class of torch.optim in either case, with `lr`; or parameters -> optimizer.
        lr: learning rate of an optimizer that is named.
        schedule: "constant", "cosine" (to zero), or a class of torch.optim.lr_scheduler with its arguments; or
            optimizer -> scheduler. Schedulers of torch are stepped after every epoch.
        epochs: passes over the data.
        batch: samples of a step, unless a DataLoader says so.
        weight_normalisation: whether every neuron keeps the norm of its incoming weights.
        decorrelation_rate: of a rule whose name begins with d, 1e-4 where none is given; for others say
            `noisylearn.decorrelate(model, rate)`.
        seed: of all random numbers: devices, order of the data, and what a DataLoader draws.
        device: of torch, such as "cuda".
        kernels: whether kernels read and write the devices, see `noisylearn.Chip`: faster, with other random numbers.
        name: of the task, in the name of the run file.
        out: folder for the run file; None to keep none.
        resume: whether to continue an unfinished run, bit for bit.
        callbacks: that go along, see `noisylearn.callbacks`.
        checkpoint_every_s: seconds between checkpoints.

    Returns:
        The finished run.

    Raises:
        UserError: data, loss, network, rule, profile and settings do not go together, or an unfinished run is there.
        RunawayError: the loss is not finite, or a weight norm diverges; the file keeps the last good state.
        KeyboardInterrupt: Ctrl-C was pressed; the step in flight was finished and saved before.
    """
    check_device(device)
    _check_kinds(model, callbacks)
    _check_counts(1, epochs=epochs, batch=batch)
    _check_counts(0, seed=seed)
    machine_of = load_profile(profile)
    chosen, decorrelated = (rule, False) if isinstance(rule, Rule) else _named(rule, machine_of)
    chosen.check(machine_of)
    model = _decorrelated(model, decorrelation_rate, decorrelated).to(device)
    given = Given(data, held_out, loss, metric, higher_is_better, batch, seed, device, name)
    batches, task, facts = given.read(model)
    setup = Setup(
        model, machine_of, task, batches, chosen, optimizer_of(optimizer, lr),
        Schedule.from_text(schedule) if isinstance(schedule, str) else Schedule.every_epoch(schedule),
        epochs, batches.size, weight_normalisation=weight_normalisation, seed=seed, device=device,
        kernels=kernels,
    )  # fmt: skip
    order = _order(setup, facts | {"schedule": text_of(schedule)}, callbacks, "d" * decorrelated + chosen.label)
    run_file = None if out is None else RunFile(Path(out) / f"{order.name}-{order.own['id']}{SUFFIX}")
    with closing(batches):
        return _carried_out(setup, order, run_file, resume, callbacks, checkpoint_every_s)


def _check_kinds(model: Any, callbacks: Any) -> None:
    """Raise UserError for what is no network, or no callback."""
    if not isinstance(model, nn.Module):
        what = f"the class {model.__name__}" if isinstance(model, type) else f"of type {type(model).__name__}"
        raise UserError(f"the model is {what}: give a torch.nn.Module, such as nn.Sequential(nn.Linear(64, 10))")
    if not isinstance(callbacks, Sequence):
        raise UserError(f"callbacks is of type {type(callbacks).__name__}: give a list, [EarlyStopping(2)]")
    for callback in callbacks:
        if not isinstance(callback, Callback):
            what = (
                f"the class {callback.__name__}" if isinstance(callback, type) else f"of type {type(callback).__name__}"
            )
            raise UserError(f"a callback is {what}: give objects of a subclass of nl.callbacks.Callback")


def _carried_out(
    setup: Setup,
    order: Order,
    run_file: RunFile | None,
    resume: bool,
    callbacks: Sequence[Callback],
    checkpoint_every_s: float,
) -> Fitted:
    """The run from its file, from where it stopped, or from its start."""
    if run_file is not None:
        prepare_folder(run_file.path.parent)
    with nullcontext() if run_file is None else run_file.held():
        earlier = None
        if run_file is not None:
            earlier = to_continue(run_file, order.own, setup.epochs, resume, RESUME)
            if earlier is None and resume:
                _warn_of_others(run_file, order)
        if earlier is not None and earlier["status"] == "finished":
            setup.model.load_state_dict(tensors(earlier["weights"]["digital"]))
            return _fitted(earlier, run_file, setup.model, Trainer(setup).chip)  # programmed and calibrated
        training = Trainer(setup)
        if earlier is not None:
            training.load(earlier)
        order = replace(order, facts=order.facts | {"started": (earlier or {}).get("started", now())})
        with term_said(), shown() as line:
            told = Told(line.run(order.name, setup.epochs))
            tree = Live(order, training, run_file, [*callbacks, told], checkpoint_every_s).go()
    return _fitted(tree, run_file, training.model, training.chip)


def _fitted(tree: Tree, run_file: RunFile | None, model: nn.Module, chip: Chip) -> Fitted:
    """The result of a run; one that a signal handler of the user's has ended has no scores."""
    return Fitted(
        None if run_file is None else run_file.path,
        {name: float(value) for name, value in tree.get("final", {}).items()},
        {name: float(value) for name, value in tree.get("baselines", {}).items()},
        {name: [float(value) for value in values] for name, values in tree["metrics"]["epoch"].items()},
        [float(loss) for loss in tree["metrics"]["step"]["loss"]],
        model,
        chip,
        tree.get("stopped_early", ""),
    )


def _warn_of_others(run_file: RunFile, order: Order) -> None:
    """Where a run is to go on, but what is unfinished is of another one: something that it is made of has changed."""
    paths = run_file.path.parent.glob(f"{glob.escape(order.name)}-*{SUFFIX}")
    if others := [path.name for path in paths if _is_unfinished(path)]:
        warnings.warn(
            f"{run_file.path.parent} has no unfinished run of these weights, data, settings and versions: it starts "
            f"anew ({', '.join(others[:3])}: other runs)",
            stacklevel=4,
        )


def _is_unfinished(path: Path) -> bool:
    try:
        return bool(RunFile(path).facts()["status"] == "running")
    except UserError:  # damaged, or of another kind
        return False


def _check_counts(least: int, **counts: Any) -> None:
    """Raise UserError for what is no whole number, or too small."""
    for what, count in counts.items():
        if not isinstance(count, int) or count < least:
            raise UserError(f"{what} {count!r}: give a whole number, at least {least}")


def _named(rule: Any, profile: HardwareProfile) -> tuple[Rule, bool]:
    """The rule of a name on the command line, and whether it decorrelates. Raises UserError where there is none."""
    if not isinstance(rule, str):
        what = f"the class {rule.__name__}" if isinstance(rule, type) else f"of type {type(rule).__name__}"
        raise UserError(f"the rule is {what}: give a rule, nl.rules.ANP(), or its name, 'anp'")
    name, decorrelated = split_label(rule)
    kind = rule_class(name)
    return kind(**kind.settled({}, label_options(rule), profile)), decorrelated


def _decorrelated(model: nn.Module, rate: float | None, wanted: bool) -> nn.Module:
    """A copy of the model, decorrelated where that is wanted. Raises UserError for a rate that has no effect."""
    if wanted:
        return decorrelate(model, DECORRELATION_RATE if rate is None else rate)
    if rate is not None:
        raise UserError("decorrelation_rate goes with a decorrelated rule, by name: 'danp', 'dlf'")
    return copy.deepcopy(model)


def _order(setup: Setup, facts: dict[str, str], callbacks: Sequence[Callback], label: str) -> Order:
    """What identifies the run, and how it is spoken of."""
    optimizer = begun(setup.optimizer, setup.model)
    lr = optimizer.param_groups[0]["lr"]
    settings: dict[str, Any] = {
        "task": facts["task"],
        "rule": label,
        "profile": setup.profile.name,
        **{option: getattr(setup.rule, option) for option in options_of(type(setup.rule))},
        "network": type(setup.model).__name__,
        "optimizer": settings_of(optimizer),
        "lr": lr,
        **{key: getattr(setup, key) for key in ("epochs", "batch", "weight_normalisation", "seed")},
        **{key: getattr(setup, key) for key in ("device", "kernels")},
        "own": {
            **facts, "rule": setup.rule.describe(), "structure": structure_of(setup.model),
            "weights": digest_of(setup.model.state_dict()),
            **{key: value for callback in callbacks for key, value in callback.settings().items()},
        },
    }  # fmt: skip
    found = versions()
    run_id = identity_of([settings, setup.profile.full_text, found["noisylearn"], found["torch"]])
    return Order(
        f"{facts['task']}-{label}-{setup.profile.name}-seed{setup.seed}",
        {"id": run_id, "config": json.dumps(settings), "profile": setup.profile.full_text},
        how_made(setup.rule, setup.profile, setup.device),
        settings,
        f"lower the learning rate (now {lr:g})"
        + ("" if setup.weight_normalisation else " or say weight_normalisation=True"),
        RESUME,
    )
