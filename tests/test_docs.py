"""The examples in the README and the docs run."""

import gc
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


EXAMPLES = [
    pytest.param(code, id=f"{page.name}-{i}") for page in PAGES for i, code in enumerate(blocks(page, "python"))
]


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 4


@pytest.mark.parametrize("code", EXAMPLES)
def test_python_example_runs(code: str) -> None:
    exec(compile(code, "example", "exec"), {"__name__": "example"})
    gc.collect()  # a rule that it defined is one of all rules until then


def test_profile_example_is_valid() -> None:
    from noisylearn.profiles import HardwareProfile, parse_profile
    from noisylearn.rules import rules_for

    text, pulsed = blocks(ROOT / "docs" / "profiles.md", "toml")
    assert parse_profile(text).name == "my-device"
    noisy = {f"{rule}(baseline='noisy')" for rule in ("ANP", "NRL", "LearnedFeedback")}
    everywhere = noisy | {"BP()", "ForwardGradient()"}
    assert {rule.call() for rule in rules_for(parse_profile(text))} == everywhere | {"OUA()", "SPSA()"}
    whole, part = tomllib.loads(text), tomllib.loads(pulsed)
    whole["specification"] = {"date": whole["specification"]["date"]} | part["specification"]
    whole["calibration"]["effects"] = part["calibration"]["effects"]
    profile = HardwareProfile.model_validate(whole | {"write": part["write"]})
    assert profile.in_place is not None
    assert {rule.call() for rule in rules_for(profile)} == everywhere


def test_page_of_profiles_says_which_rules_can_learn() -> None:
    """The table of rules by profile agrees with `noisylearn profiles show NAME`."""
    from noisylearn.profiles import load_profile, profile_files
    from noisylearn.rules import ANP, rules_for

    page = (ROOT / "docs" / "profiles.md").read_text(encoding="utf-8")
    lines = page.split("| profiles | rules, beside those two |\n| --- | --- |\n")[1].split("\n\n")[0].splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines]
    said = {name: rules for names, rules in cells for name in re.findall(r"`([\w.-]+)`", names)}
    others = next(rules for names, rules in cells if names.startswith("all others"))
    for name in profile_files():
        able, rules = rules_for(load_profile(name)), said.get(name, others)
        assert {"bp", "fg", *re.findall(r"`(\w+)`", rules)} == {rule.name for rule in able}, name
        assert ("noisy baseline" in rules) == (ANP(baseline="noisy") in able), name
    assert set(said) <= set(profile_files())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
