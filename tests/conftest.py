"""Fixtures shared by the tests."""

import os
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from support.shapes import check_shapes

if not torch.cuda.is_available():  # Triton's kernels run in Python then; it looks at this when it is first imported
    os.environ.setdefault("TRITON_INTERPRET", "1")
    if find_spec("triton"):
        import triton  # noqa: F401  # before a test takes the variable away
if os.environ.get("NOISYLEARN_CHECK_SHAPES"):
    check_shapes("noisylearn")  # before anything imports it


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder with the full data sets: NOISYLEARN_DATA, else shared/data beside the repository."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("NOISYLEARN_DATA") or beside).expanduser()
    if not folder.is_dir():
        pytest.skip(f"needs the full data sets: set NOISYLEARN_DATA to their folder ('{folder}' does not exist)")
    return folder


@pytest.fixture
def run(capsys, monkeypatch):
    """Exit status, standard output, standard error of a command."""
    from noisylearn import cli

    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # which the command replaces

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["noisylearn", *map(str, arguments)])
        status = 0
        try:
            cli.main()
        except SystemExit as stop:
            status = stop.code or 0
        found = capsys.readouterr()
        return status, found.out, found.err

    return call
