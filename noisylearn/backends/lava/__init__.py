"""Lava: the same rules and networks executed as Lava processes, on the CPU.

export, netfile: from a run or a model to a network file (`export_run`, `to_lava_net`, `write_net`, `read_net`).
launch: a network file executed in a process group of its own (`run_net`, `run_net_in_integers`), with child, group and
monitoring.
process_specs, specs: what each Lava process is given.  processes: the Lava processes themselves.
fixed, integers: networks in integers in Lava's fixed-point learning engine (`run_fixed`).
lif, lif_child: integer LIF networks (`run_lif_in_lava`).
install: installing Lava with pip (`noisylearn lava install`).
compat: importing Lava on the Python and numpy versions that it does not know (`is_installed`, `load_lava`).

Importing this package does not import Lava; running something does.
"""

from noisylearn.backends.lava.compat import is_installed, load_lava
from noisylearn.backends.lava.export import export_run, to_lava_net, training_data
from noisylearn.backends.lava.fixed import run_fixed
from noisylearn.backends.lava.launch import run_net, run_net_in_integers
from noisylearn.backends.lava.lif import run_lif_in_lava
from noisylearn.backends.lava.netfile import read_net, write_net

__all__ = [
    "export_run",
    "is_installed",
    "load_lava",
    "read_net",
    "run_fixed",
    "run_lif_in_lava",
    "run_net",
    "run_net_in_integers",
    "to_lava_net",
    "training_data",
    "write_net",
]
