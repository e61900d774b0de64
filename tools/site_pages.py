"""Pages of the documentation site that the package itself states: keys of a profile, and the pictures of its studies.

python tools/site_pages.py build/site    # `make docs` does it
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import griffe

from noisylearn.profiles.keys import Table, keys, tables

ROOT = Path(__file__).parents[1]
PICTURE = re.compile(r"!\[([^\]]+)\]\((images/([\w-]+)-(\w+)\.png)\)")


def keys_page() -> str:
    """What `noisylearn profiles keys NAME` prints, for all tables."""
    lines = [
        "# Keys of a profile",
        "",
        "Every table that a profile may have, as `noisylearn profiles keys NAME` prints it. Besides: `schema_version`,",
        "`name`, `title`, `description` and `observable` at the top; `[sources.KEY]` with `citation` and `url`; `date`",
        "in `[specification]` and `[calibration]`; `status` and `source` in every table.",
    ]
    for table in tables().values():
        lines += ["", f"## {table.name}", "", f"In a file: `{table.heading}`", "", *_explained(table)]
    return "\n".join(lines) + "\n"


def _explained(table: Table) -> Iterator[str]:
    """What a table of a profile means, and its keys as a table in Markdown."""
    meanings = {}
    for section in griffe.parse_google(griffe.Docstring(table.meaning), warnings=False):
        if section.kind is griffe.DocstringSectionKind.parameters:
            meanings |= {key.name: " ".join(key.description.split()) for key in section.value}
        elif section.kind is griffe.DocstringSectionKind.text:
            yield f"{section.value}\n"
        else:
            yield f"{section.title}: {section.value.description}\n"
    yield "| key | value | default | meaning |"
    yield "| --- | --- | --- | --- |"
    for key in keys(table):
        meaning = key.meaning or meanings.get(key.name, "")
        yield f"| `{key.name}` | {key.takes} | `{key.default}` | {meaning.replace('|', '&#124;')} |"


def gallery_page() -> str:
    """The pictures on the pages of the papers, with the command that makes each."""
    lines = [
        "# Gallery of studies",
        "",
        "Every picture is made by one command, from seeds; the link leads to figures and verdict.",
    ]
    for page in sorted((ROOT / "docs" / "results").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        lines += ["", f"## {text.splitlines()[0].removeprefix('# ')}", "", '<div class="grid cards" markdown>', ""]
        for title, picture, study, scale in PICTURE.findall(text):
            lines += [
                f"-   [![{title}]({picture})]({picture})",
                "",
                f"    [{title}]({page.name}#{study}-{scale})",
                "",
                f"    `noisylearn reproduce {study} --scale {scale}`",
                "",
            ]
        lines.append("</div>")
    return "\n".join(lines) + "\n"


def main(out: Path) -> None:
    for name, page in (("reference/profile-keys.md", keys_page()), ("results/gallery.md", gallery_page())):
        file = out / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
