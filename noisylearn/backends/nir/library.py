"""The NIR library, where it is installed."""

from typing import Any

from noisylearn.ground.errors import UserError


def nir_library() -> Any:
    """The module `nir`.

    Raises:
        UserError: it is not installed; the message has the command that installs it.
    """
    try:
        import nir
    except ImportError:
        raise UserError("NIR files need the package nir: pip install 'noisylearn[nir]'") from None
    return nir
