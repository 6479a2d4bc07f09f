"""The plots of ``report.html``: SVG whose colors and fonts are the page's, so that they suit a dark screen and paper."""

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from mixnet_tf.evidence.diagnosis import BlockError
from mixnet_tf.evidence.figures import new_figure
from mixnet_tf.evidence.results import ModelResult, Report

SHOWN = 20
"""Rows of a table or plot; what is left out is counted."""

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_INK, _GRID, _BLUE, _ORANGE = "#010203", "#010204", "#010205", "#010206"
_COLORS = {_INK: "var(--muted)", _GRID: "var(--line)", _BLUE: "var(--blue)", _ORANGE: "var(--orange)"}
"""What stands for a color while matplotlib draws → the page's."""
_WIDTH = 4.6  # inches: half a page, and the whole width of a phone
_RULES = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "report",  # the same report is the same file
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "text.parse_math": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _GRID,
    "axes.axisbelow": True,
}


def training_charts(report: Report) -> dict[str, str]:
    """Return the curves of the training, what they show → SVG; nothing where there are none."""
    charts = {}
    for name, label, scale in (("accuracy", "top-1, %", 100.0), ("loss", "loss", 1.0)):
        curves = {"training": report.history.get(name, ()), "validation": report.history.get(f"val_{name}", ())}
        if any(value is not None for curve in curves.values() for value in curve):
            charts[label] = _drawn(_curves, curves, report.best_epoch, label, scale)
    return charts


def files_charts(results: Sequence[ModelResult]) -> dict[str, str]:
    """Return accuracy, size and latency of the files, what they show → SVG, with the files in the same order."""
    names = [result.file for result in results]
    tops = [(100 * result.top1.value, 100 * result.top1.low, 100 * result.top1.high) for result in results]
    times = [result.latency for result in results]
    sizes = [result.size_bytes / 1e6 for result in results]
    charts = {
        "top-1 with its 95 % interval, %": _drawn(_intervals, names, tops),
        "size, MB": _drawn(_bars, names, sizes, "{:.2f}"),
    }
    if any(times):
        medians = [latency.median_ms if latency else None for latency in times]
        charts["median latency, ms"] = _drawn(_bars, names, medians, "{:.2f}")
    return charts


def blocks_chart(blocks: Sequence[BlockError]) -> str:
    """Return the signal-to-noise ratio of blocks as SVG."""
    names, ratios = [block.block or "other" for block in blocks], [block.snr_db for block in blocks]
    return _drawn(_bars, names, ratios, "{:.0f}")


def _drawn(draw: Any, *arguments: Any) -> str:
    """Return as SVG what `draw` does to a figure."""
    from matplotlib import rc_context

    content = io.StringIO()
    with rc_context(_RULES), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the browser has it
        figure = draw(*arguments)
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(content, format="svg", transparent=True, metadata=nothing)
    return _inline(content.getvalue())


def _inline(svg: str) -> str:
    """Return a drawing as a part of a page: no prolog, no names for its groups, and the page's colors."""
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(svg)
    for element in root.iter():
        if element.tag == f"{{{_SVG}}}g":
            element.attrib.pop("id", None)  # figure_1 is in every one
        if style := element.get("style"):
            element.set("style", re.sub("#[0-9a-f]{6}", lambda match: _COLORS.get(match[0], match[0]), style))
    for name in ("width", "height"):
        root.attrib.pop(name, None)
    root.set("aria-hidden", "true")  # the table beside it says the same
    return ElementTree.tostring(root, encoding="unicode")


def _curves(curves: Mapping[str, Sequence[float | None]], best: int | None, label: str, scale: float) -> Any:
    figure, axes = new_figure(_WIDTH, 2.7)
    for (name, curve), color in zip(curves.items(), (_BLUE, _ORANGE), strict=True):
        values = [float("nan") if value is None else scale * value for value in curve]
        style = {"linestyle": "-" if name == "training" else "--", "color": color, "linewidth": 2}
        axes.plot(range(1, len(values) + 1), values, marker="o", markersize=4 if len(values) < 30 else 0, **style)
    if best is not None:
        axes.axvline(best + 1, color=_INK, linewidth=1, linestyle=":")
    axes.grid(axis="y")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="epoch", ylabel=label)
    return figure


def _rows(names: Sequence[str]) -> tuple[Any, Any]:
    """Return a figure with a row for each name, the first at the top."""
    figure, axes = new_figure(_WIDTH, 0.45 + 0.28 * len(names))
    axes.set_yticks(range(len(names)), [_short(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    return figure, axes


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:11]}…{name[-12:]}"


def _intervals(names: Sequence[str], shares: Sequence[tuple[float, float, float]]) -> Any:
    figure, axes = _rows(names)
    for row, (value, low, high) in enumerate(shares):
        axes.plot([low, high], [row, row], color=_BLUE, linewidth=2, solid_capstyle="butt")
        axes.plot(value, row, "o", color=_BLUE, markersize=7)
    axes.margins(x=0.08)
    return figure


def _bars(names: Sequence[str], values: Sequence[float | None], form: str) -> Any:
    figure, axes = _rows(names)
    shown = [(row, value) for row, value in enumerate(values) if value is not None]
    bars = axes.barh([row for row, _ in shown], [value for _, value in shown], height=0.62, color=_BLUE)
    axes.bar_label(bars, [form.format(value) for _, value in shown], padding=4)
    axes.margins(x=0.15)
    return figure
