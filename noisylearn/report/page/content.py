"""The page of some runs: its parts, put together."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from noisylearn.experiments.config import TrainConfig
from noisylearn.experiments.row import Row
from noisylearn.experiments.run_facts import RunFacts
from noisylearn.ground.errors import UserError
from noisylearn.profiles import profile_from_text
from noisylearn.report.page.cautions import cautions
from noisylearn.report.page.charts import layer_charts, learning_chart, passes_chart
from noisylearn.report.page.commands import train_command
from noisylearn.report.page.drift_chart import drift_chart
from noisylearn.report.page.html import filled
from noisylearn.report.page.profile import ProfilePart, profile_part
from noisylearn.report.page.series import Series, series_of
from noisylearn.report.page.tables import SortTable, results_table, runs_table, settings_tables
from noisylearn.report.page.vega import Chart
from noisylearn.report.tables import trivial_baselines
from noisylearn.version import __version__


@dataclass(frozen=True)
class Comparison:
    """The rows of one task, as a page shows them."""

    task: str
    series: Sequence[Series]
    cautions: Sequence[str]
    results: SortTable
    charts: Sequence[Chart]
    layers: Sequence[Chart]
    shared: Mapping[str, str]
    differing: SortTable
    runs: SortTable
    commands: Mapping[str, Sequence[str]]


def runs_page(
    comparisons: Mapping[str, Sequence[Row]],
    unread: Mapping[Path, str] | None = None,
    notes: Sequence[str] = (),
    title: str = "",
) -> str:
    """The page of some comparisons.

    Args:
        comparisons: task -> its rows.
        unread: file -> why it is not among them.
        notes: what else a reader has to know.
        title: of the page; nothing for what was compared.

    Returns:
        A document of HTML that needs no other file and no network.
    """
    parts = [_comparison(task, rows) for task, rows in comparisons.items()]
    return filled(
        "runs.html.j2",
        has_charts=True,
        title=title or _title(comparisons),
        comparisons=parts,
        profiles=_profiles(comparisons),
        unread={str(path): reason for path, reason in (unread or {}).items()},
        notes=notes,
        version=__version__,
    )


def _title(comparisons: Mapping[str, Sequence[Row]]) -> str:
    """What was compared: rules and profiles of one task, or the names of several."""
    if len(comparisons) != 1:
        return f"Runs on {', '.join(comparisons)}"
    (task, rows), *_ = comparisons.items()
    rules = ", ".join(dict.fromkeys(row.rule for row in rows))
    profiles = ", ".join(dict.fromkeys(row.profile for row in rows))
    return f"{task}: {rules} on {profiles}"


def _comparison(task: str, rows: Sequence[Row]) -> Comparison:
    series = series_of(rows)
    drawn = [one for one in series if one.row.runs]
    metric = drawn[0].row.metric if drawn else "score"
    baselines = trivial_baselines(rows)
    shared, differing = settings_tables(drawn)
    return Comparison(
        task=task,
        series=drawn,
        cautions=cautions(series),
        results=results_table(series, metric, baselines),
        charts=list(_charts(drawn, metric, baselines)),
        layers=layer_charts(drawn),
        shared=shared,
        differing=differing,
        runs=runs_table(drawn),
        commands={one.label: _commands(one.row) for one in drawn},
    )


def _charts(drawn: Sequence[Series], metric: str, baselines: Mapping[str, float]) -> Iterator[Chart]:
    if not drawn:
        return
    yield learning_chart(drawn, metric, baselines)
    yield passes_chart(drawn, metric, baselines)
    if chart := drift_chart(drawn, metric):
        yield chart


def _commands(row: Row) -> list[str]:
    """The commands that repeat the runs of a row."""
    found = []
    for run, file in zip(row.runs, row.files, strict=True):
        try:
            found.append(_command(RunFacts(Path(file), run)))
        except UserError as error:
            found.append(f"# {error}")
    return found


def _command(run: RunFacts) -> str:
    """The command that repeats a run. Raises UserError where its profile cannot be read."""
    if run.is_of_fit:
        return f"# a run of nl.fit in Python, with seed {run.settings.get('seed')}: call it again as it was called"
    return train_command(TrainConfig.of_run(run.tree, run.path), profile_from_text(run.tree["profile"]))


def _profiles(comparisons: Mapping[str, Sequence[Row]]) -> list[ProfilePart]:
    """The profiles of all runs, each once."""
    texts = {run["profile"]: row.profile for rows in comparisons.values() for row in rows for run in row.runs}
    return [profile_part(name, text) for text, name in texts.items()]
