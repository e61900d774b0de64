"""Networks for other programs, and from them: NIR files."""

from noisylearn.exchange.nir_file import NirNetwork, export_nir, read_nir, write_nir
from noisylearn.exchange.nir_graph import ExchangeWarning

__all__ = ["ExchangeWarning", "NirNetwork", "export_nir", "read_nir", "write_nir"]
