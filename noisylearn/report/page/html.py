"""Templates filled with data that may come from anyone, as one file that needs no network.

Whatever a run file gave is escaped by jinja2: as text, or in charts as JSON. Scripts run by their digest alone (a
Content-Security-Policy in the page), so that no text can become one, and nothing may be fetched from anywhere.
"""

import base64
import hashlib
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from noisylearn.ground.replace import FORCE, check_replaceable, replace_file

MARK = b"<!doctype html>\n<!-- noisylearn report -->"  # begins all pages, by which they are known


def filled(template: str, has_charts: bool, **content: Any) -> str:
    """A page: a template with styles, scripts and content.

    Args:
        template: name of the file.
        has_charts: whether the page draws charts, for which it takes 0.9 MB more.
        **content: what it shows.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("noisylearn.report.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scripts = [*([_vega()] if has_charts else []), _template("page.js")]
    return environment.get_template(template).render(
        style=Markup(_template("page.css")),
        scripts=[Markup(script) for script in scripts],
        digests=[_digest(script) for script in scripts],
        made=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        **content,
    )


def write_page(file: Path, page: str, force: bool = False) -> None:
    """Write a page; only another page of ours is replaced.

    Args:
        file: to write.
        page: its content.
        force: whether to replace whatever is there.

    Raises:
        UserError: something else is there, or the file cannot be written.
    """
    check_page(file, force)
    replace_file(file, page.encode(), "report", FORCE, force)


def check_page(file: Path, force: bool = False) -> None:
    """Check, before long work, that a page may be written there; as `write_page`."""
    check_replaceable(file, MARK, "report", FORCE, force)


@cache
def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script."""
    import vl_convert

    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def _template(name: str) -> str:
    return files("noisylearn.report.page").joinpath("templates", name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
