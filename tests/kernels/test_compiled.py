"""What the kernels need of an H100, found without one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import triton

SHARED_BYTES = 227 * 1024  # that a block of an H100 can have
FOR_TWO_BLOCKS = SHARED_BYTES // 2  # so that one computes while the other waits for memory


@pytest.mark.skipif("nvidia" not in triton.backends.backends, reason="this Triton does not compile for CUDA")
def test_kernels_compile_for_an_h100_and_fit_without_spills(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    command = [sys.executable, str(Path(__file__).parent / "compiled.py")]
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == {"noisy_product", "programming", "as_read", "recurrent"}
    for name, needs in found.items():
        assert needs["shared"] <= FOR_TWO_BLOCKS, name
        assert needs["spilled"] == 0, name
