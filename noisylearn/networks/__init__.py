"""Plain torch modules to start from."""

from noisylearn.in_time import ReadAfterwards
from noisylearn.networks.feedforward import CONVNETS, convnet, mlp
from noisylearn.networks.recurrent import RNN
from noisylearn.networks.spiking import Spiking

__all__ = ["CONVNETS", "RNN", "ReadAfterwards", "Spiking", "convnet", "mlp"]
