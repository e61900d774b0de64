"""Charts of a page as Vega-Lite: plain JSON made of numbers, drawn by the browser.

Names that a file gave stand in the data and in titles alone, never where Vega looks for an expression or an address.
"""

import math
import statistics
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from noisylearn.report.curves import Curve, Panel
from noisylearn.report.limits import LOWER_IS_BETTER, limits
from noisylearn.report.page.series import COLORS, Series

Spec = dict[str, Any]
Values = list[dict[str, Any]]
POINTS = 120  # of a curve of a device
MOST_LAYERS = 12  # that have charts
SHOWN = {"filter": "indexof(hidden, datum.series) < 0"}
DECORRELATED = ".layer"  # ends the name of a layer behind a decorrelation
EPOCHS: Spec = {
    "field": "epoch", "type": "quantitative", "title": "epoch", "scale": {"zero": False, "nice": False, "padding": 6},
    "axis": {"tickMinStep": 1, "grid": False},
}  # fmt: skip
LAYER_MEASURES = {
    "alignment_": "cosine with the true gradient",
    "noise_to_signal_": "noise over signal in one pass",
}


@dataclass(frozen=True)
class Chart:
    """A chart and what is said of it.

    Args:
        title: above it.
        spec: Vega-Lite.
        note: below it.
    """

    title: str
    spec: Spec
    note: str = ""


def learning_chart(series: Sequence[Series], metric: str, baselines: Mapping[str, float]) -> Chart:
    """The held-out metric along the epochs: median and range over the seeds, and trivial baselines."""
    curves = {one.label: _epochs(one, f"held_out_{metric}") for one in series}
    spec = _curves(series, curves, EPOCHS, _score_axis(curves, metric, baselines))
    spec["layer"] += _baseline_layers(baselines)
    note = "Line: median over the seeds; band: their range. Dotted: trivial baselines. What lies below the axis is cut."
    return Chart(f"held-out {_words(metric)}, read on the chip, after every epoch", spec, note)


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
        f"held-out {_words(metric)} against passes",
        _curves(series, curves, x, _score_axis(curves, metric, baselines)),
        note,
    )


def drift_chart(series: Sequence[Series], metric: str) -> Chart | None:
    """The metric at once and after a day of drift, a line for every row; None where no profile drifts."""
    values: Values = []
    for one in series:
        for key, when in ((f"{metric}_at_once", "at once"), (f"{metric}_after_1_day", "after 1 day")):
            if found := one.row.finals(key):
                values.append({"series": one.label, "when": when, "score": _number(statistics.median(found))})
    if not any(value["when"] == "after 1 day" for value in values):
        return None
    drawn = [one for one in series if any(value["series"] == one.label for value in values)]
    x = {
        "field": "score",
        "type": "quantitative",
        "title": _words(metric),
        "scale": {"zero": False, "padding": 12},
        "axis": {"tickCount": 6},
    }
    y = {"field": "series", "type": "nominal", "axis": None,
         "scale": {"domain": [one.label for one in drawn], "paddingOuter": 0.7}}  # fmt: skip
    marks = {"domain": ["at once", "after 1 day"], "range": ["circle", "diamond"]}
    legend = {"orient": "top", "symbolFillColor": "currentColor", "symbolStrokeColor": "currentColor"}
    shape = {"field": "when", "type": "nominal", "title": None, "scale": marks, "legend": legend}
    name = {"x": {"value": 0}, "y": y, "text": {"field": "series"}}
    layers = [
        {"transform": [{"filter": "datum.when === 'at once'"}], "encoding": name,
         "mark": {"type": "text", "align": "left", "dy": -12, "color": "currentColor"}},
        {"mark": {"type": "line"}, "encoding": {"x": x, "y": y, "color": _color(drawn), "detail": {"field": "series"}}},
        {"mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
         "encoding": {"x": x, "y": y, "color": _color(drawn), "shape": shape,
                      "tooltip": [_tip("series", "row"), _tip("when", "read"), _tip("score", _words(metric))]}},
    ]  # fmt: skip
    spec = {"data": {"values": values}, "height": 38 * len(drawn), "layer": layers}
    return Chart(f"{_words(metric)} at once, and after a day of drift", _interactive(spec), "Medians over the seeds.")


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
    return Chart(f"layer {layer}: {title}", _curves(series, curves, EPOCHS, y) | {"height": 170})


