"""The chart of what a day of drift does to the score."""

import statistics
from collections.abc import Sequence

from noisylearn.experiments.run_facts import AFTER_A_DAY, AT_ONCE, MOMENTS
from noisylearn.report.page.series import Series
from noisylearn.report.page.vega import SHOWN, Chart, Values, color_of, interactive, rounded, tip, words


def drift_chart(series: Sequence[Series], metric: str) -> Chart | None:
    """The metric at once and after a day of drift, without and with compensation, a line for every row.

    None where no profile drifts.
    """
    values: Values = []
    for one in series:
        for key, when in MOMENTS.items():
            if found := one.row.finals(f"{metric}{key}"):
                values.append({"series": one.label, "when": when, "score": rounded(statistics.median(found))})
    if not any(value["when"] == MOMENTS[AFTER_A_DAY] for value in values):
        return None
    drawn = [one for one in series if any(value["series"] == one.label for value in values)]
    x = {
        "field": "score",
        "type": "quantitative",
        "title": words(metric),
        "scale": {"zero": False, "padding": 12},
        "axis": {"tickCount": 6},
    }
    y = {"field": "series", "type": "nominal", "axis": None,
         "scale": {"domain": [one.label for one in drawn], "paddingOuter": 0.7}}  # fmt: skip
    marks = {"domain": [*MOMENTS.values()], "range": ["circle", "diamond", "triangle-up"]}
    legend = {"orient": "top", "symbolFillColor": "currentColor", "symbolStrokeColor": "currentColor"}
    shape = {"field": "when", "type": "nominal", "title": None, "scale": marks, "legend": legend}
    name = {"x": {"value": 0}, "y": y, "text": {"field": "series"}}
    layers = [
        {"transform": [{"filter": f"datum.when === '{MOMENTS[AT_ONCE]}'"}], "encoding": name,
         "mark": {"type": "text", "align": "left", "dy": -12, "color": "currentColor"}},
        {"mark": {"type": "line"},
         "encoding": {"x": x, "y": y, "color": color_of(drawn), "detail": {"field": "series"}}},
        {"mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
         "encoding": {"x": x, "y": y, "color": color_of(drawn), "shape": shape,
                      "tooltip": [tip("series", "row"), tip("when", "read"), tip("score", words(metric))]}},
    ]  # fmt: skip
    spec = {"data": {"values": values}, "transform": [SHOWN], "height": 38 * len(drawn), "layer": layers}
    return Chart(f"{words(metric)} at once, and after a day of drift", interactive(spec), "Medians over the seeds.")
