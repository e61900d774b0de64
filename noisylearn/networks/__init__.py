"""Plain torch modules to start from."""

from noisylearn.networks.feedforward import CONVNETS, convnet, mlp
from noisylearn.networks.read_afterwards import ReadAfterwards
from noisylearn.networks.recurrent import RNN
from noisylearn.networks.spiking import Spiking

__all__ = ["CONVNETS", "RNN", "ReadAfterwards", "Spiking", "convnet", "mlp"]
