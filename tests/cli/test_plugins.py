"""Rules, effects and tasks of one's own, as docs/extending.md describes them: a file, and a package's entry points."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from support.small_runs import profile_text

from noisylearn import effects, rules, tasks
from noisylearn.effects import Setting
from noisylearn.ground.draws import Draws, StreamOf

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
LAB, PROJECT = (
    re.search(rf'```\w+ title="{re.escape(name)}"\n(.*?)```', PAGE, re.DOTALL)[1]
    for name in ("my_lab.py", "pyproject.toml")
)
LAPLACE = (
    profile_text()
    .replace('name = "gaussian-node"', 'name = "laplace"', 1)
    .replace('kind = "gaussian-node"', 'kind = "laplace-node"')
    .replace("sigma =", "scale =")
)
COMPARE = ["compare", "--task", "blobs", "--rules", "gained-anp", "--hidden", "8", "--epochs", "1", "--seeds", "0"]


def test_the_project_of_the_page_names_its_module():
    """setuptools would find none beside a folder runs/, which training leaves there, and install an empty package."""
    assert tomllib.loads(PROJECT)["tool"]["setuptools"]["py-modules"] == ["my_lab"]


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """The file of the page, imported in this process as its user would; afterwards nothing is left of it."""
    (tmp_path / "my_lab.py").write_text(LAB)
    monkeypatch.syspath_prepend(tmp_path)
    import my_lab

    yield my_lab
    del rules.REGISTRY["gained-anp"], effects.REGISTRY["laplace-node"], tasks.REGISTRY["blobs"]
    del sys.modules["my_lab"]
    my_lab.GainedANP.stands_alone = False  # the class itself stays, and is not to be offered to other tests


def installed(folder, name, module, points):
    """As pip leaves a distribution: its module, and beside it what its metadata says of entry points."""
    (folder / f"{name.replace('-', '_')}.py").write_text(module)
    about = folder / f"{name}-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
    lines = [f"[{group}]\n" + "".join(f"{key} = {of[key]}\n" for key in of) for group, of in points.items()]
    (about / "entry_points.txt").write_text("\n".join(lines))


def command(*arguments, cwd, **environment):
    code = f"import sys; sys.argv = {['noisylearn', *arguments]!r}; from noisylearn.cli import main; main()"
    known = {**os.environ, "PYTHONPATH": os.pathsep.join([str(cwd), *filter(None, sys.path)]), **environment}
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, env=known, capture_output=True, text=True, check=False)


def test_a_package_is_known_to_commands_and_their_workers(tmp_path):
    """And one that does not work is a warning that names it, in commands that go on."""
    project = tomllib.loads(PROJECT)["project"]
    installed(tmp_path, project["name"], LAB, project["entry-points"])
    installed(tmp_path, "old-lab", "import there_is_none\n", {"noisylearn.rules": {"old": "old_lab:Old"}})
    (tmp_path / "laplace.toml").write_text(LAPLACE)
    ran = command(*COMPARE, "--gain", "2", "--profiles", "laplace.toml", "--workers", "1", "--json", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    (row,) = json.loads(ran.stdout)["rows"]
    assert (row["settings"]["gain"], row["profile"], len(row["files"])) == (2.0, "laplace", 1)
    assert row["summary"]["accuracy_at_once"]["median"] > 0.7  # of two clouds at a distance of four sd
    missing = "ModuleNotFoundError: No module named 'there_is_none' (old_lab.py, line 1)"
    assert set(ran.stderr.splitlines()) == {
        f"warning: plug-in 'old' of old-lab (noisylearn.rules) is left out: {missing}"
    }


def test_they_are_listed_and_explained(lab, run):
    assert "blobs" in run("tasks", "list")[1]
    assert "gain = 1.0" in run("rules", "show", "gained-anp")[1]
    assert "in units of the pre-activation" in run("profiles", "keys", "laplace-node")[1]
    assert "did you mean gained-anp" in run("train", "--task", "blobs", "--rule", "gaind-anp")[2]


def test_the_effect_of_the_page_has_the_moments_that_it_states(lab):
    """The standard error of a variance from n samples is variance sqrt((kurtosis - 1) / n), of kurtosis 6 here."""
    effect = lab.LaplaceNode(status="assumed", source="a test", scale=0.3)
    value, n = torch.full((10**5,), 2.0, dtype=torch.float64), 10**5
    reads = effect.apply(value, Setting(), StreamOf(Draws(seed=0), "test"), {})
    assert float(reads.mean()) == pytest.approx(2.0, abs=5 * (0.18 / n) ** 0.5)
    assert float(reads.var()) == pytest.approx(0.18, rel=5 * (5 / n) ** 0.5)
    assert float(effect.moments(value, Setting()).variance[0]) == pytest.approx(0.18)
