"""What objects show of themselves: in a line, as text, and in a notebook."""

import dataclasses
from xml.etree import ElementTree

import nbformat
import pytest
import torch
from support.small_runs import GAUSSIAN, small_task, small_train

import noisylearn as nl
from noisylearn import tasks
from noisylearn.experiments.run_file import RunFile
from noisylearn.experiments.run_model import trained_run
from noisylearn.profiles import parse_profile, profile_files

PCM = "pcm-nandakumar-2019"


def _cells(shown):
    """First cell -> the others, of all rows of all tables that an object shows in a notebook."""
    page = ElementTree.fromstring(f"<page>{shown._repr_html_()}</page>")
    rows = [[cell.text or "" for cell in row] for row in page.iter("tr")]
    return {row[0]: row[1:] for row in rows}


def test_chip():
    chip = nl.Chip(nl.networks.mlp(784, [300], 10), PCM)
    chip.program()
    assert repr(chip) == f"<Chip {PCM}: hidden1, readout>"
    cells = _cells(chip)
    assert cells["hidden1"] == ["Linear", "300 x 784", "1", f"{2 * 300 * 784}"]  # two devices per weight
    assert cells["readout"] == ["Linear", "10 x 300", "1", f"{2 * 10 * 300}"]
    assert cells["devices"] == [f"{2 * 300 * 784 + 2 * 10 * 300:,}"]
    assert cells["times programmed"] == ["2"]
    assert cells["programming-noise"] == ["weight", "write", "there is none"]
    for word in ("hidden1", "power-law-drift", "observable", f"{2 * 300 * 784}"):
        assert word in chip.summary()


def test_tiles_and_devices_of_other_machines():
    """A layer a row and a column too large for its tiles; groups have tiles of their own, exact weights none."""
    tiled = next(p for p in map(nl.load_profile, profile_files()) if p.specification.tile and not p.in_place)
    rows, columns = tiled.specification.tile.rows, tiled.specification.tile.columns
    model = nl.networks.mlp(rows + 1, [2 * columns + 1], 10)
    cells = _cells(nl.Chip(model, tiled))
    assert cells["hidden1"][2:] == ["6", f"{2 * (rows + 1) * (2 * columns + 1)}"]  # 2 x 3 tiles
    grouped = torch.nn.Sequential(torch.nn.Conv2d(4, 6, 3, groups=2))
    assert _cells(nl.Chip(grouped, tiled))["0"] == ["Conv2d", "6 x 2 x 3 x 3", "2", f"{2 * 6 * 2 * 9}"]
    exact = _cells(nl.Chip(nl.networks.mlp(600, [100], 10), "gaussian-node"))
    assert exact["hidden1"] == ["Linear", "100 x 600", "0", "0"]
    assert exact["gaussian-node"] == ["node", "read", "off"]
    pulsed = nl.load_profile("reram-hfo2-gong-2022")
    per_weight = 2 if pulsed.in_place.device.one_sided else 1
    assert _cells(nl.Chip(nl.networks.mlp(60, [100], 10), pulsed))["readout"][3] == f"{1000 * per_weight}"


def test_own_chip():
    class Driver:
        def forward(self, x):
            raise NotImplementedError

        def program(self, weights):
            pass

    chip = nl.OwnChip(nl.networks.mlp(4, [3], 2), Driver(), "bench")
    assert repr(chip) == "<OwnChip bench: hidden1, readout>"
    assert _cells(chip)["readout"] == ["Linear", "2 x 3"]
    assert _cells(chip)["driver"] == ["Driver"]


@pytest.mark.parametrize("name", sorted(profile_files()))
def test_every_profile_shows_all_of_its_numbers(name):
    profile = nl.load_profile(name)
    assert repr(profile) == str(profile) == f"<HardwareProfile {name}: {profile.title}>"
    html, cells = profile._repr_html_(), _cells(profile)
    for _, table in profile.cited_tables():
        for key, _, origin in table.numbers():
            assert f">{key}<" in html
            assert f">{origin.status}<" in html
    for key, source in profile.sources.items():
        assert cells[key] == [source.citation, source.url]
    assert {effect.kind for effect in profile.all_effects()} <= set(cells)


def test_a_hostile_profile_writes_nothing_into_the_page():
    hostile = "</td><script>alert(1)</script>"
    text = profile_files()["gaussian-node"].read_text(encoding="utf-8")
    title = nl.load_profile("gaussian-node").title
    profile = parse_profile(text.replace(title, hostile).replace('name = "gaussian-node"', 'name = "own"'))
    for shown in (profile, nl.Chip(nl.networks.mlp(4, [3], 2), profile)):
        assert "<script" not in shown._repr_html_()
        assert "&lt;script&gt;" in shown._repr_html_()


