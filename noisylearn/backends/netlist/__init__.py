"""Networks as plain records of numpy arrays, without torch modules: what other machines and file formats start from.

rate: populations of rate neurons and the connections between them.
stored: such a network in a file, checked on reading.
spiking: layers of spiking neurons.
operations: counts of operations, and the energy estimated from them.
"""

from noisylearn.backends.netlist.rate import Netlist, from_model
from noisylearn.backends.netlist.spiking import SpikingNetlist, from_spiking, to_spiking

__all__ = ["Netlist", "SpikingNetlist", "from_model", "from_spiking", "to_spiking"]
