"""One file for a rule: an option of its record is an option of commands, recipes and run files without another edit."""

import json
from dataclasses import dataclass, field, make_dataclass
from typing import Literal

import pytest
from support.small_runs import small_task

from noisylearn import tasks
from noisylearn.experiments import config
from noisylearn.experiments.run_file import RunFile
from noisylearn.ground.errors import UserError
from noisylearn.rules import REGISTRY, NodePerturbation
from noisylearn.rules.options import options_of

TRAIN = ["train", "--task", "mnist-sample", "--hidden", "8", "--batch", "40", "--epochs", "1"]


@dataclass(frozen=True, kw_only=True)
class Toy(NodePerturbation):
    """Node perturbation, scaled."""

    name = "toy"
    title = "node perturbation, scaled"
    equation = "g_l = its_option dL e_l / sigma^2"
    source = "a test"
    observes = frozenset({"loss", "input", "injected_noise"})
    stands_alone = False  # not to be offered beside the package's rules for as long as the tests run

    its_option: int = field(default=1, metadata={"help": "Factor of every estimate."})
    its_manner: Literal["plain", "flipped"] = field(default="plain", metadata={"help": "Sign of every estimate."})
    its_switch: bool = field(default=True, metadata={"help": "Whether it learns."})

    def __post_init__(self):
        super().__post_init__()
        if self.its_option < 1:
            raise UserError(f"rule toy: its_option = {self.its_option}; give at least 1")

    def post(self, activity, reference, noise):
        return noise

    def scales(self, norms, sizes, variances):
        sign = {"plain": 1, "flipped": -1}[self.its_manner]
        return [self.its_switch * sign * self.its_option / variance for variance in variances]


@pytest.fixture(autouse=True)
def _registered(monkeypatch, tmp_path):
    monkeypatch.setitem(REGISTRY, "toy", Toy)
    monkeypatch.setattr(tasks, "load", small_task)
    monkeypatch.setattr(config, "recipes", lambda: {"*": {"lr": 1e-3}, "*/d*": {"decorrelation_rate": 1e-4}})
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def trained(run):
    """The document of a training by the toy rule, and its file."""

    def call(*arguments):
        status, out, err = run(*TRAIN, *arguments, "--json")
        assert (status, err) == (0, "")
        document = json.loads(out)
        return document, RunFile(document["file"]).read()

    return call


