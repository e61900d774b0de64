"""Registries: what they take, what they refuse in one line, and when they look for plug-ins."""

import re
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import pytest

from noisylearn import effects, rules, tasks
from noisylearn.ground import registry
from noisylearn.ground.errors import UserError
from noisylearn.ground.registry import Registry
from noisylearn.rules import ANP


def named(thing, others):
    return thing.title


def fresh():
    return Registry("thing", "noisylearn.things", {"own": str}, named)


@pytest.fixture
def imported(monkeypatch, tmp_path):
    """Looks for plug-ins in a file with this text."""

    def call(text, name="a_plugin.py"):
        (tmp_path / name).write_text(text)
        monkeypatch.setenv("NOISYLEARN_PLUGINS", str(tmp_path / name))
        return list(fresh())

    monkeypatch.setattr(registry.sys, "path", [*registry.sys.path])
    return call


def test_what_the_package_has_costs_no_look(monkeypatch):
    monkeypatch.setattr(registry, "entry_points", lambda group: pytest.fail("looked"))
    assert fresh()["own"] is str
    assert "own" in fresh()


def test_one_look_in_a_process(monkeypatch):
    groups = []
    monkeypatch.setattr(registry, "entry_points", lambda group: groups.append(group) or [])
    here = fresh()
    assert [*here, *here, len(here), "other" in here] == ["own", "own", 1, False]
    assert groups == ["noisylearn.things"]


def test_what_is_defined_anew_in_the_same_place_replaces_the_old():
    here = fresh()

    def define():
        class Thing:
            title = "mine"

        return Thing

    here.register(define())
    newer = here.register(define())
    assert here["mine"] is newer

    class Other:
        title = "mine"

    with pytest.raises(UserError, match=r"thing 'mine': .*define.<locals>.Thing has this name; give yours another"):
        here.register(Other)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1 +", r"a_plugin.py: SyntaxError: invalid syntax \(a_plugin.py, line 1\)$"),
        ("\nx = y", r"a_plugin.py: NameError: name 'y' is not defined \(a_plugin.py, line 2\)"),
        ("raise SystemExit(3)", r"a_plugin.py: SystemExit: 3 \(a_plugin.py, line 1\)"),
        ("import noisylearn\nnoisylearn.tasks.register(3)", "a_plugin.py: task 3: give a module or an object"),
    ],
)
def test_a_file_that_does_not_work_is_one_line(text, message, imported):
    with pytest.raises(UserError, match=message) as caught:
        imported(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "message"), [("a.txt", "no Python file"), ("json.py", "json is another module")])
def test_a_file_of_another_kind_or_with_the_name_of_a_module(name, message, imported):
    with pytest.raises(UserError, match=message):
        imported("", name)


@dataclass(frozen=True, kw_only=True)
class Own(ANP):
    """A rule with a field of another type than in the other rules, where it is given one."""

    name = "own"
    stands_alone = False


def own(**changed):
    return type("Own", (Own,), changed)


@dataclass(frozen=True, kw_only=True)
class OtherRidge(Own):
    ridge: str = field(default="high", metadata={"help": "Something else."})


@dataclass(frozen=True, kw_only=True)
class Needs(Own):
    needed: int


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (3, "rule 3: give a class derived from noisylearn.rules.Rule"),
        (rules.Rule, "give a class derived from noisylearn.rules.Rule, with all its methods"),
        (own(name="anp"), "rule 'anp': noisylearn.rules.anp.ANP has this name; give yours another"),
        (own(name="danp"), "rule 'danp': its name reads as anp, maybe decorrelated; give it another name"),
        (own(name="tbptt7"), "rule 'tbptt7': its name reads as bptt"),
        (own(name="My rule"), "rule Own: its name 'My rule' is not of small letters, digits, dots and hyphens"),
        (OtherRidge, "rule own: its option ridge is something else in other rules; give another name"),
        (Needs, "rule own: Needs.__init__() missing 1 required keyword-only argument: 'needed'"),
    ],
)
def test_a_rule_that_is_none_or_clashes_is_refused(rule, message):
    before = dict(rules.REGISTRY)
    with pytest.raises(UserError, match=re.escape(message)):
        rules.register(rule)
    assert dict(rules.REGISTRY) == before


class Still(effects.Effect):
    site: ClassVar = "node"
    lifetime: ClassVar = "read"


class Twice(Still):
    kind: Literal["gaussian-node"] = "gaussian-node"


class Nowhere(effects.Effect):
    kind: Literal["nowhere"] = "nowhere"


@pytest.mark.parametrize(
    ("effect", "message"),
    [
        (int, "give a class derived from noisylearn.effects.Effect"),
        (Still, 'effect Still: it does not state its kind; write kind: Literal["mine"] = "mine"'),
        (Twice, "effect 'gaussian-node': noisylearn.effects.gaussian_node.GaussianNode has this name"),
        (Nowhere, "effect Nowhere: it does not state site and lifetime"),
    ],
)
def test_an_effect_that_is_none_or_clashes_is_refused(effect, message):
    with pytest.raises(UserError, match=re.escape(message)):
        effects.register(effect)


def test_a_task_that_clashes_is_refused():
    class Mine:
        DESCRIPTION = tasks.describe("digits")
        load = None

    with pytest.raises(UserError, match="give a module or an object with DESCRIPTION"):
        tasks.register(Mine)
    Mine.load = lambda *_: None
    with pytest.raises(UserError, match=r"task 'digits': noisylearn.tasks.digits has this name"):
        tasks.register(Mine)
