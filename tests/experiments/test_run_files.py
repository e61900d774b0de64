"""Run files of folders: what is read, what is named."""

import pytest
from support.small_runs import GAUSSIAN, small_task, small_train

from noisylearn import tasks
from noisylearn.experiments.run_files import scan
from noisylearn.ground.errors import UserError


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A folder with two runs; the paths of both."""
    monkeypatch.setattr(tasks, "load", small_task)
    return [small_train(tmp_path, GAUSSIAN | {"epochs": 1, "seed": seed}).path for seed in (0, 1)]


def test_scan_reads_all_of_a_folder_and_names_what_is_damaged(runs, tmp_path):
    damaged = tmp_path / "a-broken.h5"
    damaged.write_bytes(runs[0].read_bytes()[:-100])
    (tmp_path / "notes.txt").write_text("no run")
    (tmp_path / "folder").mkdir()
    found, others = scan([tmp_path, runs[0]])
    assert list(found) == runs  # by name, and the one that was named as well once
    assert [tree["status"] for tree in found.values()] == ["finished", "finished"]
    assert not any({"weights", "checkpoint"} & tree.keys() for tree in found.values())
    assert list(others) == [damaged]
    assert "damaged" in others[damaged]
    assert "\n" not in others[damaged]


def test_scan_refuses_a_path_that_leads_nowhere(tmp_path):
    with pytest.raises(UserError, match=r"nothing: cannot be read: No such file.*folders of them"):
        scan([tmp_path / "nothing"])
    with pytest.raises(UserError, match="null"):
        scan([tmp_path / "a\0b"])
    assert scan([tmp_path]) == ({}, {})
