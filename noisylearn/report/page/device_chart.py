"""The charts of a device: its curves of noise, drift and updates."""

from noisylearn.report.curves import Curve, Panel
from noisylearn.report.page.series import COLORS
from noisylearn.report.page.vega import Chart, Spec, Values, rounded, tip

POINTS = 120  # of a curve


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
    tips = [tip("curve", "curve"), tip("x", panel.x_label), tip("y", panel.y_label)]
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


def _of_curve(curve: Curve) -> Values:
    """Points of a curve of a device, few enough for a page."""
    step = max(len(curve.x) // POINTS, 1)
    band = {} if curve.low is None or curve.high is None else {"low": curve.low, "high": curve.high}
    columns = {"x": curve.x, "y": curve.y, **band}
    numbers = {key: [rounded(float(value)) for value in values[::step]] for key, values in columns.items()}
    rows = zip(*numbers.values(), strict=True)
    return [{"curve": curve.label, **dict(zip(numbers, row, strict=True))} for row in rows]
