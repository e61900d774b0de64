"""The page of one result of a study, as `noisylearn reproduce` writes it beside the result."""

import base64
import json

from noisylearn.papers.harness.pages import cautions, figures_table
from noisylearn.papers.harness.results import Result
from noisylearn.papers.harness.study import Paper
from noisylearn.report.page.html import filled
from noisylearn.report.page.tables import Cell, SortTable, sortable
from noisylearn.version import __version__


def study_page(result: Result, paper: Paper, picture: bytes) -> str:
    """The page of a result: verdict, criteria, ours beside the published figures, picture, settings, command.

    Args:
        result: what was found.
        paper: that the study is of.
        picture: PNG of it.

    Returns:
        A document of HTML that needs no other file and no network.
    """
    one, facts, judged = result.study, result.facts, result.judgement
    smoke = ["Scale smoke: a test of the package, not a result."] if result.scale == "smoke" else []
    return filled(
        "study.html.j2",
        has_charts=False,
        title=f"{one.title} ({one.name}, {result.scale})",
        paper=paper.citation,
        study=one,
        setting=one.setting[result.scale],
        verdict=judged.verdict,
        criteria=_criteria(result),
        figures=sortable(figures_table("figures", judged.figures)),
        cautions=[*smoke, *cautions(result)],
        picture=base64.b64encode(picture).decode(),
        command=result.command,
        facts={
            "seeds": f"{int(facts['seeds'])}",
            "time": f"{facts['wall_s']:.3g} s",
            "machine": facts["machine"],
            **json.loads(facts["versions"]),
        },
        version=__version__,
    )


def _criteria(result: Result) -> SortTable:
    found = result.judgement.criteria
    rows = [[Cell(c.statement), Cell(c.measured), Cell("holds" if c.holds else "does not hold")] for c in found]
    kinds = ["" if criterion.holds else "failed" for criterion in found]
    return SortTable("criteria", ("criterion", "measured", "verdict"), rows, kinds)
