"""What importing the package costs, and which way its modules may import."""

import ast
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

import noisylearn
from noisylearn.cli.commands import COMMANDS

ROOT = Path(__file__).parents[1]
PACKAGE = Path(noisylearn.__file__).parent
sys.path.insert(0, str(ROOT / "tools"))
import house  # noqa: E402

# From the ground up; a module imports only from earlier rooms, or from its own.
ROOMS = (
    "ground", "callbacks", "distributed", "effects", "engines", "progress", "profiles", "kernels", "networks", "chips",
    "rules", "tasks", "experiments", "backends", "report", "runs", "fitting", "papers", "cli",
)  # fmt: skip
LEVEL = {name: level for level, name in enumerate(("version", *ROOMS, "__main__"))}


HEAVY = {
    "lava", "matplotlib", "snntorch", "nir", "h5py", "distributed", "submitit", "optuna", "jinja2", "vl_convert",
    "pandas", "PIL", "triton", "numba", "scipy.io", "scipy.linalg", "scipy.optimize", "scipy.special", "scipy.stats",
}  # fmt: skip


@pytest.mark.parametrize(
    ("code", "also"),
    [
        ("import noisylearn", {"scipy", "rich", "noisylearn.cli", "noisylearn.experiments"}),
        ("import noisylearn.cli", {"scipy", "noisylearn.experiments", "noisylearn.backends"}),
        ("from noisylearn.cli import app; app(['profiles', 'list'], standalone_mode=False)", {"noisylearn.backends"}),
    ],
    ids=["package", "command line", "profiles list"],
)
def test_import_is_light(code: str, also: set[str]) -> None:
    code += f"; import sys; print(sorted({HEAVY | also} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_every_command_is_in_the_list_once() -> None:
    """A module of cli/ with an `app` or a function of its name is a command, and every command is one."""
    found = {
        path.stem
        for path in (PACKAGE / "cli").glob("*.py")
        if re.search(rf"^(app = typer|def {path.stem}_command\()", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert sorted(COMMANDS) == sorted(found)


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


def test_files_of_tests_have_names_of_their_own() -> None:
    """Of two files of one name in two folders pytest collects neither, nor anything else then."""
    names = [file.name for file in sorted((ROOT / "tests").rglob("test_*.py"))]
    assert {name for name in names if names.count(name) > 1} == set()


def test_samples_and_sequences_go_one_way() -> None:
    """What only sequences enter is what goes along them, and a network in time."""
    estimate, run = house.journeys().values()
    assert set(run) - set(estimate) == {
        "rules.sequences", "rules.in_time", "networks.neurons", "networks.read_afterwards", "networks.recurrent",
    }  # fmt: skip
    assert set(estimate) - set(run) <= {"rules.guard"}