def test_rule():
    rule = nl.rules.ANP(baseline="noisy", draws=3)
    cells = _cells(rule)
    assert cells["equation"] == [nl.rules.ANP.equation]
    assert (cells["baseline"][:2], cells["draws"][:2]) == (["noisy", "clean"], ["3", "1"])
    assert "decay" not in cells  # is as by default
    assert "baseline" not in _cells(nl.rules.ANP())
    assert eval(repr(rule), vars(nl.rules)) == rule
    mixed = nl.rules.PerLayer(rules={"readout": nl.rules.Delta(), "*": rule})
    assert _cells(mixed)["readout"] == [nl.rules.Delta.title, "Delta()"]


def test_task():
    task = nl.tasks.load("digits")
    assert repr(task) == "<ClassificationTask digits: 1438 samples to train on, 359 of the test part, (64,) -> 10>"
    assert "tensor" not in task.summary()
    assert _cells(task)["training part"] == ["inputs (1438, 64), targets (1438,)"]
    assert "chance" not in _cells(task)  # measured at first use alone
    assert task.baselines["chance"] == 0.1
    assert _cells(task)["chance"] == ["0.1"]
    for name in ("mackey-glass", "linear-teacher", "copying"):
        if name in nl.tasks.names():
            assert len(repr(nl.tasks.load(name))) < 200


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "load", small_task)
        return small_train(tmp_path_factory.mktemp("runs"), GAUSSIAN)


def test_run_file(file, tmp_path):
    assert repr(file) == f"RunFile({str(file.path)!r})"
    tree, cells = file.read(), _cells(file)
    assert cells["accuracy at once"] == [f"{tree['final']['accuracy_at_once']:.4g}"]
    assert cells["trivial baseline: chance"] == ["0.1"]
    assert cells["lr"] == ["0.01"]
    assert f"torch {torch.__version__}" in cells["versions"][0]
    assert cells["epochs done"] == ["2 of 2"]
    assert cells["rule"] == [nl.rules.ANP.source]
    other = RunFile(tmp_path / "none.h5")
    assert "cannot be read" in other._repr_html_()
    assert "cannot be read" in other.summary()
    trained = trained_run(file.path)
    assert repr(trained) == "<TrainedRun: anp on gaussian-node, task mnist-sample>"
    assert _cells(trained)["readout.weight"] == ["10 x 12"]


def test_a_task_of_ones_own_does_not_print_its_data():
    @dataclasses.dataclass(frozen=True, eq=False, repr=False)
    class Own(nl.tasks.RegressionTask):
        more: int = 0

    digits = nl.tasks.load("linear-teacher")
    own = Own(**{one.name: getattr(digits, one.name) for one in dataclasses.fields(digits) if one.init and one.name in
                 {known.name for known in dataclasses.fields(Own)}})  # fmt: skip
    assert "tensor" not in repr(own)


def test_a_notebook_shows_them_and_a_bar(file, monkeypatch):
    """One kernel: chip, profile, rule and run as tables; the progress of a second of work as one that is replaced."""
    nbclient = pytest.importorskip("nbclient")
    code = f"""
import noisylearn as nl
from IPython.display import display
from noisylearn.experiments.run_file import RunFile
from noisylearn import progress
for shown in (nl.Chip(nl.networks.mlp(4, [3], 2), "{PCM}"), nl.load_profile("{PCM}"), nl.rules.NP(),
              RunFile({str(file.path)!r})):
    display(shown)
print(nl.rules.NP().summary())
with progress.shown() as line:
    on_step = line.run("np on pcm", epochs=2)
    for step in range(8):
        on_step(step + 1, 8, 0.5)
"""
    monkeypatch.setenv("PYTHONPATH", str(nl.__path__[0]).removesuffix("/noisylearn"))
    monkeypatch.delenv("NOISYLEARN_PROGRESS", raising=False)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    shown = [output["data"] for output in notebook.cells[0].outputs if output["output_type"] == "display_data"]
    assert len(shown) == 5
    for data, word in zip(shown, ("hidden1", "sources", "equation", "ridge readout", "step 8 of 8"), strict=True):
        assert word in data["text/html"]
        assert data["text/html"].startswith("<table>")
    printed = "".join(output.get("text", "") for output in notebook.cells[0].outputs)
    assert nl.rules.NP().summary() in printed  # where rich by itself would display it
    assert "100%" in shown[-1]["text/plain"]
    assert "epoch 2 of 2, loss 0.5000" in shown[-1]["text/html"]
