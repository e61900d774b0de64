"""Networks as plain torch modules, and what acts on the layers of any network.

Feed-forward: `mlp`, `convnet`. Run step by step: `RNN`, `Spiking`, and `ReadAfterwards`, the base class of networks
whose readout feeds nothing back. For any model: `decorrelate`, `NeuronNorms`, and `weight_layers`, which lists the
layers that a chip holds. `neurons` gives snnTorch neurons the spread of fabricated ones.
"""

from noisylearn.networks.decorrelation import decorrelate
from noisylearn.networks.feedforward import CONVNETS, convnet, mlp
from noisylearn.networks.layers import weight_layers
from noisylearn.networks.norms import NeuronNorms
from noisylearn.networks.read_afterwards import ReadAfterwards
from noisylearn.networks.recurrent import RNN
from noisylearn.networks.spiking import Spiking

__all__ = [
    "CONVNETS",
    "RNN",
    "NeuronNorms",
    "ReadAfterwards",
    "Spiking",
    "convnet",
    "decorrelate",
    "mlp",
    "weight_layers",
]
