"""What all charts of a page have in common, as Vega-Lite: plain JSON made of numbers, drawn by the browser.

Names that a file gave stand in the data and in titles alone, never where Vega looks for an expression or an address.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from noisylearn.report.page.series import Series

Spec = dict[str, Any]
Values = list[dict[str, Any]]
SHOWN = {"filter": "indexof(hidden, datum.series) < 0"}
NAMES = ("series", "when", "curve")  # fields that are no numbers


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


def interactive(spec: Spec) -> Spec:
    """A chart as wide as its place, with the signal by which the legend hides rows."""
    return {"width": "container", "params": [{"name": "hidden", "value": []}], **spec}


def color_of(drawn: Sequence[Series]) -> Spec:
    """The colour of a mark, by the row in its field `series`."""
    scale = {"domain": [one.label for one in drawn], "range": [one.color for one in drawn]}
    return {"field": "series", "type": "nominal", "scale": scale, "legend": None}


def tip(field: str, title: str) -> Spec:
    """A line of what is shown under the pointer."""
    return {"field": field, "title": title} | ({} if field in NAMES else {"format": ".4~g"})


def rounded(value: float) -> Any:
    """Five significant digits; None where the number is not finite."""
    return float(f"{value:.5g}") if math.isfinite(value) else None


def words(metric: str) -> str:
    """Name of a metric for people."""
    return metric.replace("_", " ")
