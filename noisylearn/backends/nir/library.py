"""The NIR library, where it is installed."""

from typing import Any

from noisylearn.ground.errors import not_installed


def nir_library() -> Any:
    """The module `nir`.

    Raises:
        UserError: it is not installed; the message has the command that installs it.
    """
    try:
        import nir
    except ImportError:
        raise not_installed("NIR files need", "nir", "nir") from None
    return nir
