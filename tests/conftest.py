"""Fixtures shared by the tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder with the full data sets: NOISYLEARN_DATA, else shared/data beside the repository."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("NOISYLEARN_DATA") or beside).expanduser()
    if not folder.is_dir():
        pytest.skip(f"needs the full data sets: set NOISYLEARN_DATA to their folder ('{folder}' does not exist)")
    return folder
