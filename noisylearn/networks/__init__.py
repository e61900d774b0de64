"""Plain torch modules to start from."""

from noisylearn.networks.feedforward import convnet, mlp
from noisylearn.networks.recurrent import RNN

__all__ = ["RNN", "convnet", "mlp"]
