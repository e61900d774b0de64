"""Files changed at random are read rightly or refused in one message: some of them; the tool tries thousands."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import mutate_files


@pytest.mark.slow
def test_changed_files_give_a_result_or_one_message() -> None:
    faults: list[str] = []
    counts = mutate_files.mutate(30, 11, faults.append)
    assert faults == []
    assert counts["files"] == 30
    for name in ("train", "train --resume", "operations", "loihi run", "read_nir"):
        assert counts[f"{name}: refused"] > 0, counts
