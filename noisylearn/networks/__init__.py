"""Plain torch modules to start from."""

from noisylearn.networks.feedforward import convnet, mlp

__all__ = ["convnet", "mlp"]
