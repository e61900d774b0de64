"""Every claim of the conformance suite, run; and the page in the docs that is written from them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.lava_cases import needs_lava

from noisylearn.backends.conformance import (
    BACKENDS,
    EMULATOR,
    FIXED_LAVA,
    FLOAT_LAVA,
    TORCH,
    Claim,
    claims,
    page,
    verify,
)

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"


def held(backend: str) -> list[pytest.param]:
    return [
        pytest.param(claim, id=f"{claim.case.network}-{claim.case.name}")
        for claim in claims()
        if claim.backend == backend and not claim.excluded
    ]


def test_page_is_written_from_the_claims() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write it anew: noisylearn conformance -o docs/conformance.md"


def test_nothing_is_left_out_in_silence() -> None:
    by_case: dict[tuple[str, str], list[Claim]] = {}
    for claim in claims():
        by_case.setdefault((claim.case.name, claim.case.network), []).append(claim)
        assert bool(claim.holds) != bool(claim.excluded)
    assert all([claim.backend for claim in row] == list(BACKENDS) for row in by_case.values())
    assert len(by_case) == 44


@pytest.mark.parametrize("claim", held(TORCH))
def test_torch(claim: Claim) -> None:
    assert verify(claim) == ""


@needs_lava
@pytest.mark.timeout(120)
@pytest.mark.parametrize("claim", held(FLOAT_LAVA))
def test_float_lava(claim: Claim) -> None:
    assert verify(claim) == ""


@pytest.mark.parametrize("claim", held(EMULATOR))
def test_emulator(claim: Claim) -> None:
    assert verify(claim) == ""


@needs_lava
@pytest.mark.timeout(280)
def test_fixed_lava() -> None:
    command = [sys.executable, "-m", "noisylearn", "conformance", "--verify", "--backend", FIXED_LAVA, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=270)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert len([row for row in rows if row["holds"]]) == len(held(FIXED_LAVA)) > 0
    assert not any(row["failure"] for row in rows)
