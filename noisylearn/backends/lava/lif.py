"""Integer LIF networks executed by Lava's own LIF and Dense processes (fixed point), in a process of their own.

`python -m noisylearn.backends.lava.lif FOLDER` executes FOLDER/network.npz and leaves FOLDER/spikes.npz.
"""

import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisylearn.backends.lava.compat import load_lava, require_lava
from noisylearn.backends.lava.group import end_with_parent, last_words, process_group
from noisylearn.backends.loihi.lif import Counts, Dense, Lif, LifNetwork, LifResult
from noisylearn.ground.errors import UserError

TIMEOUT_S = 120.0


def run_lif_in_lava(network: LifNetwork, inputs: NDArray[Any], timeout_s: float = TIMEOUT_S) -> LifResult:
    """What `noisylearn.backends.loihi.lif.run_lif` gives for one sample, inputs (time, 1, n_in), executed by Lava.

    Lava runs in a child process with a process group of its own, which is ended whole, whatever happens.
    Lava counts nothing: counts are zero.
    Raises UserError where Lava is missing, fails (with the last line of its traceback) or takes longer than timeout_s.
    """
    if inputs.ndim != 3 or inputs.shape[1] != 1:
        raise UserError(f"input spikes of shape {inputs.shape}: Lava runs one sample at a time; give (time, 1, n_in)")
    require_lava()
    with tempfile.TemporaryDirectory(prefix="noisylearn-lif-") as folder:
        _write(Path(folder) / "network.npz", _packed(network) | {"inputs": inputs[:, 0].astype(np.int32)})
        _in_child([sys.executable, "-m", "noisylearn.backends.lava.lif", folder], Path(folder), timeout_s)
        with np.load(Path(folder) / "spikes.npz", allow_pickle=False) as found:
            spikes = tuple(found[f"spikes{i}"][:, None].astype(bool) for i in range(len(network.layers)))
            readout = found["readout"][:, None].astype(np.int32) if network.readout is not None else None
    return LifResult(spikes, readout, Counts())


def _in_child(command: list[str], folder: Path, timeout_s: float) -> None:
    """Runs a command in a process group of its own, which is gone afterwards."""
    with process_group(command, folder) as child:
        try:
            child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise UserError(f"Lava did not finish within {timeout_s:g} s and was ended; give more timeout_s") from None
    if child.returncode:
        said = last_words(folder).splitlines() or [f"exit status {child.returncode}"]
        raise UserError(f"Lava stopped: {said[-1]}")


def _execute(network: LifNetwork, inputs: NDArray[np.int32]) -> dict[str, NDArray[Any]]:
    """Builds Lava's processes, runs them over inputs (time, n_in) and collects what arrives in ring buffers."""
    load_lava()
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi1SimCfg
    from lava.proc.io.sink import RingBuffer as Sink
    from lava.proc.io.source import RingBuffer as Source
    from lava.proc.lif.process import LIF

    n_steps = len(inputs)
    source = Source(data=np.ascontiguousarray(inputs.T))
    below, sinks = source.s_out, {}
    for i, layer in enumerate(network.layers):
        n = len(layer.bias_mantissa)
        neurons = LIF(
            shape=(n,), u=layer.u_start, v=layer.v_start, du=layer.du, dv=layer.dv, vth=layer.threshold,
            bias_mant=layer.bias_mantissa, bias_exp=np.full(n, layer.bias_exponent),
        )  # fmt: skip
        _connect(layer.into, below, neurons.a_in)
        if layer.recurrent is not None:
            _connect(layer.recurrent, neurons.s_out, neurons.a_in)
        sinks[f"spikes{i}"] = Sink(shape=(n,), buffer=n_steps)
        neurons.s_out.connect(sinks[f"spikes{i}"].a_in)
        below = neurons.s_out
    if network.readout is not None:
        sinks["readout"] = Sink(shape=(len(network.readout.weight),), buffer=n_steps)
        _connect(network.readout, below, sinks["readout"].a_in)
    try:
        source.run(condition=RunSteps(num_steps=n_steps), run_cfg=Loihi1SimCfg(select_tag="fixed_pt"))
        return {name: np.asarray(sink.data.get()).T for name, sink in sinks.items()}
    finally:
        source.stop()


def _connect(dense: Dense, source: Any, target: Any) -> None:
    from lava.proc.dense.process import Dense as LavaDense
    from lava.utils.weightutils import SignMode

    weights = LavaDense(weights=dense.weight, weight_exp=dense.exponent, sign_mode=SignMode.MIXED)
    source.connect(weights.s_in)
    weights.a_out.connect(target)


def _packed(network: LifNetwork) -> dict[str, Any]:
    """Flat names and arrays of a network."""
    packed: dict[str, Any] = {"n_layers": len(network.layers)}
    for i, layer in enumerate(network.layers):
        packed |= {f"{i}/{key}": getattr(layer, key) for key in _FIELDS}
        packed |= _packed_dense(f"{i}/into", layer.into) | _packed_dense(f"{i}/recurrent", layer.recurrent)
    return packed | _packed_dense("readout", network.readout)


_FIELDS = ("du", "dv", "threshold", "bias_mantissa", "bias_exponent", "u_start", "v_start")


def _packed_dense(name: str, dense: Dense | None) -> dict[str, Any]:
    return {} if dense is None else {f"{name}/weight": dense.weight, f"{name}/exponent": dense.exponent}


def _unpacked(packed: Mapping[str, NDArray[Any]]) -> LifNetwork:
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


def _write(file: Path, arrays: Mapping[str, Any]) -> None:
    np.savez(file, allow_pickle=False, **{name: np.asarray(array) for name, array in arrays.items()})


def main(folder: Path) -> None:
    """Executes the network that lies in a folder."""
    threading.Thread(target=end_with_parent, args=(folder,), daemon=True).start()
    with np.load(folder / "network.npz", allow_pickle=False) as packed:
        arrays = dict(packed)
    _write(folder / "spikes.npz", _execute(_unpacked(arrays), arrays["inputs"]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
