"""What the documentation site adds to docs/: pages from elsewhere, and links that work on a code host and on the site.

mkdocs calls these functions; `hooks` in mkdocs.yml names this file. A link is written as the file's place in the
repository; here it becomes the place of the page that shows the file.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
BUILT = ROOT / "build" / "site"  # pages that `make docs` writes: executed tutorials, command line, keys, studies
LINK = re.compile(r"(?<=\]\()[^)\s#]+")
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
    "CITATION.cff": "CITATION.cff",
}


def shown_at() -> dict[str, str]:
    """File in the repository -> the file of the site that shows it, where this is not its place below docs/."""
    files = [file.name for file in (ROOT / "examples").glob("*.*")]
    examples = {f"examples/{name}": f"examples/{re.sub(r'[.]py$', '.md', name)}" for name in files}
    tutorials = {
        f"docs/tutorials/{file.name}": f"tutorials/{file.stem}.md" for file in (ROOT / "docs/tutorials").glob("*.ipynb")
    }
    return PAGES | examples | tutorials


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from elsewhere."""
    for source, target in shown_at().items():
        path = ROOT / source
        if path.suffix == ".py":
            code = f"# {path.name}\n\n```python\n{path.read_text(encoding='utf-8')}```\n"
            files.append(File.generated(config, target, content=code))
        elif path.suffix != ".ipynb":
            files.append(File.generated(config, target, abs_src_path=str(path)))
    for path in sorted(BUILT.rglob("*.*")):
        files.append(File.generated(config, path.relative_to(BUILT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to files of the repository into links to their pages; the start page has no list beside it."""
    if page.is_homepage:
        page.meta["hide"] = ["navigation"]
    shown = shown_at()
    own = {target: source for source, target in shown.items()}.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def on_site(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(own), link[0]))
        if "://" in link[0] or not (ROOT / target).is_file():
            return link[0]
        there = shown.get(target, target.removeprefix("docs/"))
        return posixpath.relpath(there, posixpath.dirname(page.file.src_uri))

    return LINK.sub(on_site, markdown)
