"""The page as a document: complete in itself, what comes from files is text, scripts are known by their digests."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.page_runs import run_tree, write_runs
from support.small_runs import PCM, profile_text

from noisylearn.ground.errors import UserError
from noisylearn.report.page import rows_of, runs_page, write_page

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


class Parsed(HTMLParser):
    """Elements of a page, its text, and the content of its scripts by their type."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.text, self.policy, self._script = [], "", "", None
        self.scripts = {"": [], "application/json": []}
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.elements.append((tag, given))
        if tag == "script":
            self._script = given.get("type", "")
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"]

    def handle_endtag(self, tag):
        self._script = None if tag == "script" else self._script

    def handle_data(self, data):
        if self._script is None:
            self.text += data
        else:
            self.scripts[self._script].append(data)


def page_of(*trees, **more):
    return runs_page(rows_of({Path(f"{i}.h5"): tree for i, tree in enumerate(trees)}).comparisons, **more)


@pytest.fixture(scope="module")
def hostile():
    """The page of a run whose every name is a piece of HTML."""
    text = profile_text(PCM).replace("Phase-change memory, differential pairs", EVIL)
    tree = run_tree(text=text, task=f"{EVIL}.py:Mine") | {"machine": EVIL}
    tree["baselines"] = {EVIL: 0.5}
    tree["metrics"]["epoch"][f"alignment_{EVIL}"] = tree["metrics"]["epoch"]["held_out_accuracy"]
    return Parsed(page_of(tree, unread={Path(EVIL): EVIL}, notes=[EVIL], title=EVIL))


def test_names_from_files_are_text(hostile):
    scripts = [attributes for tag, attributes in hostile.elements if tag == "script"]
    assert [one for one in scripts if one.get("type") != "application/json"] == [{}, {}]
    assert not [tag for tag, _ in hostile.elements if tag in ("img", "iframe", "object", "embed", "form")]
    assert not [attributes for _, attributes in hostile.elements if any(name.startswith("on") for name in attributes)]
    assert hostile.text.count(EVIL) >= 6
    assert any(EVIL in json.dumps(json.loads(script)) for script in hostile.scripts["application/json"])


def test_scripts_run_by_their_digest_alone(hostile):
    digests = re.findall(r"'sha256-([^']+)'", hostile.policy)
    own = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in hostile.scripts[""]]
    assert digests == own
    rules = dict(rule.strip().split(" ", 1) for rule in hostile.policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert "unsafe" not in rules["script-src"]


def test_page_names_no_other_file(hostile):
    named = [one[name] for _, one in hostile.elements for name in ("src", "href") if name in one]
    assert sorted(named) == ["data:,", "https://github.com/IBM/aihwkit"]  # the second where a reader follows it alone


def test_page_has_all_parts():
    text = Parsed(page_of(run_tree(), run_tree("bp", lr=0.5), run_tree("anp", seed=1, status="stopped"))).text
    for part in (
        "stopped: the loss is not finite", "One seed alone", "ridge readout", "held-out accuracy against passes",
        "after a day of drift", "layer hidden1: cosine with the true gradient", "error of writing", "g_max_us",
        "Phase-change memory models for deep learning", "noisylearn train --task digits --rule bp --profile "
        f"{PCM} --lr 0.5 --epochs 2 --seed 0",
    ):  # fmt: skip
        assert part in text, part


def test_text_of_a_profile_that_the_package_lacks_is_on_the_page():
    own = profile_text().replace('name = "gaussian-node"', 'name = "mine"')
    assert "as mine.toml" in Parsed(page_of(run_tree(profile="mine", text=own))).text
    assert "as gaussian-node.toml" not in Parsed(page_of(run_tree(profile="gaussian-node"))).text


def test_a_profile_that_cannot_be_read_is_named():
    tree = run_tree() | {"profile": "what = 1"}
    assert "This version cannot read it: profile" in Parsed(page_of(tree)).text


def test_only_a_page_of_ours_is_replaced(tmp_path):
    file = tmp_path / "report.html"
    file.write_text("<!doctype html>\n<p>a thesis</p>\n")
    with pytest.raises(UserError, match="another kind"):
        write_page(file, page_of(run_tree()))
    assert "thesis" in file.read_text()
    write_page(file, page_of(run_tree()), force=True)
    write_page(file, page_of(run_tree(lr=0.125)))
    assert "0.125" in file.read_text()
    assert list(tmp_path.iterdir()) == [file]


def test_report_of_a_folder(run, tmp_path):
    write_runs(tmp_path, run_tree(), run_tree(seed=1), run_tree("bp"), run_tree(seed=2, status="running"))
    (tmp_path / "a.h5").write_bytes((tmp_path / "0.h5").read_bytes()[:500])
    out = tmp_path / "page.html"
    status, printed, said = run("report", tmp_path, "-o", out, "--json")
    assert json.loads(printed)["runs"] == [str(tmp_path / f"{i}.h5") for i in range(3)]
    assert sorted(Path(path).name for path in json.loads(printed)["not_shown"]) == ["3.h5", "a.h5"]
    assert (status, said.splitlines()) == (1, [
        f"warning: run file {tmp_path / '3.h5'}: not finished: it is at step 2; not in the report",
        f"error: 1 file is left out: run file {tmp_path / 'a.h5'}: damaged or not a run file of noisylearn; remove it "
        "to start this run anew",
    ])  # fmt: skip
    text = Parsed(out.read_text()).text
    assert f"run file {tmp_path / 'a.h5'}: damaged" in text
    assert f"run file {tmp_path / '3.h5'}: not finished: it is at step 2" in text
    assert run("report", tmp_path / "0.h5", tmp_path / "3.h5", "-o", out)[:2] == (0, f"page: {out}\n")
    assert "error: 1 file is left out: run file" in run("report", tmp_path / "a.h5", "-o", out)[2]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["nothing"], "nothing: cannot be read"),
        (["."], "no finished run; give run files"),
        ([".", "-o", "notes.txt"], "notes.txt: there is a file of another kind"),
        ([".", "-o", "folder"], "folder: cannot be written: there is a folder"),
    ],
)
def test_report_refuses(run, tmp_path, monkeypatch, given, named):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("a thesis")
    (tmp_path / "folder").mkdir()
    status, _, said = run("report", *given)
    assert status == 1
    assert named in said
    assert said.count("\n") == 1
    assert not (tmp_path / "report.html").exists()
