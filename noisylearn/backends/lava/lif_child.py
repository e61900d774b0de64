"""The process that Lava runs an integer LIF network in.

    python -m noisylearn.backends.lava.lif_child FOLDER

Executes FOLDER/network.npz and leaves FOLDER/spikes.npz. Started by `noisylearn.backends.lava.lif`.
"""

import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisylearn.backends.lava.compat import load_lava
from noisylearn.backends.lava.group import end_with_parent
from noisylearn.backends.lava.lif import unpacked, write_arrays
from noisylearn.backends.loihi.lif import Dense, LifNetwork


def main(folder: Path) -> None:
    """Execute the network that lies in a folder.

    Args:
        folder: with network.npz; spikes.npz is written into it.
    """
    threading.Thread(target=end_with_parent, args=(folder,), daemon=True).start()
    with np.load(folder / "network.npz", allow_pickle=False) as packed:
        arrays = dict(packed)
    write_arrays(folder / "spikes.npz", _execute(unpacked(arrays), arrays["inputs"]))


def _execute(network: LifNetwork, inputs: NDArray[np.int32]) -> dict[str, NDArray[Any]]:
    """Build Lava's processes, run them over inputs (time, n_in) and collect what arrives in ring buffers."""
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
    """Put Lava's Dense with these weights between two ports."""
    from lava.proc.dense.process import Dense as LavaDense
    from lava.utils.weightutils import SignMode

    weights = LavaDense(weights=dense.weight, weight_exp=dense.exponent, sign_mode=SignMode.MIXED)
    source.connect(weights.s_in)
    weights.a_out.connect(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
