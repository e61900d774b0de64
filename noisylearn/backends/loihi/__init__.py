"""Emulation in integers of what a network and its learning rule become under the constraints of Loihi's cores.

quantisation: from a float network to integers (`quantise`), kept as records of network.
microcode: from a rule to the sums of products of the learning engine (`to_microcode`), in the language of grammar.
emulator: two passes and learning, sample by sample (`Emulator`); its parts are neurons, critic, engine, rounding,
schedule, saturation and arithmetic.
lif, lif_quantisation: spiking networks of integer LIF neurons, without learning (`quantise_spiking`, `run_lif`).

All of it is numpy; nothing here imports Lava.
"""

from noisylearn.backends.loihi.emulator import Emulator
from noisylearn.backends.loihi.lif import run_lif
from noisylearn.backends.loihi.lif_quantisation import quantise_spiking
from noisylearn.backends.loihi.microcode import to_microcode
from noisylearn.backends.loihi.quantisation import quantise

__all__ = ["Emulator", "quantise", "quantise_spiking", "run_lif", "to_microcode"]