def test_it_is_trained_by_its_option(trained):
    """A plain gradient step by three times the estimate is one by the estimate at three times the rate."""
    sgd = ["--optimizer", "sgd", "--schedule", "constant"]
    document, thrice = trained("--rule", "toy", *sgd, "--its-option", "3", "--lr", "1e-3")
    _, plain = trained("--rule", "toy", *sgd, "--lr", "3e-3")
    _, np = trained("--rule", "np", *sgd, "--lr", "3e-3")
    losses = [tree["metrics"]["step"]["loss"] for tree in (thrice, plain, np)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[1].tolist() == losses[2].tolist()
    assert (document["config"]["its_option"], json.loads(thrice["config"])["its_option"]) == (3, 3)
    assert (document["config"]["its_manner"], document["config"]["scale"]) == ("plain", "network")
    assert "its_option" not in json.loads(np["config"])
    assert thrice["id"] != trained("--rule", "toy", *sgd, "--its-option", "2", "--lr", "1e-3")[1]["id"]


def test_it_is_a_setting_of_recipes(trained, run, monkeypatch):
    monkeypatch.setattr(config, "recipes", lambda: {"*": {"lr": 1e-3}, "*/toy": {"its_option": 5, "its_switch": False}})
    document, _ = trained("--rule", "toy")
    assert (document["config"]["its_option"], document["config"]["its_switch"]) == (5, False)
    assert trained("--rule", "toy", "--its-option", "2", "--its-switch")[0]["config"]["its_option"] == 2
    monkeypatch.setattr(config, "recipes", lambda: {"*/toy": {"its_optoin": 5}})
    assert "recipe '*/toy': unknown key 'its_optoin'; did you mean its_option" in run(*TRAIN, "--rule", "toy")[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rule", "np", "--its-option", "3"], "--its-option has no effect on rule np"),
        (["--rule", "dbp", "--its-option", "1"], "--its-option has no effect on rule dbp"),
        (["--rule", "toy", "--scale", "layer"], "--scale has no effect on rule toy"),
        (["--rule", "toy", "--its-option", "0"], "rule toy: its_option = 0; give at least 1"),
        (["--rule", "toy", "--its-manner", "loud"], "its_manner: must be 'plain' or 'flipped' (found 'loud')"),
        (["--rule", "toy", "--draws", "0"], "draws = 0"),
        (["--rule", "tyo"], "did you mean toy"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_it_is_refused_where_it_has_no_effect_or_no_sense(arguments, message, run):
    status, out, err = run(*TRAIN, *arguments)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert message in err


def test_its_type_is_that_of_the_command_line(run):
    assert run(*TRAIN, "--rule", "toy", "--its-option", "many")[0] == 2


def test_it_is_compared(run):
    arguments = ["compare", *TRAIN[1:], "--rules", "toy,np", "--seeds", "0", "--its-option", "3", "--no-its-switch"]
    status, out, err = run(*arguments, "--json")
    assert (status, err) == (0, "warning: options without effect: --its-option on np; --its-switch on np\n")
    toy, np = (row["settings"] for row in json.loads(out)["rows"])
    assert [(row["its_option"], row["its_switch"]) for row in (toy, np)] == [(3, False), (1, True)]
    assert "toy, 1 draw" in run(*arguments)[1]
    status, _, err = run("compare", *TRAIN[1:], "--rules", "np,anp", "--its-option", "3")
    assert (status, "--its-option has no effect on np, anp" in err) == (1, True)


def test_it_is_explained(run):
    shown = run("rules", "show", "toy")[1]
    for part in ("its_option = 1", "Factor of every estimate.", "plain, flipped", "a whole number"):
        assert part in shown
    document = json.loads(run("rules", "show", "toy", "--json")[1])
    assert document["options"]["its_option"] == 1
    assert document["help"]["its_manner"] == "Sign of every estimate."
    for command in ("train", "compare"):
        text = " ".join(run(command, "--help")[1].replace("│", " ").split())
        for part in ("--its-option <int> Factor of every estimate.", "Sign of every estimate. One of: plain, flipped."):
            assert part in text
        assert "--no-its-switch" in text


def test_a_rule_out_of_the_registry_leaves_nothing(run, monkeypatch):
    monkeypatch.delitem(REGISTRY, "toy")
    assert "--its-option" not in run("train", "--help")[1]
    assert run(*TRAIN, "--rule", "np", "--its-option", "3")[0] == 2


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("lr", "rule other: its option lr is a setting of every run; give it another name"),
        ("workers", "option workers of a rule is one of the command already; give it another name"),
    ],
)
def test_an_option_with_the_name_of_another_needs_another_name(option, message, run, monkeypatch):
    own = field(default=1.0, metadata={"help": "Something else."})
    other = make_dataclass("Other", [(option, float, own)], bases=(Toy,), frozen=True, kw_only=True)
    monkeypatch.setitem(REGISTRY, "other", other)
    monkeypatch.setattr(other, "name", "other")
    status, out, err = run("compare", *TRAIN[1:], "--rules", "np")
    assert (status, out, err) == (1, "", f"error: {message}\n")


@pytest.mark.parametrize("kind", [list, tuple[int, ...], "int | list[str]"])
def test_an_option_is_something_that_a_command_line_can_say(kind):
    @dataclass(frozen=True, kw_only=True)
    class Listed:
        them: kind = field(default=None, metadata={"help": "Several."})

    with pytest.raises(TypeError, match="them: an option is a bool, int, float, str or Literal"):
        options_of(Listed)