def device_chart(panel: Panel) -> Chart:
    """One panel of a device's curves."""
    values = [value for curve in panel.curves for value in _of_curve(curve)]
    names = list(dict.fromkeys(curve.label for curve in panel.curves))
    colors = [next(c.apart for c in panel.curves if c.label == name) for name in names]
    scale = {"domain": names, "range": ["currentColor" if apart else COLORS[i % 10] for i, apart in enumerate(colors)]}
    color = {"field": "curve", "type": "nominal", "scale": scale, "sort": None,
             "legend": {"title": None, "orient": "bottom", "columns": 1, "labelLimit": 290, "symbolType": "stroke",
                        "symbolOpacity": 1}}  # fmt: skip
    x: Spec = {"field": "x", "type": "quantitative", "title": panel.x_label, "axis": {"labelOverlap": True}}
    if panel.x_is_log:
        x |= {"scale": {"type": "log"}, "axis": {"labelOverlap": True, "format": "~s", "tickCount": 6}}
    y = {"field": "y", "type": "quantitative", "title": panel.y_label, "scale": {"zero": panel.from_zero}}
    tips = [_tip("curve", "curve"), _tip("x", panel.x_label), _tip("y", panel.y_label)]
    layers: list[Spec] = [{"mark": "line", "encoding": {"x": x, "y": y, "color": color, "tooltip": tips}}]
    note = "; ".join(f"band: {curve.band_label}" for curve in panel.curves if curve.band_label)
    if any(curve.low is not None for curve in panel.curves):
        band = {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": color}
        layers.insert(0, {"mark": {"type": "area", "opacity": 0.18}, "encoding": band})
    if panel.turn is not None:
        line = {"type": "rule", "strokeDash": [3, 3], "color": "currentColor", "opacity": 0.6}
        layers.append({"data": {"values": [{"x": panel.turn}]}, "mark": line, "encoding": {"x": x}})
        note = "; ".join(part for part in (note, panel.turn_label) if part)
    return Chart(panel.title, {"width": "container", "height": 220, "data": {"values": values}, "layer": layers}, note)


def _epochs(one: Series, key: str) -> Values:
    """A measurement along the epochs: median and range over the seeds, and the passes that it took."""
    runs = [run for run in one.row.runs if key in run["metrics"]["epoch"]]
    curves = [[float(value) for value in run["metrics"]["epoch"][key]] for run in runs]
    epochs = max(map(len, curves), default=0)
    values: Values = []
    for epoch, of_seeds in enumerate(zip_longest(*curves), 1):
        found = [value for value in of_seeds if value is not None and math.isfinite(value)]
        if found:
            passes = {kind: _number(epoch / epochs * _passes(one, kind)) for kind in ("forward", "backward")}
            values.append(
                {"series": one.label, "epoch": epoch, **passes, "passes": sum(passes.values()),
                 "median": _number(statistics.median(found)), "low": _number(min(found)), "high": _number(max(found))}
            )  # fmt: skip
    return values


def _passes(one: Series, kind: str) -> float:
    """Median of the passes of a kind over the data, in the whole run."""
    return statistics.median(one.row.finals(f"{kind}_passes_over_data"))


def _score_axis(curves: Mapping[str, Values], metric: str, baselines: Mapping[str, float]) -> Spec:
    medians = [[value["median"] for value in of_one] for of_one in curves.values() if of_one]
    low, high = limits(metric, medians, baselines)
    scale: Spec = {"domain": [_number(low), _number(high)], "nice": False, "zero": False}
    if metric in LOWER_IS_BETTER:
        scale["type"] = "log"
    return {"field": "median", "type": "quantitative", "title": _words(metric), "scale": scale}


def _curves(series: Sequence[Series], curves: Mapping[str, Values], x: Spec, y: Spec) -> Spec:
    """Lines with bands, of which the page's legend hides some."""
    drawn = [one for one in series if curves[one.label]]
    band = {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}, "color": _color(drawn)}
    dash_scale = {"domain": [one.label for one in drawn], "range": [list(one.dash) for one in drawn]}
    dash = {"field": "series", "type": "nominal", "scale": dash_scale, "legend": None}
    told = {
        "series": "row", "epoch": "epoch", "median": y["title"] or "median", "low": "lowest seed",
        "high": "highest seed", "forward": "forward passes", "backward": "backward passes",
    }  # fmt: skip
    tips = [_tip(field, title) for field, title in told.items()]
    line = {"x": x, "y": y, "color": _color(drawn), "strokeDash": dash, "tooltip": tips}
    layers = [
        {"transform": [SHOWN], "mark": {"type": "area", "opacity": 0.16, "clip": True}, "encoding": band},
        {"transform": [SHOWN], "mark": {"type": "line", "clip": True}, "encoding": line},
        {"transform": [SHOWN], "mark": {"type": "point", "filled": True, "size": 28, "opacity": 1, "clip": True},
         "encoding": {key: value for key, value in line.items() if key != "strokeDash"}},
    ]  # fmt: skip
    values = [value for of_one in curves.values() for value in of_one]
    return _interactive({"data": {"values": values}, "height": 300, "layer": layers})


