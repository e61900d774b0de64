"""The trained network of a finished run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from torch import Tensor, nn

from noisylearn import networks
from noisylearn.experiments.config import TrainConfig
from noisylearn.experiments.run_file import RunFile
from noisylearn.ground.errors import UserError, shortened
from noisylearn.ground.table import Shown, Table
from noisylearn.ground.tree_file import tensors
from noisylearn.networks.decorrelation import decorrelate
from noisylearn.profiles import HardwareProfile, profile_from_text


@dataclass(frozen=True, eq=False, repr=False)
class TrainedRun(Shown):
    """A finished run.

    Args:
        config: its configuration.
        profile: profile of its machine.
        model: the network, with the digital weights at the end of the run.
        updates_per_batch: weight updates per batch; more than one for online updates along sequences.
    """

    config: TrainConfig
    profile: HardwareProfile
    model: nn.Module
    updates_per_batch: float

    def __repr__(self) -> str:
        return f"<TrainedRun: {self.config.label} on {self.config.profile}, task {self.config.task}>"

    def tables(self) -> list[Table]:
        """Settings of the run and parameters of its network."""
        settings = [[key, f"{value}"] for key, value in self.config.model_dump(mode="json").items()]
        shapes = [[name, " x ".join(map(str, one.shape))] for name, one in self.model.named_parameters()]
        return [Table(repr(self), ["setting", "value"], settings), Table("network", ["parameter", "shape"], shapes)]


def trained_run(run_file: Path) -> TrainedRun:
    """Read a finished run.

    Args:
        run_file: path of its file.

    Returns:
        The run, its network in evaluation mode.

    Raises:
        UserError: there is no such file, it is no run file, the run is not finished, or the network does not fit.
    """
    tree = RunFile(run_file).read()
    if tree["status"] != "finished":
        raise UserError(f"run file {run_file}: the run is not finished; continue it with noisylearn train --resume")
    config = TrainConfig.of_run(tree, run_file)
    weights = tensors(tree["weights"]["digital"])
    sizes = _sizes(config, weights, run_file)
    model = fitting(lambda: _network(config, *sizes), config, weights, run_file)
    updates = tree["final"]["weight_updates"] / tree["step"]
    return TrainedRun(config, profile_from_text(tree["profile"], f"in {run_file}"), model.eval(), updates)


def fitting(
    build: Callable[[], nn.Module], config: TrainConfig, weights: Mapping[str, Tensor], run_file: Path
) -> nn.Module:
    """Build a network, and give it the weights of a run if they are those of such a network.

    Args:
        build: makes the network.
        config: of the run; a file may claim any size in it.
        weights: of the run, by name.
        run_file: its path, for the message.

    Raises:
        UserError: they are not.
    """
    stated = f"run file {run_file}: weights do not fit the configuration"
    claimed = sum(config.hidden) + sum(below * above for below, above in pairwise(config.hidden))
    if config.network not in networks.CONVNETS and claimed > sum(tensor.numel() for tensor in weights.values()):
        raise UserError(f"{stated}: fewer than {len(config.hidden)} hidden layers of its sizes have")
    model = build()
    expected, found = ({name: tuple(t.shape) for name, t in of.items()} for of in (model.state_dict(), weights))
    for name in dict.fromkeys([*expected, *found]):
        if expected.get(name) != found.get(name):
            is_there, is_due = (of.get(name, "missing") for of in (found, expected))
            raise UserError(f"{stated}: {shortened(name)} is {is_there}, not {is_due}")
    model.load_state_dict(weights)
    return model


def _sizes(config: TrainConfig, weights: Mapping[str, Tensor], run_file: Path) -> tuple[int, int]:
    """Inputs of the first layer and outputs of the last one, as the weights have them."""
    first, last = (
        weights.get(f"{name}.layer.weight", weights.get(f"{name}.weight"))
        for name in ("hidden1" if config.hidden else "readout", "readout")
    )
    if config.network in networks.CONVNETS:
        raise UserError(
            f"network {config.network} has convolutions, which the exchange of networks does not carry; train an mlp"
        )
    if first is None or last is None or first.dim() != 2 or last.dim() != 2 or not (first.numel() and last.numel()):
        raise UserError(f"run file {run_file}: weights do not fit the configuration: no first and last layer")
    return first.shape[1], last.shape[0]


def _network(config: TrainConfig, n_columns: int, n_out: int) -> nn.Module:
    """An untrained network whose first layer has so many columns."""
    rate = config.decorrelation_rate
    if config.network == "rnn":
        return networks.RNN(n_columns - config.hidden[0], config.hidden, n_out, config.activation, rate)
    if config.network == "spiking":
        model: nn.Module = networks.Spiking(
            n_columns, config.hidden, n_out, config.neuron, threshold=config.threshold, reset=config.reset
        )
    else:
        model = networks.mlp(n_columns, config.hidden, n_out, activation=config.activation)
    return decorrelate(model, rate) if rate else model
