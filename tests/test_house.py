"""What importing the package costs, and which way its modules may import."""

import ast
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import noisylearn

ROOT = Path(__file__).parents[1]
PACKAGE = Path(noisylearn.__file__).parent
sys.path.insert(0, str(ROOT / "tools"))
import house  # noqa: E402

# From the ground up; a module imports only from earlier rooms, or from its own.
ROOMS = (
    "ground", "distributed", "effects", "engines", "profiles", "networks", "chips", "rules", "tasks", "experiments",
    "backends", "report", "papers", "cli",
)  # fmt: skip
LEVEL = {name: level for level, name in enumerate(("version", *ROOMS, "__main__"))}


def test_import_is_light() -> None:
    heavy = ("lava", "matplotlib", "snntorch", "nir", "rich", "h5py", "distributed", "submitit", "optuna")
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


def test_imports_point_one_way() -> None:
    for name, file in house.modules():
        unit = house.room_of(name)
        if not unit:
            continue
        assert unit in LEVEL, f"{unit} is in no room yet"
        for other in {house.room_of(other) for other in house.imported(file)} - {unit}:
            assert LEVEL[other] < LEVEL[unit], f"{file.relative_to(PACKAGE)} imports {other}"


def test_every_module_is_in_a_room_that_says_what_lives_there() -> None:
    top = {path.name for path in PACKAGE.iterdir() if path.suffix == ".py"}
    assert top == {"__init__.py", "__main__.py", "version.py"}
    for room in ROOMS:
        assert ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8")))


def test_the_map_in_contributing_is_that_of_the_code() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert house.drawn_map() in page, "python tools/house.py map prints it anew"


def test_samples_and_sequences_go_one_way() -> None:
    """What only sequences enter is what goes along them, and a network in time."""
    estimate, run = house.journeys().values()
    assert set(run) - set(estimate) == {
        "rules.sequences", "rules.in_time", "networks.neurons", "networks.read_afterwards", "networks.recurrent",
    }  # fmt: skip
    assert set(estimate) - set(run) <= {"rules.guard"}