def _interactive(spec: Spec) -> Spec:
    """A chart as wide as its place, with the signal by which the legend hides rows."""
    return {"width": "container", "params": [{"name": "hidden", "value": []}], **spec}


def _baseline_layers(baselines: Mapping[str, float]) -> Iterator[Spec]:
    """Dotted lines of trivial baselines, with their names at the left."""
    values = [{"baseline": name, "score": _number(value)} for name, value in baselines.items()]
    y = {"field": "score", "type": "quantitative"}
    tips = [_tip("baseline", "trivial baseline"), _tip("score", "score")]
    rule = {"type": "rule", "strokeDash": [2, 4], "color": "currentColor", "clip": True}
    text = {"type": "text", "align": "left", "dx": 3, "dy": -6, "color": "currentColor", "clip": True}
    yield {"data": {"values": values}, "mark": rule, "encoding": {"y": y, "tooltip": tips}}
    yield {"data": {"values": values}, "mark": text,
           "encoding": {"y": y, "x": {"value": 0}, "text": {"field": "baseline"}}}  # fmt: skip


def _color(drawn: Sequence[Series]) -> Spec:
    scale = {"domain": [one.label for one in drawn], "range": [one.color for one in drawn]}
    return {"field": "series", "type": "nominal", "scale": scale, "legend": None}


def _of_curve(curve: Curve) -> Values:
    """Points of a curve of a device, few enough for a page."""
    step = max(len(curve.x) // POINTS, 1)
    band = {} if curve.low is None or curve.high is None else {"low": curve.low, "high": curve.high}
    columns = {"x": curve.x, "y": curve.y, **band}
    numbers = {key: [_number(float(value)) for value in values[::step]] for key, values in columns.items()}
    rows = zip(*numbers.values(), strict=True)
    return [{"curve": curve.label, **dict(zip(numbers, row, strict=True))} for row in rows]


def _tip(field: str, title: str) -> Spec:
    return {"field": field, "title": title} | ({} if field in _NAMES else {"format": ".4~g"})


_NAMES = ("series", "when", "curve", "baseline")


def _number(value: float) -> Any:
    """Five significant digits; None where the number is not finite."""
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _words(metric: str) -> str:
    return metric.replace("_", " ")
