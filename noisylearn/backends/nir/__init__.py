"""Networks for other programs, and from them: NIR files."""

from noisylearn.backends.nir.file import NirNetwork, export_nir, read_nir, write_nir
from noisylearn.backends.nir.graph import ExchangeWarning

__all__ = ["ExchangeWarning", "NirNetwork", "export_nir", "read_nir", "write_nir"]
