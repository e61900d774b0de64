"""The file that carries a network to Lava: netlist, rule, profile, data, draws, and what torch learned with them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from noisylearn.backends.losses import LOSSES
from noisylearn.backends.netlist.rate import Netlist, from_tree
from noisylearn.ground.errors import UserError
from noisylearn.ground.tree_file import Tree, TreeFile
from noisylearn.profiles import HardwareProfile, profile_from_text
from noisylearn.rules import REGISTRY, Rule, rule_class

Array = NDArray[np.float64]
KEYS = {"kind", "netlist", "rule", "profile", "loss", "lr", "period", "seed", "data", "draws", "torch", "facts"}


@dataclass(frozen=True, eq=False)
class LavaNet:
    """A network, and everything that its learning needs.

    Args:
        netlist: the float network.
        rule: the learning rule.
        profile: the hardware profile.
        loss: name in `noisylearn.backends.losses.LOSSES`.
        lr: learning rate of plain gradient steps.
        period: steps of a sequence; 0 for single samples.
        seed: of the draws.
        inputs: (steps, batch, features).
        targets: (steps, batch, ...).
        counts: (steps, batch), 0 where a loss does not count.
        rates: learning rates relative to `lr`, (steps,).
        draws: name of a random stream in torch -> its numbers, (steps, draws of a step, ...) or, where they were drawn
            once, (1, draws, ...), to be replayed.
        torch: what torch learned with the same draws after `steps` updates: "layer.weight", "layer.bias",
            "population.matrix", and the loss of every step, "losses".
        facts: of the run that it came from, JSON.
    """

    netlist: Netlist
    rule: Rule
    profile: HardwareProfile
    loss: str
    lr: float
    period: int
    seed: int
    inputs: Array
    targets: NDArray[Any]
    counts: Array
    rates: Array
    draws: dict[str, Array]
    torch: dict[str, Array]
    facts: str

    @property
    def steps(self) -> int:
        """Number of steps of data, and of draws."""
        return len(self.inputs)

    @property
    def batch(self) -> int:
        """Number of samples, or sequences, of one step."""
        return int(self.inputs.shape[1])


@final
class NetFile(TreeFile):
    """The HDF5 file of a `LavaNet`."""

    what, mend = "network file", "write it again with noisylearn export"

    def missing(self, tree: Tree) -> set[str]:
        """Entries that a network file has and this one has not."""
        return KEYS - set(tree)


def write_net(path: str | Path, net: LavaNet) -> None:
    """Write a network file; another process never sees half of it.

    Args:
        path: the file to write.
        net: its content.

    Raises:
        UserError: the file cannot be written, or the rule is none of this package: a file names its rule and carries no
            code.
    """
    if REGISTRY.get(net.rule.name) is not type(net.rule):
        raise UserError(
            f"rule {type(net.rule).__name__} is none of this package, and a network file carries no code; run "
            "your own rule in the emulator from Python, see docs/loihi.md"
        )
    NetFile(path).write(
        {
            "kind": "network for Lava",
            "netlist": net.netlist.tree(),
            "rule": json.dumps({"name": net.rule.name, **asdict(net.rule)}),
            "profile": net.profile.full_text,
            "loss": net.loss,
            "lr": net.lr,
            "period": net.period,
            "seed": net.seed,
            "data": {"inputs": net.inputs, "targets": net.targets, "counts": net.counts, "rates": net.rates},
            "draws": net.draws,
            "torch": net.torch,
            "facts": net.facts,
        }
    )


def read_net(path: Path) -> LavaNet:
    """Read a network file.

    Args:
        path: the file.

    Raises:
        UserError: it is damaged, or of another kind.
    """
    tree = NetFile(path).read()
    try:
        return _net(tree)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"network file {path}: does not fit together ({error}); {NetFile.mend}") from None


def _net(tree: Mapping[str, Any]) -> LavaNet:
    """The content of a file's tree."""
    options = json.loads(tree["rule"])
    if tree["loss"] not in LOSSES:
        raise KeyError(f"unknown loss {tree['loss']}")
    data = tree["data"]
    return LavaNet(
        from_tree(tree["netlist"]),
        rule_class(options.pop("name"))(**options),
        profile_from_text(tree["profile"]),
        str(tree["loss"]),
        float(tree["lr"]),
        int(tree["period"]),
        int(tree["seed"]),
        data["inputs"],
        data["targets"],
        data["counts"],
        data["rates"],
        dict(tree["draws"]),
        dict(tree["torch"]),
        str(tree["facts"]),
    )
