"""Build what a configuration asks for: data, network, optimizer, device."""

import math
import os
import platform
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from noisylearn import networks, tasks
from noisylearn.experiments.batches import TaskBatches
from noisylearn.experiments.config import TrainConfig
from noisylearn.experiments.schedules import Schedule
from noisylearn.experiments.setup import OptimizerOf, Setup
from noisylearn.ground.errors import UserError, unknown_name
from noisylearn.networks.decorrelation import decorrelate
from noisylearn.profiles import HardwareProfile
from noisylearn.tasks.own_file import is_own

UNFIT_OPTIMIZERS = {
    "lbfgs": "evaluates the loss several times a step",
    "sparseadam": "takes sparse gradients alone",
    "muon": "takes matrices alone, no biases",
}


def load_data(config: TrainConfig, data_dir: str | None, runs_files: bool = False) -> tasks.Task:
    """Load and check the data of a task.

    Args:
        config: names the task and the part to hold out.
        data_dir: folder with the data files; None for the default.
        runs_files: whether a task in a Python file may be loaded, which runs the file: where the user names it, and not
            where a run file does.

    Returns:
        The task.

    Raises:
        UserError: data is missing, not finite, or less than one batch; or in a Python file that is not to be run.
    """
    if is_own(config.task) and not runs_files:
        raise UserError(
            f"task {config.task} is in a Python file, which is not run because a run file names it; in Python give "
            "network and data to noisylearn.backends.lava.to_lava_net"
        )
    task = tasks.load(config.task, data_dir, config.held_out, config.seed, config.seq_len)
    for part in ("train_inputs", "train_targets", "test_inputs", "test_targets"):
        if not torch.isfinite(getattr(task, part)).all():
            raise UserError(f"task {config.task}: {part} holds values that are not finite; mend the data")
    if len(task.train_inputs) < config.batch:
        raise UserError(f"--batch {config.batch} is more than the {len(task.train_inputs)} training samples")
    return task


def build_setup(config: TrainConfig, profile: HardwareProfile, task: tasks.Task) -> Setup:
    """Build everything that a configuration asks for.

    Args:
        config: the configuration.
        profile: of the machine.
        task: its data.

    Raises:
        UserError: the network does not fit the data, or the data has no images to mirror.
    """
    if config.flips and task.train_inputs.dim() != 4:
        raise UserError(f"--flips: task {config.task} has no images (channels, height, width) to mirror")
    return Setup(
        build_model(config, task).to(config.device),
        profile,
        task,
        TaskBatches(task, config.batch, config.seed, config.device, config.flips),
        config.build_rule(),
        optimizer_named(config.optimizer, config.lr),
        Schedule.from_text(config.schedule),
        config.epochs,
        config.batch,
        config.batch_parts,
        config.weight_normalisation,
        config.seed,
        config.device,
        config.kernels,
    )


def build_model(config: TrainConfig, task: tasks.Task) -> nn.Module:
    """Build the network of a configuration, initialised from its seed.

    Args:
        config: states the network.
        task: gives the shape of inputs and the number of outputs.

    Returns:
        The network, on the CPU.

    Raises:
        UserError: the network does not fit the data.
    """
    if task.description.in_time:
        return _in_time(config, task)
    shape = tuple(task.input_shape)
    if config.network in networks.CONVNETS:
        model = networks.convnet(shape, task.n_outputs, config.seed, config.initialisation, config.network)
    else:
        model = networks.mlp(
            math.prod(shape), config.hidden, task.n_outputs, config.seed, config.activation, config.initialisation
        )
    return decorrelate(model, config.decorrelation_rate) if config.decorrelation_rate else model


def _in_time(config: TrainConfig, task: tasks.Task) -> nn.Module:
    if not config.hidden:
        raise UserError(f"--hidden is empty: network {config.network} needs hidden units to remember with")
    sizes = task.n_features, config.hidden, task.n_outputs
    if config.network == "rnn":
        return networks.RNN(*sizes, config.activation, config.decorrelation_rate, seed=config.seed)
    model = networks.Spiking(*sizes, config.neuron, threshold=config.threshold, reset=config.reset, seed=config.seed)
    return decorrelate(model, config.decorrelation_rate) if config.decorrelation_rate else model


def optimizer_named(name: str, lr: float) -> OptimizerOf:
    """What makes an optimizer of torch, with its defaults.

    Adam and AdamW are used in their fused form: the same arithmetic in one pass over the weights, in a tenth of the
    time.

    Args:
        name: name of a class of torch.optim, in either case.
        lr: learning rate.

    Raises:
        UserError: there is no such optimizer.
    """
    options = {"fused": True} if name.lower() in ("adam", "adamw") else {}
    return partial(optimizer_class(name), lr=lr, **options)


def optimizer_class(name: str) -> Callable[..., torch.optim.Optimizer]:
    """Look up an optimizer.

    Args:
        name: name of a class of torch.optim, in either case.

    Returns:
        The class.

    Raises:
        UserError: there is no such optimizer, or it cannot take the updates of learning rules.
    """
    known = {key.lower(): kind for key, kind in vars(torch.optim).items() if _is_optimizer(kind)}
    name = name.lower()
    if name in UNFIT_OPTIMIZERS:
        raise UserError(f"optimizer '{name}' {UNFIT_OPTIMIZERS[name]}; choose another, for example adam")
    if name not in known:
        raise unknown_name("optimizer", name, known.keys() - UNFIT_OPTIMIZERS.keys())
    return known[name]


def _is_optimizer(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer


def machine(device: str) -> str:
    """Describe the computer for a run file: processor, threads of torch, device.

    Args:
        device: a device of torch, such as "cuda:0".
    """
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    return f"{platform.machine()}, {torch.get_num_threads()} of {os.cpu_count()} cores, {name}"


def check_device(name: str) -> None:
    """Check that torch has a device.

    Args:
        name: "cpu", "cuda" or "cuda:<number>".

    Raises:
        UserError: it does not.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device '{name}': choose auto, cpu or cuda")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device '{name}': torch sees {torch.cuda.device_count()} CUDA devices; choose auto or cpu")
