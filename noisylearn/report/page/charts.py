"""Charts of the runs of a comparison along their training: scores, and what was seen in every layer."""

import math
import statistics
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import zip_longest

from noisylearn.report.limits import LOWER_IS_BETTER, limits
from noisylearn.report.page.series import Series
from noisylearn.report.page.vega import SHOWN, Chart, Spec, Values, color_of, interactive, rounded, tip, words

MOST_LAYERS = 12  # that have charts
NEAR = 0.05  # of the axis, within which two names are written as one
DECORRELATED = ".layer"  # ends the name of a layer behind a decorrelation
LAYER_MEASURES = {
    "alignment_": "cosine with the true gradient",
    "noise_to_signal_": "noise over signal in one pass",
}


def learning_chart(series: Sequence[Series], metric: str, baselines: Mapping[str, float]) -> Chart:
    """The held-out metric along the epochs: median and range over the seeds, and trivial baselines."""
    curves = {one.label: _epochs(one, f"held_out_{metric}") for one in series}
    spec = _curves(series, curves, _epoch_axis(curves), _score_axis(curves, metric, baselines))
    spec["layer"] += _baseline_layers(baselines, *limits(metric, _medians(curves), baselines))
    note = "Line: median over the seeds; band: their range; dotted: trivial baselines. What lies off the axis is cut."
    return Chart(f"held-out {words(metric)}, read on the chip, after every epoch", spec, note)


def passes_chart(series: Sequence[Series], metric: str, baselines: Mapping[str, float]) -> Chart:
    """The same against the passes over the data that it took, forward and backward."""
    curves = {one.label: _epochs(one, f"held_out_{metric}") for one in series}
    x = {
        "field": "passes", "type": "quantitative", "title": "passes over the data, forward + backward",
        "scale": {"type": "log", "nice": False, "padding": 6},
        "axis": {"grid": False, "labelOverlap": True, "format": "~g"},
    }  # fmt: skip
    note = "Every pass counts as one, backward passes of backprop as well; the chip itself has forward passes alone."
    return Chart(
        f"held-out {words(metric)} against passes",
        _curves(series, curves, x, _score_axis(curves, metric, baselines)),
        note,
    )


def layer_charts(series: Sequence[Series]) -> list[Chart]:
    """Alignment of the estimate with the true gradient, and noise over signal: a chart for every layer."""
    found: dict[tuple[str, str], set[str]] = {}
    for run in (run for one in series for run in one.row.runs):
        for key in run["metrics"]["epoch"]:
            for start in (start for start in LAYER_MEASURES if key.startswith(start)):
                layer = key.removeprefix(start).removesuffix(DECORRELATED)
                found.setdefault((start, layer), set()).add(key)
    return [_layer_chart(series, start, layer, keys) for (start, layer), keys in list(found.items())[:MOST_LAYERS]]


def _layer_chart(series: Sequence[Series], start: str, layer: str, keys: Collection[str]) -> Chart:
    """One measure of one layer, which has another name where its inputs are decorrelated."""
    curves = {one.label: max((_epochs(one, key) for key in keys), key=len) for one in series}
    title = LAYER_MEASURES[start]
    y = {"field": "median", "type": "quantitative", "title": None, "scale": {"zero": start != "alignment_"}}
    return Chart(f"layer {layer}: {title}", _curves(series, curves, _epoch_axis(curves), y) | {"height": 170})


def _epochs(one: Series, key: str) -> Values:
    """A measurement along the epochs: median and range over the seeds, and the passes that it took."""
    runs = [run for run in one.row.runs if key in run["metrics"]["epoch"]]
    curves = [[float(value) for value in run["metrics"]["epoch"][key]] for run in runs]
    epochs = max(map(len, curves), default=0)
    values: Values = []
    for epoch, of_seeds in enumerate(zip_longest(*curves), 1):
        found = [value for value in of_seeds if value is not None and math.isfinite(value)]
        if found:
            passes = {kind: rounded(epoch / epochs * _passes(one, kind)) for kind in ("forward", "backward")}
            values.append(
                {"series": one.label, "epoch": epoch, **passes, "passes": sum(passes.values()),
                 "median": rounded(statistics.median(found)), "low": rounded(min(found)), "high": rounded(max(found))}
            )  # fmt: skip
    return values


