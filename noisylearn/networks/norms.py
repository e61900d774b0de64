"""Neuron-wise weight normalisation: it keeps node perturbation stable, at a cost in final error."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from noisylearn.networks.layers import weight_layers


class NeuronNorms:
    """Holds the norm of every neuron's incoming weights at its value at construction.

        w_i <- w_i ||w_i(0)|| / ||w_i||

    Args:
        model: whose weights are held; call `restore` after every optimizer step, before `chip.program`.

    Source:
        [STAB] section 4 and appendix C.1.
    """

    def __init__(self, model: nn.Module) -> None:
        self._layers = weight_layers(model)
        self.norms = {name: _norms(layer.weight) for name, layer in self._layers.items()}

    @torch.no_grad()
    def restore(self) -> None:
        """Rescale every neuron's incoming weights to their norm at construction; weights that are all zero stay."""
        for name, layer in self._layers.items():
            now = _norms(layer.weight)
            layer.weight.mul_(torch.where(now > 0, self.norms[name] / now, 1.0))


def _norms(weight: Float[Tensor, " n_out *fan_in"]) -> Float[Tensor, "n_out ..."]:
    """Norm of the weights into every neuron, in a shape that multiplies the weights."""
    return weight.detach().flatten(1).norm(dim=1).reshape(-1, *[1] * (weight.dim() - 1))
