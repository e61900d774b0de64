"""What a training is made of; `TrainConfig` and `noisylearn.fit` both give one to the `Trainer`."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn
from torch.optim import Optimizer

from noisylearn import tasks
from noisylearn.experiments.batches import Batches
from noisylearn.experiments.schedules import Schedule
from noisylearn.profiles import HardwareProfile
from noisylearn.rules import Rule

OptimizerOf = Callable[[list[nn.Parameter]], Optimizer]


@dataclass(frozen=True, eq=False)
class Setup:
    """A network, its machine, its data, and how it learns.

    Args:
        model: the network, on its device.
        profile: of the machine that it is placed on.
        task: loss, scores, trivial baselines, the held-out part, and samples to calibrate with and to look at.
        batches: what is trained on, step by step.
        rule: the learning rule.
        optimizer: parameters -> optimizer.
        schedule: how its settings change from step to step.
        epochs: passes over the data.
        batch: samples of a step, for measurements.
        batch_parts: parts of a batch with noise of their own, which processes may share.
        weight_normalisation: whether every neuron keeps the norm of its incoming weights.
        seed: of all random numbers.
        device: of torch.
        kernels: whether kernels read and write the devices.
    """

    model: nn.Module
    profile: HardwareProfile
    task: tasks.Task
    batches: Batches
    rule: Rule
    optimizer: OptimizerOf
    schedule: Schedule
    epochs: int
    batch: int
    batch_parts: int = 1
    weight_normalisation: bool = False
    seed: int = 0
    device: str = "cpu"
    kernels: bool = False
