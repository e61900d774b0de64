"""Every study at its smallest scale: it runs, its orderings hold, its files and pages are whole."""

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

from noisylearn.papers import PAPERS, STUDIES, Study, studies
from noisylearn.papers.harness.pages import paper_page, read_results
from noisylearn.papers.harness.reproduction import reproduce

NAMES = [study.name for study in STUDIES]
# What two epochs cannot show: these hold ours against predictors that need no training at all.
BEYOND_SMOKE = {
    "DANP better than a linear fit and than an untrained reservoir",
    "NP local, online below the best guess without memory",
}


@pytest.fixture(scope="module", params=STUDIES, ids=NAMES)
def smoke(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Path]:
    out = tmp_path_factory.mktemp(request.param.name)
    reproduce(request.param, "smoke", None, out)
    return request.param, out


@pytest.mark.slow
def test_smoke_holds_every_criterion(smoke: tuple[Study, Path]) -> None:
    study, out = smoke
    (result,) = read_results(out, STUDIES)
    judged = result.judgement
    assert judged.figures
    assert judged.criteria
    assert [c for c in judged.criteria if not c.holds and c.statement not in BEYOND_SMOKE] == []
    assert result.is_current
    result.plot(out / "plot.png")
    assert (out / "plot.png").stat().st_size > 10_000
    page = paper_page(PAPERS[study.paper], [result])
    assert study.title in page
    assert not re.search(r"\bnan\b", page)


@pytest.mark.slow
def test_again_reads_what_is_done(smoke: tuple[Study, Path]) -> None:
    study, out = smoke
    before = {file: file.stat().st_mtime_ns for file in (out / "parts").iterdir()}
    reproduce(study, "smoke", None, out)
    assert {file: file.stat().st_mtime_ns for file in (out / "parts").iterdir()} == before


@pytest.mark.parametrize(("study", "scale"), [(study, scale) for study in STUDIES for scale in study.sizes])
def test_every_scale_states_its_pieces(study: Study, scale: str) -> None:
    pieces = study.pieces(study.size(scale), range(2))
    names = [piece.name for piece in pieces]
    assert len(set(names)) == len(names) > 0
    assert not [name for name in names if "/" in name]  # they are keys of HDF5
    assert study.setting[scale]


DOCS = Path(__file__).parents[2] / "docs" / "results"


def test_pages_are_what_their_results_say() -> None:
    results = read_results(DOCS / "data", STUDIES)
    assert {result.study.name for result in results} == set(NAMES)
    assert [result.study.name for result in results if not result.is_current] == []
    for key in {result.study.paper for result in results}:
        of_paper = [result for result in results if result.study.paper == key]
        assert (DOCS / f"{key}.md").read_text(encoding="utf-8") == paper_page(PAPERS[key], of_paper)


def test_every_study_is_in_the_registry() -> None:
    """A module in studies/ is a study, what several share is in studies/shared/."""
    found = [
        importlib.import_module(f"{studies.__name__}.{one.name}") for one in pkgutil.iter_modules(studies.__path__)
    ]
    modules = [module for module in found if not hasattr(module, "__path__")]
    assert {one.name for module in modules for one in module.STUDIES} == set(NAMES)
    assert len(set(NAMES)) == len(NAMES)
