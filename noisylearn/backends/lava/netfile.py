"""The file that carries a network to Lava: netlist, rule, profile, data, draws, and what torch learned with them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PlainValidator, model_validator

from noisylearn.backends.losses import LOSSES
from noisylearn.backends.netlist.rate import INPUT, Netlist
from noisylearn.backends.netlist.stored import StoredNetlist
from noisylearn.ground.errors import UserError
from noisylearn.ground.stored import Stored, Text, must, numbers
from noisylearn.ground.tree_file import Tree, TreeFile
from noisylearn.profiles import HardwareProfile, profile_from_text
from noisylearn.rules import REGISTRY, Rule, rule_class
from noisylearn.rules.options import typed

Array = NDArray[np.float64]


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

    def counting(self, n_steps: int) -> NDArray[np.bool_]:
        """Of which of so many steps the loss of any sample counts, (steps,); the data starts again at its end.

        Args:
            n_steps: number of steps that run.
        """
        counting = np.asarray(self.counts.any(axis=1))
        return counting[np.arange(n_steps) % self.steps]


class _Data(Stored):
    inputs: Annotated[Array, PlainValidator(numbers(dims=3))]
    targets: Annotated[NDArray[Any], PlainValidator(numbers("fiu"))]
    counts: Annotated[Array, PlainValidator(numbers(dims=2))]
    rates: Annotated[Array, PlainValidator(numbers(dims=1))]


class _Net(Stored):
    """What a network file holds; its parts fit together."""

    kind: Literal["network for Lava"]
    netlist: StoredNetlist
    rule: Annotated[Rule, PlainValidator(lambda text: _rule(text))]
    profile: Annotated[HardwareProfile, PlainValidator(lambda text: _profile(text))]
    loss: Annotated[str, must(lambda name: name in LOSSES, f"none of {', '.join(LOSSES)}")]
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    period: Annotated[int, Field(ge=0)]
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    data: _Data
    draws: dict[str, Annotated[Array, PlainValidator(numbers())]]
    torch: dict[str, Annotated[Array, PlainValidator(numbers(finite=False))]]
    facts: Text

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        _check_data(self)
        _check_learned(self)
        return self


def _rule(text: Any) -> Rule:
    """The rule of a JSON text. Raises ValueError where it is none."""
    try:
        options = json.loads(text)
        kind = rule_class(options.pop("name"))
        return kind(**typed(kind, options))
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"no rule of this version: {error}") from None


def _profile(text: Any) -> HardwareProfile:
    """The profile of a text. Raises ValueError where it is none."""
    if not isinstance(text, str):
        raise ValueError("no text of a profile")
    return profile_from_text(text)


def _check_data(net: _Net) -> None:
    """Raises ValueError unless data and draws are of this network and of the same steps."""
    data, populations = net.data, list(net.netlist.populations.values())
    sizes = {p.name: p.size for p in populations}
    n_in, n_out = sizes[INPUT], net.netlist.populations[str(len(populations) - 1)].size
    steps, batch, features = data.inputs.shape
    labels = net.loss == "cross-entropy"
    if not (steps and batch and features == n_in and (not net.period or steps % net.period == 0)):
        raise ValueError(f"inputs of shape {data.inputs.shape} for {n_in} features, sequences of {net.period} steps")
    if data.targets.shape != ((steps, batch) if labels else (steps, batch, n_out)):
        raise ValueError(f"targets of shape {data.targets.shape}")
    if labels and (data.targets.dtype.kind == "f" or not ((data.targets >= 0) & (data.targets < n_out)).all()):
        raise ValueError(f"labels that are no classes of {n_out}")
    if not labels and data.targets.dtype.kind != "f":
        raise ValueError("targets that are no floating-point numbers")
    if data.counts.shape != (steps, batch) or data.rates.shape != (steps,):
        raise ValueError(f"counts or rates of other than {steps} steps")
    if (data.counts < 0).any() or (data.rates < 0).any():
        raise ValueError("counts or rates below 0")
    for name, drawn in net.draws.items():
        if drawn.ndim < 2 or drawn.shape[0] not in (1, steps) or drawn.dtype != np.float64:
            raise ValueError(f"draws {name} of shape {drawn.shape} for {steps} steps")


def _check_learned(net: _Net) -> None:
    """Raises ValueError unless there is what torch learned, for every array that can be learned."""
    shapes: dict[str, tuple[int, ...]] = {"losses": (len(net.data.inputs),)}
    for c in net.netlist.connections.values():
        rows, columns = c.weight.shape
        before = shapes.get(f"{c.layer}.weight", (rows, 0))[1]
        shapes[f"{c.layer}.weight"] = rows, before + columns
        shapes |= {} if c.bias is None else {f"{c.layer}.bias": (rows,)}
        below = next(p for p in net.netlist.populations.values() if p.name == c.source)
        if below.decorrelation is not None and not c.delayed:
            shapes[f"{c.layer}.matrix"] = below.size, below.size
    for name, shape in shapes.items():
        if name not in net.torch or net.torch[name].shape != shape:
            raise ValueError(f"torch: {name} is missing or of another shape than {shape}")


@final
class NetFile(TreeFile[LavaNet]):
    """The HDF5 file of a `LavaNet`."""

    what, mend = "network file", "write it again with noisylearn export"

    def checked(self, tree: Tree) -> LavaNet:
        """The network, once names, types, shapes and bounds were checked, and that all of it fits together."""
        net = _Net.model_validate(tree)
        data = net.data
        return LavaNet(
            net.netlist.netlist(), net.rule, net.profile, net.loss, net.lr, net.period, net.seed,
            data.inputs, data.targets, data.counts, data.rates, net.draws, net.torch, net.facts,
        )  # fmt: skip


def write_net(path: str | Path, net: LavaNet, force: bool = False) -> None:
    """Write a network file; another process never sees half of it.

    Args:
        path: the file to write.
        net: its content.
        force: whether to replace whatever is there.

    Raises:
        UserError: the file cannot be written, something else than a network file is there, or the rule is none of this
            package: a file names its rule and carries no code.
    """
    if REGISTRY.get(net.rule.name) is not type(net.rule):
        raise UserError(
            f"rule {type(net.rule).__name__} is none of this package, and a network file carries no code; run "
            "your own rule in the emulator from Python, see docs/loihi.md"
        )
    file = NetFile(path)
    file.check_free(force)
    file.write(
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
        },
        force,
    )


def read_net(path: str | Path) -> LavaNet:
    """Read a network file.

    Args:
        path: the file.

    Raises:
        UserError: it is damaged, or of another kind.
    """
    return NetFile(path).read()
