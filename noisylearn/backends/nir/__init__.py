"""Networks exchanged with other programs as NIR files (Neuromorphic Intermediate Representation).

file: reading and writing.  graph: from a network to NIR nodes.  model: from NIR nodes to a network, by way of
nodes (the file node by node), walk (their order), shapes, numbers (of one node) and stages (networks that are not of
noisylearn's own kinds).
"""

from noisylearn.backends.nir.file import NirNetwork, export_nir, read_nir, write_nir
from noisylearn.backends.nir.graph import ExchangeWarning

__all__ = ["ExchangeWarning", "NirNetwork", "export_nir", "read_nir", "write_nir"]
