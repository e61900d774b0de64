"""Pages of results, one per paper, from result files."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from noisylearn.experiments.run_file import prepare_folder
from noisylearn.ground.errors import UserError
from noisylearn.ground.replace import replace_file
from noisylearn.ground.table import Table
from noisylearn.ground.tree_file import Tree
from noisylearn.papers.harness.results import Result, read_result
from noisylearn.papers.harness.study import Figure, Found, Paper, Study


def write_pages(results: Path, docs: Path, papers: Mapping[str, Paper], studies: Sequence[Study]) -> list[Path]:
    """Write a page per paper, and the pictures on it, from result files.

    Args:
        results: folder of the result files.
        docs: folder of the pages; the pictures go to images/ in it.
        papers: by key, all that studies name.
        studies: whose results are looked for, in the order of the pages.

    Returns:
        The files that were written.

    Raises:
        UserError: where there are no result files, or one is damaged.
    """
    found = read_results(results, studies)
    if not found:
        raise UserError(f"folder {results} holds no results; run `noisylearn reproduce ITEM --out {results}` first")
    prepare_folder(docs / "images")
    written = []
    for result in found:
        picture = docs / "images" / f"{result.study.name}-{result.scale}.png"
        result.plot(picture)
        written.append(picture)
    for key in dict.fromkeys(result.study.paper for result in found):
        page = docs / f"{key}.md"
        of_paper = [result for result in found if result.study.paper == key]
        replace_file(page, paper_page(papers[key], of_paper).encode(), "page")
        written.append(page)
    return written


def read_results(folder: Path, studies: Sequence[Study]) -> list[Result]:
    """All results of some studies in a folder, in the order of the studies and their scales."""
    places = [folder / f"{one.name}-{scale}.h5" for one in studies for scale in one.sizes]
    return [read_result(place, studies) for place in places if place.exists()]


def paper_page(paper: Paper, results: Sequence[Result]) -> str:
    """The page of a paper in Markdown.

    It has the verdicts, what did not reproduce, what the paper's code does otherwise, and a section per result.
    """
    lines = [f"# {paper.citation}", "", "Written by `noisylearn reproduce pages` from result files; do not edit.", ""]
    lines.append(_verdicts(results).to_markdown())
    of_paper = any(result.judgement.is_published for result in results)
    lines += ["", f"## What {'did not reproduce' if of_paper else 'does not hold'}", "", *_failures(results)]
    if paper.public_code:
        lines += ["", "## What the paper or its public code does otherwise", ""]
        lines += [f"- {text}" for text in paper.public_code]
    for result in results:
        lines += ["", *_section(result)]
    return "\n".join(lines) + "\n"


def _verdicts(results: Sequence[Result]) -> Table:
    rows = []
    for result in results:
        name = result.study.name
        anchor = f"[{name}](#{name}-{result.scale})"
        rows.append([anchor, result.study.source, result.scale, result.judgement.verdict])
    return Table("verdicts", ("study", "of the paper", "scale", "verdict"), rows)


def _failures(results: Sequence[Result]) -> list[str]:
    failed = [(r, c) for r in results for c in r.judgement.criteria if not c.holds]
    lines = [f"- {r.study.name} ({r.scale}): {c.statement}: {c.measured}" for r, c in failed]
    return lines or ["Every criterion holds."]


def _section(result: Result) -> list[str]:
    one, facts, judged = result.study, result.facts, result.judgement
    lines = [f'<a id="{one.name}-{result.scale}"></a>', f"## {one.title} ({one.name}, {result.scale})", ""]
    published = f" Published: {one.published}" * bool(one.published)
    lines += [f"{one.source[0].upper()}{one.source[1:]}.{published}", ""]
    lines += [f"Here: {one.setting[result.scale]}", ""]
    lines += [f"![{one.title}](images/{one.name}-{result.scale}.png)", "", f"Verdict: **{judged.verdict}**.", ""]
    rows = [[c.statement, c.measured, "holds" if c.holds else "**does not hold**"] for c in judged.criteria]
    lines.append(Table("criteria", ("criterion", "measured", ""), rows).to_markdown())
    lines += ["", f"Revised after a run: {one.revised}"] if one.revised else []
    lines += ["", one.remarks] if one.remarks else []
    lines += [line for caution in cautions(result) for line in ("", caution)]
    lines += ["", figures_table("figures", judged.figures).to_markdown()]
    wall = f"{facts['wall_s'] / 60:.1f} min" if facts["wall_s"] >= 60 else f"{facts['wall_s']:.0f} s"
    seeds = int(facts["seeds"])
    return [*lines, "", f"    {result.command}", "", f"{seeds} seed{'s' * (seeds > 1)}, {wall}, {facts['machine']}."]


def cautions(result: Result) -> list[str]:
    """Reservations about the numbers that the result itself shows, a paragraph each."""
    notes = []
    if not result.is_current:
        notes.append("Taken with other settings than those above, by an earlier version.")
    if at_edge := [name for name, tree in _searched(result.found) if _is_at_edge(tree)]:
        notes.append(f"The rate chosen is the smallest or the largest tried: {', '.join(at_edge)}.")
    if int(result.facts["seeds"]) == 1:
        notes.append("One seed: a narrow order may turn with another.")
    return notes


def _searched(found: Found, above: str = "") -> Iterator[tuple[str, Tree]]:
    """Name and tree of every rule whose learning rate was searched for."""
    for name, tree in found.items():
        if isinstance(tree, Mapping) and tree.get("trials"):
            yield above + name, tree
        elif isinstance(tree, Mapping):
            yield from _searched(tree, f"{above}{name} ")


def _is_at_edge(tree: Tree) -> bool:
    tried = [float(rate) for rate in tree["trials"]["lr"]]
    return len(tried) > 2 and float(tree["lr"]) in (min(tried), max(tried))


def figures_table(title: str, figures: Sequence[Figure]) -> Table:
    """Ours beside the published ones."""
    columns = ("quantity", "ours", "published", "difference")
    return Table(title, columns, [figure_cells(figure) for figure in figures], numbers=3)


def figure_cells(figure: Figure) -> list[str]:
    """The cells of a figure in a table: quantity, ours with its standard deviation, published, difference."""
    ours = _number(figure.ours) + (f" ± {_number(figure.sd)}" if figure.sd is not None else "")
    if figure.published is None:
        return [figure.quantity, ours, "-", "-"]
    difference = figure.ours - figure.published
    return [figure.quantity, ours, _number(figure.published), ("+" if difference >= 0 else "") + _number(difference)]


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
