"""Integer LIF networks executed by Lava's own LIF and Dense processes (fixed point), in a process of their own."""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisylearn.backends.lava.compat import require_lava
from noisylearn.backends.lava.group import run_in_group
from noisylearn.backends.loihi.lif import Counts, Dense, Lif, LifNetwork, LifResult
from noisylearn.ground.errors import UserError

TIMEOUT_S = 120.0


def run_lif_in_lava(network: LifNetwork, inputs: NDArray[Any], timeout_s: float = TIMEOUT_S) -> LifResult:
    """Run an integer LIF network in Lava, in a process group of its own that is gone afterwards.

    Args:
        network: the integers, from `quantise_spiking`.
        inputs: spikes of one sample, 0 or 1, (time, 1, n_in).
        timeout_s: seconds after which the group is ended.

    Returns:
        What `noisylearn.backends.loihi.lif.run_lif` gives, bit for bit, with counts of 0: Lava counts nothing.

    Raises:
        UserError: Lava is missing, fails (with the last line of its traceback) or takes longer than `timeout_s`, or
            there is more than one sample.
    """
    if inputs.ndim != 3 or inputs.shape[1] != 1:
        raise UserError(f"input spikes of shape {inputs.shape}: Lava runs one sample at a time; give (time, 1, n_in)")
    require_lava()
    with tempfile.TemporaryDirectory(prefix="noisylearn-lif-") as folder:
        write_arrays(Path(folder) / "network.npz", _packed(network) | {"inputs": inputs[:, 0].astype(np.int32)})
        run_in_group([sys.executable, "-m", "noisylearn.backends.lava.lif_child", folder], Path(folder), timeout_s)
        with np.load(Path(folder) / "spikes.npz", allow_pickle=False) as found:
            spikes = tuple(found[f"spikes{i}"][:, None].astype(bool) for i in range(len(network.layers)))
            readout = found["readout"][:, None].astype(np.int32) if network.readout is not None else None
    return LifResult(spikes, readout, Counts())


def _packed(network: LifNetwork) -> dict[str, Any]:
    """A network as flat names and arrays."""
    packed: dict[str, Any] = {"n_layers": len(network.layers)}
    for i, layer in enumerate(network.layers):
        packed |= {f"{i}/{key}": getattr(layer, key) for key in _FIELDS}
        packed |= _packed_dense(f"{i}/into", layer.into) | _packed_dense(f"{i}/recurrent", layer.recurrent)
    return packed | _packed_dense("readout", network.readout)


_FIELDS = ("du", "dv", "threshold", "bias_mantissa", "bias_exponent", "u_start", "v_start")


def _packed_dense(name: str, dense: Dense | None) -> dict[str, Any]:
    """Weights as flat names and arrays."""
    return {} if dense is None else {f"{name}/weight": dense.weight, f"{name}/exponent": dense.exponent}


def unpacked(packed: Mapping[str, NDArray[Any]]) -> LifNetwork:
    """The network that `_packed` took apart.

    Args:
        packed: flat name -> array.
    """

    def dense(name: str) -> Dense | None:
        if f"{name}/weight" not in packed:
            return None
        return Dense(packed[f"{name}/weight"], int(packed[f"{name}/exponent"]))

    layers: list[Lif] = []
    for i in range(int(packed["n_layers"])):
        values = {key: packed[f"{i}/{key}"] for key in _FIELDS}
        numbers: dict[str, Any] = {key: value if value.ndim else int(value) for key, value in values.items()}
        into = dense(f"{i}/into")
        assert into is not None
        layers.append(Lif(into=into, recurrent=dense(f"{i}/recurrent"), **numbers))
    return LifNetwork(tuple(layers), dense("readout"))


def write_arrays(file: Path, arrays: Mapping[str, Any]) -> None:
    """Write named arrays into an .npz file, without pickled objects.

    Args:
        file: its path.
        arrays: name -> array.
    """
    np.savez(file, allow_pickle=False, **{name: np.asarray(array) for name, array in arrays.items()})
