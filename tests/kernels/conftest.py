"""Kernels are tested in both toolkits where Triton is: on Linux."""

from importlib.util import find_spec

import pytest
from support.kits import Kit

collect_ignore_glob = [] if find_spec("triton") and find_spec("numba") else ["test_*.py"]


@pytest.fixture(params=["triton", "numba"])
def kit(request, monkeypatch) -> Kit:
    if request.param == "numba":
        monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    return Kit(request.param)
