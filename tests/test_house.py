"""What importing the package costs, and which way its modules may import."""

import ast
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import noisylearn

PACKAGE = Path(noisylearn.__file__).parent

# From the ground up; a module imports only from earlier rooms, or from its own.
ROOMS = (
    "ground", "effects", "profiles", "networks", "chips", "rules", "tasks", "experiments", "backends", "report",
    "papers", "cli",
)  # fmt: skip
LEVEL = {name: level for level, name in enumerate(("version", *ROOMS, "__main__"))}


def test_import_is_light() -> None:
    heavy = ("lava", "matplotlib", "snntorch", "nir", "rich", "h5py")
    code = f"import sys, noisylearn; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep freed memory")
def test_freed_memory_is_kept() -> None:
    code = """
import resource, torch, noisylearn
def faults():  # of four times four blocks of 24 MiB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        held = [torch.ones(6 * 2**20) for _ in range(4)]
        del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
assert noisylearn.keep_freed_memory()
faults()
print(faults())
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(result.stdout) < 100, "pages were given back and taken anew"


def imported_units(file: Path) -> set[str]:
    """Names of the package's units (modules or sub-packages) that a file imports anywhere in it."""
    units = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "noisylearn":
            parts = node.module.split(".")
            units |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return units


def test_imports_point_one_way() -> None:
    for file in PACKAGE.rglob("*.py"):
        unit = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if unit == "__init__":
            continue
        assert unit in LEVEL, f"{unit} is in no room yet"
        for other in imported_units(file) - {unit}:
            assert LEVEL[other] < LEVEL[unit], f"{file.relative_to(PACKAGE)} imports {other}"
