"""Plots are PNG files, written whole or not at all."""

from dataclasses import replace

import pytest
import torch
from support.small_runs import PCM

from noisylearn.experiments.row import Row
from noisylearn.ground.errors import UserError
from noisylearn.profiles import load_profile
from noisylearn.report import plots
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


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """The axes and the texts of the legend of a comparison, as they are when the file is written."""

    def draw(rows, metric, baselines, labels=()):
        figures = []
        monkeypatch.setattr(plots, "save_figure", lambda figure, file: figures.append(figure))
        plots.accuracy_curves(rows, metric, baselines, tmp_path / "curves.png", labels)
        (figure,) = figures
        return figure.axes[0], [text.get_text() for text in figure.legends[0].get_texts()]

    return draw


def test_axis_begins_below_what_is_reached_and_the_best_baseline(drawn):
    """Two rules that differ by 0.01 are a tenth of the axis apart; chance is off it, and the legend says so."""
    rows = [row("anp", [(0.2, 0.93)]), row("bp", [(0.5, 0.94)])]
    ax, legend = drawn(rows, "accuracy", {"chance": 0.1, "ridge": 0.9})
    low, high = ax.get_ylim()
    assert 0.85 < low < 0.9
    assert 0.94 < high <= 1.0
    assert (high - low) / 10 < 0.01
    assert legend == [
        "anp, 1 draw (0.930)",
        "bp, then programmed (0.940)",
        "chance (0.100, off the axis)",
        "ridge (0.900)",
    ]


def test_a_rule_that_did_not_learn_stays_on_the_axis_with_chance(drawn):
    ax, legend = drawn([row("anp", [(0.1, 0.12)]), row("bp", [(0.5, 1.0)])], "accuracy", {"chance": 0.1})
    assert 0 <= ax.get_ylim()[0] < 0.1
    assert ax.get_ylim()[1] == 1.0
    assert legend[2] == "chance (0.100)"


def test_colour_is_of_the_rule_and_line_style_of_the_profile(drawn):
    rows = [replace(row(rule), profile=profile) for profile in ("a", "b") for rule in ("anp", "bp")]
    lines = drawn(rows, "accuracy", {})[0].get_lines()
    colors, styles = [line.get_color() for line in lines], [line.get_linestyle() for line in lines]
    assert colors[:2] == colors[2:]
    assert colors[0] != colors[1]
    assert styles[0] == styles[1] != styles[2] == styles[3]
    draws = [replace(rows[i], settings=rows[i].settings | {"draws": k}) for i, k in ((0, 1), (0, 8), (2, 1))]
    lines = drawn(draws, "accuracy", {})[0].get_lines()  # a rule twice on one profile has two colours
    assert lines[0].get_color() != lines[1].get_color()
    assert lines[0].get_color() == lines[2].get_color()
    assert len({line.get_color() for line in drawn(rows, "accuracy", {}, "wxyz")[0].get_lines()}) == 4


@pytest.mark.parametrize("n", [9, 18, 40])
def test_no_curve_is_grey_as_the_baselines_are(drawn, n):
    colors = [line.get_color() for line in drawn([row()] * n, "accuracy", {})[0].get_lines()]
    assert all(len(set(color[:3])) > 1 for color in colors)
    assert len(set(colors)) == min(n, 18)


@pytest.mark.parametrize(
    ("seeds", "said"),
    [([2, 2], "median and range of 2 seeds"), ([1, 3], "median and range of 1 to 3 seeds"), ([1, 1], "")],
)
def test_seeds_are_said_once(drawn, seeds, said):
    ax, legend = drawn([row("anp", [(0.1, 0.5)] * n) for n in seeds], "accuracy", {})
    assert ax.get_ylabel().partition("\n")[2] == said
    assert not any("seed" in text for text in legend)


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
