"""From a run of torch to a network file for Lava, with draws to replay and the weights that torch learns with them."""

import copy
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from noisylearn import tasks
from noisylearn.backends.lava.netfile import Array, LavaNet
from noisylearn.backends.lava.process_specs import why_not
from noisylearn.backends.losses import LOSSES
from noisylearn.backends.netlist.rate import from_model
from noisylearn.chips.simulated import Chip
from noisylearn.experiments.build import build_model, load_data
from noisylearn.experiments.config import TrainConfig
from noisylearn.experiments.run_file import RunFile
from noisylearn.experiments.run_model import fitting
from noisylearn.ground.draws import RecordedDraws
from noisylearn.ground.errors import UserError
from noisylearn.ground.tree_file import tensors
from noisylearn.networks.decorrelation import decorrelations
from noisylearn.profiles import HardwareProfile, load_profile, profile_from_text
from noisylearn.rules import Rule

PROBED = 1000  # samples on which a loss is compared
LossFn = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Data:
    """Samples in the order in which they are learned, float64.

    Args:
        inputs: (steps, batch, n).
        targets: (steps, batch, ...).
        counts: (steps, batch), 0 where a loss does not count.
        period: steps of a sequence; 0 for single samples.
        loss_fn: torch function of outputs (rows, n_outputs) and targets (rows, ...), giving (rows,).
        rates: relative learning rate of every step, (steps,), for single samples; None for 1.
    """

    inputs: Tensor
    targets: Tensor
    counts: Tensor
    period: int
    loss_fn: LossFn
    rates: Tensor | None = None

    @property
    def every_rate(self) -> Tensor:
        """Relative learning rate of every step, (steps,).

        Raises:
            UserError: rates are given along sequences.
        """
        if self.rates is None:
            return torch.ones(len(self.inputs), dtype=torch.float64)
        if self.period:
            raise UserError("rates go with single samples: along sequences the rule steps the optimizer itself")
        return self.rates


def export_run(
    path: Path,
    steps: int = 500,
    batch: int = 1,
    lr: float | None = None,
    initial: bool = False,
    profile: HardwareProfile | None = None,
    data_dir: str | None = None,
) -> LavaNet:
    """A network file's content for a finished run: its network, rule and profile, and steps of its training data.

    Args:
        path: the run file.
        steps: number of steps.
        batch: samples, or sequences, of one step.
        lr: learning rate of plain gradient steps; None for that of the run, if it took such steps.
        initial: the weights that the run began with, in place of those it ended with.
        profile: in place of that of the run.
        data_dir: folder of the task's data.

    Raises:
        UserError: the run is not finished, took no plain gradient steps, or has a rule or a network without a form as
            Lava processes.
    """
    tree = RunFile(path).read()
    config = TrainConfig.of_run(tree, path)
    if tree["status"] != "finished" and not initial:
        raise UserError(f"run file {path} is not finished: finish it with train --resume, or export --initial weights")
    profile = profile or profile_from_text(tree["profile"], str(path))
    task = load_data(config, data_dir)
    if initial:
        model = build_model(config, task)
    else:
        weights = tensors(tree["weights"]["digital"])
        model = fitting(lambda: build_model(config, task), config, weights, path)
    data = training_data(task, steps, batch, config.seed)
    return to_lava_net(
        model, config.build_rule(), profile, data, _rate(config, lr), config.seed, config.model_dump_json()
    )


def to_lava_net(
    model: nn.Module,
    rule: Rule,
    profile: str | HardwareProfile,
    data: Data,
    lr: float,
    seed: int = 0,
    facts: str = "{}",
) -> LavaNet:
    """A network file's content for a model, and for any rule that Lava processes can execute.

    Torch learns along by the rule itself, in float64, so that its draws can be replayed and its weights compared.

    Args:
        model: the network; it is left as it is.
        rule: the learning rule.
        profile: the hardware profile, or its name.
        data: the samples.
        lr: learning rate of plain gradient steps.
        seed: of torch's draws.
        facts: of the run that the model came from, JSON.

    Raises:
        UserError: model, rule, profile or loss has no such form, or the learning rate is no positive number.
    """
    if not (math.isfinite(lr) and lr > 0):
        raise UserError(f"learning rate {lr}: give a positive number")
    profile = load_profile(profile)
    model = copy.deepcopy(model).cpu().double()
    netlist = from_model(model)
    if frozen := [name for name, parameter in model.named_parameters() if not parameter.requires_grad]:
        raise UserError(
            f"{', '.join(frozen)}: frozen here, but Lava processes learn in every connection; unfreeze them"
        )
    if reason := why_not(rule, profile, netlist):
        raise UserError(reason)
    rule.check(profile)
    loss = _name_of(data.loss_fn, data)
    draws = RecordedDraws(seed, dtype=torch.float64)
    expected = _learned_by_torch(model, rule, profile, data, lr, draws)
    return LavaNet(
        netlist, rule, profile, loss, lr, data.period, seed,
        data.inputs.numpy(), data.targets.numpy(), data.counts.numpy(), data.every_rate.numpy(),
        {"|".join(name): _stacked(numbers, len(data.inputs)) for name, numbers in draws.record.items()},
        expected, facts,
    )  # fmt: skip


