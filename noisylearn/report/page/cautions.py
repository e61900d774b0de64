"""What a reader of a comparison has to know before the numbers: what failed, and what was not the same for all."""

import json
import statistics
from collections.abc import Iterable, Sequence

from noisylearn.experiments.row import Row
from noisylearn.ground.errors import shortened
from noisylearn.report.page.series import Series
from noisylearn.report.tables import edge


def cautions(series: Sequence[Series]) -> list[str]:
    """Reservations about a comparison, a sentence each; none where there is nothing to say."""
    kinds = (_failed, _early, _uneven, _at_edge, _one_seed, _versions)
    return [text for kind in kinds for text in kind(series)]


def _failed(series: Sequence[Series]) -> Iterable[str]:
    for one in series:
        if one.row.refused:
            yield f"{one.label}: {one.row.refused}"


def _early(series: Sequence[Series]) -> Iterable[str]:
    for one in series:
        if reasons := dict.fromkeys(run["stopped_early"] for run in one.row.runs if run.get("stopped_early")):
            yield f"{one.label} ended early: {shortened('; '.join(reasons), 500)}."


def _uneven(series: Sequence[Series]) -> Iterable[str]:
    updates = {one.label: statistics.median(one.row.finals("weight_updates")) for one in series if one.row.runs}
    if len(set(updates.values())) > 1:
        yield f"Unequal numbers of weight updates: {_listed({k: f'{v:g}' for k, v in updates.items()})}."
    trials = {one.label: len(one.row.trials) for one in series if one.row.runs}
    if len(set(trials.values())) > 1:
        yield f"Unequal numbers of trials of settings: {_listed({k: str(v) for k, v in trials.items()})}."
    parts = {one.label: str(one.row.settings["held_out"]) for one in series if one.row.runs}
    if len(set(parts.values())) > 1:
        yield f"Measured on different parts of the data: {_listed(parts)}."


def _at_edge(series: Sequence[Series]) -> Iterable[str]:
    if found := {one.label: edge(one.row).removeprefix(", ") for one in series if edge(one.row)}:
        yield f"The best learning rate is at the edge of those tried, others may be better: {_listed(found)}."


def _one_seed(series: Sequence[Series]) -> Iterable[str]:
    if found := [one.label for one in series if len(one.row.runs) == 1]:
        yield f"One seed alone, a narrow order may turn with another: {'; '.join(found)}."


def _versions(series: Sequence[Series]) -> Iterable[str]:
    for name in ("noisylearn", "torch"):
        found = {json.loads(run["versions"])[name] for run in _runs(one.row for one in series)}
        if len(found) > 1:
            yield f"Runs of several versions of {name}: {', '.join(sorted(found))}."


def _runs(rows: Iterable[Row]) -> Iterable[dict]:
    return (run for row in rows for run in row.runs)


def _listed(facts: dict[str, str]) -> str:
    """Labels by what is said of them."""
    by_fact: dict[str, list[str]] = {}
    for label, fact in facts.items():
        by_fact.setdefault(fact, []).append(label)
    return "; ".join(f"{fact} ({', '.join(labels)})" for fact, labels in by_fact.items())
