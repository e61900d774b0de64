"""Plots are PNG files, written whole or not at all."""

import pytest
import torch
from support.small_runs import PCM

from noisylearn.experiments.row import Row
from noisylearn.ground.errors import UserError
from noisylearn.profiles import load_profile
from noisylearn.report.device import device_picture
from noisylearn.report.plots import accuracy_curves

PNG = b"\x89PNG\r\n\x1a\n"


def row(rule="anp", curves=((0.1, 0.5), (0.2, 0.7))):
    settings = {"rule": rule, "draws": 1, "forward": "digital", "readout": "same"}
    runs = [{"metrics": {"epoch": {"held_out_accuracy": torch.tensor(c).numpy()}}, "final": {}} for c in curves]
    return Row(rule, "gaussian-node", settings, runs=runs)


def test_accuracy_curves(tmp_path):
    file = tmp_path / "curves.png"
    accuracy_curves([row(), row("bp", [(0.3, 0.9)])], "accuracy", {"chance": 0.1}, file)
    assert file.read_bytes().startswith(PNG)
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("name", [PCM, "reram-wan-2022", "rram-milo-2021", "ecram-tang-2018", "idealised-device"])
def test_device_picture(name, tmp_path):
    file = tmp_path / "noise.png"
    device_picture(load_profile(name), file)
    assert file.read_bytes().startswith(PNG)


def test_device_picture_needs_devices(tmp_path):
    with pytest.raises(UserError, match="no devices"):
        device_picture(load_profile("gaussian-node"), tmp_path / "noise.png")


@pytest.mark.parametrize("name", ["missing/noise.png", "noise.nonsense", "file/noise.png", "."])
def test_plot_that_cannot_be_written(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written") as caught:
        device_picture(load_profile(PCM), type(tmp_path)(name))
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
