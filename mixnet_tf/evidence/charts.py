"""The plots of ``report.html``: SVG in the colors and fonts of the page, so that they suit a dark screen and paper."""

import dataclasses
import io
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from mixnet_tf.evidence.diagnosis import BlockError
from mixnet_tf.evidence.figures import new_figure, save_figure, settings, short
from mixnet_tf.evidence.results import ModelResult, Report

SHOWN = 20
"""Rows of a table or plot; what is left out is counted."""

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_INK, _GRID, _BLUE, _ORANGE = "#010203", "#010204", "#010205", "#010206"
_COLORS = {_INK: "var(--muted)", _GRID: "var(--line)", _BLUE: "var(--blue)", _ORANGE: "var(--orange)"}
"""What stands for a color while matplotlib draws → the page's."""
_KINDS = {"": "training", "val_": "validation"}  # beginnings of columns of the history
_TABLE = "The table has the numbers."
_MARKED = 30  # more epochs are a line without points
_NAME = 20  # characters: the widest ones leave a third of the narrowest plot to its bars
_HALF, _THIRD = 4.3, 3.2  # inches: of the page; a phone shows either in its whole width
_SETTINGS = {
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


@dataclasses.dataclass(frozen=True)
class Chart:
    """A drawing for the page.

    Attributes:
        title: what it shows.
        svg: the drawing.
    """

    title: str
    svg: str


def training_charts(report: Report) -> list[Chart]:
    """Return the curves of the training; none where it left no numbers."""
    charts = []
    for name, title, scale in (("accuracy", "Top-1 in %", 100.0), ("loss", "Loss", 1.0)):
        curves = {kind: _scaled(report.history.get(kind + name, ()), scale) for kind in ("", "val_")}
        last = {kind: next((y for y in reversed(curve) if y == y), None) for kind, curve in curves.items()}
        if any(value is not None for value in last.values()):
            ends = ", ".join(f"{value:.3g} in {_KINDS[kind]}" for kind, value in last.items() if value is not None)
            alt = f"{title} over {report.epochs} epochs; in the end {ends}."
            charts.append(_chart(title, alt, _curves, curves, report.best_epoch))
    return charts


def files_charts(results: Sequence[ModelResult]) -> list[Chart]:
    """Return accuracy, size and latency of the files, which stand in the same order in each."""
    tops = [tuple(100 * share for share in (row.top1.value, row.top1.low, row.top1.high)) for row in results]
    charts = [_chart("Top-1 with its 95 % interval, in %", _TABLE, _intervals, [row.file for row in results], tops)]
    sizes = {row.file: row.size_bytes / 1e6 for row in results}
    times = {row.file: row.latency.median_ms for row in results if row.latency}
    for title, values, text in (("Size in MB", sizes, "{:.2f}".format), ("Median latency in ms", times, milliseconds)):
        if values:
            charts.append(_chart(title, _TABLE, _bars, values, text, _THIRD))
    return charts


def blocks_chart(blocks: Sequence[BlockError]) -> Chart:
    """Return the signal-to-noise ratio of blocks."""
    ratios = {block.block or "other": block.snr_db for block in blocks}
    return _chart(
        "SNR of each block in dB: a short bar is a large error", _TABLE, _bars, ratios, "{:.0f}".format, _HALF
    )


def milliseconds(number: float) -> str:
    """Return a latency in milliseconds, with enough digits for a tiny network.

    >>> milliseconds(0.0834), milliseconds(1234.5)
    ('0.083', '1,234.50')
    """
    return f"{number:,.{2 if number >= 1 else 3}f}"


def _chart(title: str, alt: str, draw: Callable[..., Any], *arguments: Any) -> Chart:
    """Return what `draw` makes of its arguments, with a text for those who do not see it."""
    content, nothing = io.StringIO(), dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with settings(_SETTINGS):
        save_figure(draw(*arguments), content, format="svg", transparent=True, metadata=nothing)
    return Chart(title, _inline(content.getvalue(), f"{title}. {alt}"))


def _inline(svg: str, alt: str) -> str:
    """Return a drawing as a part of a page: no prolog, no names for its groups, and the page's colors."""
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(svg)
    for element in root.iter():
        if element.tag == f"{{{_SVG}}}g":
            element.attrib.pop("id", None)  # figure_1 is in every one
        if style := element.get("style"):
            element.set("style", re.sub("#[0-9a-f]{6}", lambda match: _COLORS.get(match[0], match[0]), style))
    for parent in list(root.iter(f"{{{_SVG}}}defs")):
        for style_sheet in parent.findall(f"{{{_SVG}}}style"):  # it would hold for the whole page
            parent.remove(style_sheet)
    for name in ("width", "height"):
        root.attrib.pop(name, None)
    root.attrib |= {"role": "img", "aria-label": alt}
    return ElementTree.tostring(root, encoding="unicode")


def _scaled(curve: Sequence[float | None], scale: float) -> list[float]:
    return [math.nan if value is None else scale * value for value in curve]


def _curves(curves: Mapping[str, Sequence[float]], best: int | None) -> Any:
    figure, axes = new_figure(_HALF, 2.6)
    for (kind, curve), color in zip(curves.items(), (_ORANGE, _BLUE), strict=True):
        marker = 4 if len(curve) < _MARKED else 0
        style = {"linestyle": "-" if kind else "--", "color": color, "linewidth": 2}
        axes.plot(range(1, len(curve) + 1), curve, marker="o", markersize=marker, **style)
    if best is not None:
        axes.axvline(best + 1, color=_INK, linewidth=1, linestyle=":")
    axes.grid(axis="y")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="epoch")
    return figure


def _rows(names: Collection[str], width: float) -> tuple[Any, Any]:
    """Return a figure with a row for each name, the first at the top."""
    figure, axes = new_figure(width, 0.45 + 0.28 * len(names))
    axes.set_yticks(range(len(names)), [short(name, _NAME) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    return figure, axes


def _intervals(names: Collection[str], shares: Sequence[Sequence[float]]) -> Any:
    figure, axes = _rows(names, _THIRD)
    for row, (value, low, high) in enumerate(shares):
        axes.plot([low, high], [row, row], color=_BLUE, linewidth=2, solid_capstyle="butt")
        axes.plot(value, row, "o", color=_BLUE, markersize=7)
    axes.margins(x=0.08)
    return figure


def _bars(values: Mapping[str, float], text: Callable[[float], str], width: float) -> Any:
    figure, axes = _rows(values, width)
    bars = axes.barh(range(len(values)), list(values.values()), height=0.62, color=_BLUE)
    axes.bar_label(bars, [text(value) for value in values.values()], padding=4)
    axes.margins(x=0.15)
    return figure
