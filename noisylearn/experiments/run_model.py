"""The trained network of a finished run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from noisylearn import networks
from noisylearn.experiments.config import TrainConfig
from noisylearn.experiments.run_file import RunFile
from noisylearn.ground.errors import UserError
from noisylearn.ground.tree_file import tensors
from noisylearn.networks.decorrelation import decorrelate
from noisylearn.profiles import HardwareProfile, profile_from_text


@dataclass(frozen=True, eq=False)
class TrainedRun:
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


def trained_run(run_file: Path) -> TrainedRun:
    """Read a finished run.

    Args:
        run_file: path of its file.

    Returns:
        The run, its network in evaluation mode.

    Raises:
        UserError: there is no such file, it is no run file, the run is not finished, or the network does not fit.
    """
    if not run_file.exists():
        raise UserError(f"run file {run_file}: there is no such file")
    tree = RunFile(run_file).read()
    if tree["status"] != "finished":
        raise UserError(f"run file {run_file}: the run is not finished; continue it with noisylearn train --resume")
    config = TrainConfig.of_run(tree, run_file)
    weights = tensors(tree["weights"]["digital"])
    try:
        model = _network(config, weights)
        model.load_state_dict(weights)
    except (KeyError, RuntimeError) as error:
        raise UserError(f"run file {run_file}: weights do not fit: {' '.join(str(error).split())}") from None
    updates = tree["final"]["weight_updates"] / tree["step"]
    return TrainedRun(config, profile_from_text(tree["profile"], f"in {run_file}"), model.eval(), updates)


def _network(config: TrainConfig, weights: Mapping[str, Tensor]) -> nn.Module:
    """An untrained network with the sizes of the weights."""
    if config.network in networks.CONVNETS:
        raise UserError(
            f"network {config.network} has convolutions, which the exchange of networks does not carry; train an mlp"
        )
    rate = config.decorrelation_rate
    parts = {
        name: _shape(weights, name) for name in [*(f"hidden{i + 1}" for i in range(len(config.hidden))), "readout"]
    }
    n_in, n_out = next(iter(parts.values()))[1], parts["readout"][0]
    if config.network == "rnn":
        return networks.RNN(n_in - config.hidden[0], config.hidden, n_out, config.activation, rate)
    if config.network == "spiking":
        model: nn.Module = networks.Spiking(
            n_in, config.hidden, n_out, config.neuron, threshold=config.threshold, reset=config.reset
        )
    else:
        model = networks.mlp(n_in, config.hidden, n_out, activation=config.activation)
    return decorrelate(model, rate) if rate else model


def _shape(weights: Mapping[str, Tensor], name: str) -> torch.Size:
    found: Tensor = weights[f"{name}.layer.weight" if f"{name}.layer.weight" in weights else f"{name}.weight"]
    return found.shape
