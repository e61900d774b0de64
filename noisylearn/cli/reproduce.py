"""`noisylearn reproduce`: measure published tables and figures again, and compare."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from noisylearn.cli import options as o
from noisylearn.cli.output import json_text, print_json, print_table, print_text, progress
from noisylearn.engines import Engine
from noisylearn.ground.errors import UserError
from noisylearn.ground.interrupt import term_raised
from noisylearn.ground.replace import replace_file
from noisylearn.ground.table import Table
from noisylearn.papers import PAPERS, STUDIES, study
from noisylearn.papers.harness.pages import figures_table, write_pages
from noisylearn.papers.harness.reproduction import measure, reproduce
from noisylearn.papers.harness.results import Result
from noisylearn.papers.harness.study import Study
from noisylearn.papers.harness.study_page import study_page
from noisylearn.report.page import write_page

SCALES = "smoke (seconds), small (minutes on two cores), large (hours on them; few studies have it) or paper."
AGAIN = "the same command resumes with the parts that are not done"


def reproduce_command(
    item: Annotated[str, typer.Argument(help="A study; or `list` for all of them, `pages` for pages of results.")],
    *,
    engine: Engine,
    scale: Annotated[str, typer.Option(help=SCALES)] = "small",
    seeds: Annotated[int | None, typer.Option(help="Number of seeds; default: the study's own.")] = None,
    part: Annotated[
        list[str] | None,
        typer.Option(
            help="Measure this part alone (repeat for more; patterns such as 'dnp*' too); the command without --part "
            "puts all of them together."
        ),
    ] = None,
    device: o.Device = None,
    data_dir: o.DataDir = None,
    out: Annotated[Path, typer.Option(help="Folder of results, plots and what is needed to go on.")] = Path(
        "reproduced"
    ),
    docs: Annotated[Path, typer.Option(help="With `pages`: folder to write them to.")] = Path("docs/results"),
    json: o.Json = False,
) -> None:
    """Reproduce a published figure or table: ours beside it, and a verdict by criteria that are fixed in code.

    Example: noisylearn reproduce anp-fig5 --scale small --workers 2
    """
    if part and item in ("list", "pages"):
        raise UserError(f"--part goes with a study, not with '{item}'")
    if item == "list":
        _list(json)
    elif item == "pages":
        written = write_pages(out, docs, PAPERS, STUDIES)
        print_json([str(path) for path in written]) if json else print_text("\n".join(map(str, written)))
    else:
        request = study(item), scale, seeds, out
        place = device or "auto", data_dir
        _measure(*request, part, *place, engine, json) if part else _reproduce(*request, *place, engine, json)


def _list(json: bool) -> None:
    if json:
        print_json([{"name": s.name, "paper": s.paper, "source": s.source, "title": s.title} for s in STUDIES])
        return
    rows = [[s.name, f"[{s.paper.upper()}] {s.source}", s.title] for s in STUDIES]
    print_table(Table("studies", ("name", "published in", "title"), rows))
    for key, paper in PAPERS.items():
        print_text(f"[{key.upper()}] {paper.citation}")


def _measure(
    chosen: Study,
    scale: str,
    seeds: int | None,
    out: Path,
    parts: list[str],
    device: str,
    data_dir: str | None,
    engine: Engine,
    json: bool,
) -> None:
    with progress(AGAIN) as bar, term_raised():
        missing = measure(chosen, scale, seeds, out, parts, device, data_dir, bar.shares(), engine)
    if json:
        print_json({"study": chosen.name, "scale": scale, "parts_missing": missing})
    else:
        left = (
            f"still to be measured: {'; '.join(missing)}" if missing else "all parts are there: say it without --part"
        )
        print_text(f"{chosen.name}: {left}")


def _reproduce(
    chosen: Study,
    scale: str,
    seeds: int | None,
    out: Path,
    device: str,
    data_dir: str | None,
    engine: Engine,
    json: bool,
) -> None:
    with progress(AGAIN) as bar, term_raised():
        result, file = reproduce(chosen, scale, seeds, out, device, data_dir, bar.shares(), engine)
    plot, page, table = (file.with_suffix(suffix) for suffix in (".png", ".html", ".json"))
    result.plot(plot)
    write_page(page, study_page(result, PAPERS[chosen.paper], plot.read_bytes()))
    files = {"result": str(file), "plot": str(plot), "page": str(page)}
    document = _document(result) | {"file": files["result"], "plot": files["plot"], "page": files["page"]}
    replace_file(table, (json_text(document) + "\n").encode(), "table")
    if json:
        print_json(document)
    else:
        _print(result, files)


def _document(result: Result) -> dict[str, Any]:
    judged = result.judgement
    return {
        "study": result.study.name,
        "scale": result.scale,
        "seeds": int(result.facts["seeds"]),
        "verdict": judged.verdict,
        "figures": [vars(figure) for figure in judged.figures],
        "criteria": [{**vars(criterion), "holds": bool(criterion.holds)} for criterion in judged.criteria],
        "wall_s": result.facts["wall_s"],
        "machine": result.facts["machine"],
    }


def _print(result: Result, files: Mapping[str, str]) -> None:
    judged = result.judgement
    title = f"{result.study.name}: {result.study.title}, scale {result.scale}"
    print_table(figures_table(title, judged.figures))
    rows = [[c.statement, c.measured, "holds" if c.holds else "does not hold"] for c in judged.criteria]
    print_table(Table("criteria", ("criterion", "measured", "verdict"), rows))
    caution = " (smoke: a test of the package, not a result)" if result.scale == "smoke" else ""
    print_text(f"{result.study.name}: {judged.verdict}{caution}\nsetting: {result.study.setting[result.scale]}")
    print_text("\n".join(f"{what}: {file}" for what, file in files.items()))
