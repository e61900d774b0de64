"""Short names for settings, which change with them."""

import hashlib
import json
from typing import Any


def identity_of(settings: Any) -> str:
    """Twelve digits that change with settings: the start of the SHA-256 of their JSON text."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