def _passes(one: Series, kind: str) -> float:
    """Median of the passes of a kind over the data, in the whole run."""
    return statistics.median(one.row.finals(f"{kind}_passes_over_data"))


def _medians(curves: Mapping[str, Values]) -> list[list[float]]:
    return [[value["median"] for value in of_one] for of_one in curves.values() if of_one]


def _epoch_axis(curves: Mapping[str, Values]) -> Spec:
    """An axis with ticks at about ten whole numbers."""
    last = max((value["epoch"] for of_one in curves.values() for value in of_one), default=1)
    step = -(-last // 10)
    ticks = sorted({1, *range(step, last + 1, step)} if step > 1 else range(1, last + 1))
    scale = {"zero": False, "nice": False, "padding": 6}
    axis = {"values": ticks, "grid": False, "format": "d", "labelOverlap": True}
    return {"field": "epoch", "type": "quantitative", "title": "epoch", "scale": scale, "axis": axis}


def _score_axis(curves: Mapping[str, Values], metric: str, baselines: Mapping[str, float]) -> Spec:
    low, high = limits(metric, _medians(curves), baselines)
    scale: Spec = {"domain": [rounded(low), rounded(high)], "nice": False, "zero": False}
    if metric in LOWER_IS_BETTER:
        scale["type"] = "log"
    return {"field": "median", "type": "quantitative", "title": words(metric), "scale": scale}


def _curves(series: Sequence[Series], curves: Mapping[str, Values], x: Spec, y: Spec) -> Spec:
    """Lines with bands, of which the page's legend hides some."""
    drawn = [one for one in series if curves[one.label]]
    band = {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}, "color": color_of(drawn)}
    dash_scale = {"domain": [one.label for one in drawn], "range": [list(one.dash) for one in drawn]}
    dash = {"field": "series", "type": "nominal", "scale": dash_scale, "legend": None}
    told = {
        "series": "row", "epoch": "epoch", "median": y["title"] or "median", "low": "lowest seed",
        "high": "highest seed", "forward": "forward passes", "backward": "backward passes",
    }  # fmt: skip
    tips = [tip(field, title) for field, title in told.items()]
    line = {"x": x, "y": y, "color": color_of(drawn), "strokeDash": dash, "tooltip": tips}
    layers = [
        {"transform": [SHOWN], "mark": {"type": "area", "opacity": 0.16, "clip": True}, "encoding": band},
        {"transform": [SHOWN], "mark": {"type": "line", "clip": True}, "encoding": line},
        {"transform": [SHOWN], "mark": {"type": "point", "filled": True, "size": 28, "opacity": 1, "clip": True},
         "encoding": {key: value for key, value in line.items() if key != "strokeDash"}},
    ]  # fmt: skip
    values = [value for of_one in curves.values() for value in of_one]
    return interactive({"data": {"values": values}, "height": 300, "layer": layers})


def _baseline_layers(baselines: Mapping[str, float], low: float, high: float) -> Iterator[Spec]:
    """Dotted lines of trivial baselines that lie on the axis, with their names at the left."""
    values: Values = []
    for name, score in sorted(baselines.items(), key=lambda item: item[1]):
        if not low <= score <= high:
            continue
        if values and score - values[-1]["score"] < NEAR * (high - low):  # two names would hide each other
            values[-1]["name"] += f", {name}"
        else:
            values.append({"name": name, "score": rounded(score)})
    y = {"field": "score", "type": "quantitative"}
    rule = {"type": "rule", "strokeDash": [2, 4], "color": "currentColor"}
    text = {"type": "text", "align": "left", "dx": 3, "dy": -6, "color": "currentColor"}
    yield {"data": {"values": values}, "mark": rule, "encoding": {"y": y}}
    named = {"y": y, "x": {"value": 0}, "text": {"field": "name"}}
    yield {"data": {"values": values}, "mark": text, "encoding": named}
