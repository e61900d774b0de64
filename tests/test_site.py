"""The documentation site: what is public has a place on it, and what it makes of links, shapes and records."""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

import noisylearn as nl

griffe = pytest.importorskip("griffe")
pytest.importorskip("mkdocs")

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import site_griffe  # noqa: E402
import site_hooks  # noqa: E402
import site_pages  # noqa: E402

NOTEBOOKS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))
REFERENCE = [page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs" / "reference").glob("*.md"))]
ENTRIES = set(re.findall(r"^::: (\S+)$", "\n".join(REFERENCE), re.MULTILINE))


def text_of(notebook: Path) -> str:
    """The Markdown of a notebook."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


@pytest.mark.parametrize("module", [nl, nl.rules, nl.runs, nl.tasks, nl.networks], ids=lambda module: module.__name__)
def test_every_public_name_has_an_entry_in_the_reference(module: object) -> None:
    """Under its own name, or under that of `noisylearn` where it is public there as well."""
    for name in module.__all__:  # type: ignore[attr-defined]
        entries = {f"{module.__name__}.{name}", f"noisylearn.{name}"}  # type: ignore[attr-defined]
        below = any(entry.startswith(f"noisylearn.{name}.") for entry in ENTRIES)
        assert entries & ENTRIES or below, f"{name} has no entry on a page of docs/reference"


def test_every_picture_is_in_a_gallery() -> None:
    own = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    studies = site_pages.gallery_page()
    for picture in (ROOT / "docs" / "images").iterdir():
        assert f"(images/{picture.name})" in own
    for picture in (ROOT / "docs" / "results" / "images").iterdir():
        assert f"(images/{picture.name})" in studies


def test_keys_of_a_profile_have_their_meaning() -> None:
    row = next(line for line in site_pages.keys_page().splitlines() if line.startswith("| `g_max_us` |"))
    assert row.endswith("| `required` | largest conductance, in microsiemens. |")


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_notebooks_hold_no_outputs_and_lead_somewhere(notebook: Path) -> None:
    """The build of the site runs them."""
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    for target in re.findall(r"\]\(([^)#]+)\)", text_of(notebook)):
        assert (notebook.parent / target).exists(), f"{notebook.name} links to {target}"


def test_links_to_other_hosts_are_whole() -> None:
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    texts = [page.read_text(encoding="utf-8") for page in pages] + [text_of(notebook) for notebook in NOTEBOOKS]
    links = [link for text in texts for link in re.findall(r"\]\(([^)\s]*://[^)\s]*)\)", text)]
    assert len(links) > 3
    for link in links:
        parts = urlsplit(link)
        assert parts.scheme == "https", link
        assert "." in parts.netloc, link


@pytest.mark.parametrize(
    ("page", "written", "on_site"),
    [
        ("index.md", "docs/rules.md#np", "rules.md#np"),
        ("index.md", "benchmarks/README.md", "benchmarks.md"),
        ("contributing.md", "docs/own-chip.md", "own-chip.md"),
        ("own-chip.md", "../examples/chip_in_the_loop.py", "examples/chip_in_the_loop.md"),
        ("sweeps.md", "../examples/sweep.toml", "examples/sweep.toml"),
        ("index.md", "CITATION.cff", "CITATION.cff"),
        ("tutorials/first-chip.md", "recurrent.ipynb", "recurrent.md"),
        ("tutorials/first-chip.md", "../idea.md", "../idea.md"),
        ("results/anp.md", "images/anp-fig2-small.png", "images/anp-fig2-small.png"),
        ("rules.md", "https://neuroir.org", "https://neuroir.org"),
        ("rules.md", "no-such-file.md", "no-such-file.md"),
        ("rules.md", "#control-variates", "#control-variates"),
    ],
)
def test_links_to_files_become_links_to_pages(page: str, written: str, on_site: str) -> None:
    shown = SimpleNamespace(file=SimpleNamespace(src_uri=page), is_homepage=False, meta={})
    assert site_hooks.on_page_markdown(f"see [it]({written}).", shown, None, None) == f"see [it]({on_site})."


CODE = """
from typing import NamedTuple
from jaxtyping import Float
from pydantic import BaseModel
from torch import Tensor

def f(x: Float[Tensor, "batch n_in"], y: dict[str, Float[Tensor, " batch"]] | None) -> Float[Tensor, "..."]: ...

class Base(BaseModel):
    kind: str = "base"

class Device(Base):
    g_max_us: float

class Pair(NamedTuple):
    mean: float
"""


def test_shapes_and_records_are_documented_as_written() -> None:
    extensions = griffe.load_extensions(site_griffe.Shapes, site_griffe.Records)
    with griffe.temporary_visited_package("code", {"__init__.py": CODE}, extensions=extensions) as code:
        shapes = [str(parameter.annotation) for parameter in code["f"].parameters]
        assert shapes == ['Float[Tensor, "batch n_in"]', 'dict[str, Float[Tensor, " batch"]] | None']
        assert str(code["f"].returns) == 'Float[Tensor, "..."]'
        fields = [(field.name, field.default) for field in code["Device"].parameters]
        assert fields == [("self", None), ("kind", "'base'"), ("g_max_us", None)]
        assert [field.name for field in code["Pair"].parameters] == ["self", "mean"]
