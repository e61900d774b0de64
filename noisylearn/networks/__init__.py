"""Plain torch modules to start from."""

from noisylearn.networks.feedforward import convnet, mlp
from noisylearn.networks.recurrent import RNN
from noisylearn.networks.spiking import Spiking

__all__ = ["RNN", "Spiking", "convnet", "mlp"]