def training_data(task: tasks.Task, steps: int, batch: int, seed: int = 0) -> Data:
    """The first steps of a task's training part, in an order drawn from the seed; it starts again at its end.

    Args:
        task: single samples, or sequences.
        steps: number of steps; of sequences, as many whole ones are taken as contain so many steps.
        batch: samples, or sequences, of one step.
        seed: of the order.

    Raises:
        UserError: `steps` or `batch` is below 1, or the task has fewer samples than `batch`.
    """
    if steps < 1 or batch < 1:
        raise UserError(f"--steps {steps}, --batch {batch}: give at least 1 of both")
    if batch > len(task.train_inputs):
        raise UserError(f"--batch {batch}: the task has {len(task.train_inputs)} training samples")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(task.train_inputs), generator=generator)
    period = len(task.steps(task.train_inputs[:1], task.train_targets[:1]).inputs)
    rows = order[torch.arange(math.ceil(steps / period) * batch) % len(order)]  # whole sequences
    parts = [task.steps(task.train_inputs[some], task.train_targets[some]) for some in rows.split(batch)]
    inputs, targets, counts = (
        torch.cat([getattr(part, key) for part in parts]) for key in ("inputs", "targets", "counts")
    )
    in_time = task.description.in_time
    return Data(inputs.double().flatten(2), _widened(targets), counts.double(), period if in_time else 0, task.loss_fn)


def _learned_by_torch(
    model: nn.Module, rule: Rule, profile: HardwareProfile, data: Data, lr: float, draws: RecordedDraws
) -> dict[str, Array]:
    """Weights, biases and decorrelating matrices after one update a step, and the loss of every step."""
    chip = Chip(model, profile, draws=draws)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    losses = []
    for (x, y, counts), rate in zip(_segments(data), data.every_rate.tolist(), strict=False):
        if data.period:
            losses.append(rule.run(chip, x, y, data.loss_fn, optimizer, counts))
            continue
        loss = rule.estimate(chip, x[0], functools.partial(_loss_of, data.loss_fn, y[0]))
        losses.append(loss.reshape(1))
        optimizer.param_groups[0]["lr"] = lr * rate
        optimizer.step()
        chip.program()
    found: dict[str, Tensor] = {
        f"{name}.{key}": p for name, layer in chip.layers.items() for key, p in layer.named_parameters()
    }
    found |= {f"{name}.matrix": module.matrix for name, module in decorrelations(model).items()}
    return {key: value.detach().numpy().copy() for key, value in found.items()} | {"losses": torch.cat(losses).numpy()}


def _loss_of(loss_fn: LossFn, target: Tensor, output: Tensor) -> Tensor:
    """The loss with the arguments in the order in which `partial` needs them."""
    return loss_fn(output, target)


def _segments(data: Data) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Single samples, or whole sequences."""
    length = data.period or 1
    parts = (part.split(length) for part in (data.inputs, data.targets, data.counts))
    return list(zip(*parts, strict=True))


def _name_of(loss_fn: LossFn, data: Data) -> str:
    """Name of the numpy loss that gives the same numbers; refused where there is none."""
    target = data.targets.flatten(0, 1)[:PROBED]
    labels = target.dim() == 1
    n_outputs = int(data.targets.max()) + 1 if labels else target.shape[-1]
    if labels:
        target = torch.cat([target, torch.arange(n_outputs)])
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(len(target), n_outputs, generator=generator, dtype=torch.float64)
    probes = [outputs * scale for scale in (0.1, 1.0, 10.0)]
    wanted = [loss_fn(probe, target).numpy() for probe in probes]
    for name, loss in LOSSES.items():
        if (name == "cross-entropy") == labels:
            found = [loss(probe.numpy(), target.numpy()) for probe in probes]
            pairs = list(zip(found, wanted, strict=True))
            if all(f.shape == w.shape and np.allclose(f, w, rtol=1e-9, atol=1e-12) for f, w in pairs):
                return name
    raise UserError(f"this task's loss has no form outside torch; known: {', '.join(LOSSES)}")


def _rate(config: TrainConfig, lr: float | None) -> float:
    """The learning rate stated, or that of a run of plain gradient steps."""
    if lr is not None:
        return lr
    if config.optimizer == "sgd" and config.schedule == "constant":
        return config.lr
    raise UserError(
        f"the run used optimizer {config.optimizer} with schedule {config.schedule}; connections on a chip take plain "
        "gradient steps of constant size: state one with --lr"
    )


def _stacked(numbers: list[Tensor], steps: int) -> Array:
    """Numbers of one stream, (steps, draws of a step, ...); (1, draws, ...) of what is drawn once for a neuron."""
    return torch.stack(numbers).unflatten(0, (1 if len(numbers) % steps else steps, -1)).numpy()


def _widened(targets: Tensor) -> Tensor:
    """Values in float64, labels as they are."""
    return targets.double() if targets.is_floating_point() else targets
