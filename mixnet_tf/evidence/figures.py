"""Figures for reports, drawn without a display."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from mixnet_tf.errors import MixNetError, printable
from mixnet_tf.files import check_free
from mixnet_tf.quiet import errors_only

PLOT_SUFFIXES = (".png", ".jpg", ".svg", ".pdf")


def check_plot(path: Path | None, *, overwrite: bool) -> None:
    """Refuse a plot that cannot be written, before the work begins.

    Args:
        path: of the plot; None for none.
        overwrite: whether it may replace a file.

    Raises:
        MixNetError: another suffix, or a file that exists.
    """
    if path is None:
        return
    if path.suffix.lower() not in PLOT_SUFFIXES:
        raise MixNetError(f"{path}: a plot is one of {', '.join(PLOT_SUFFIXES)}")
    check_free(path, overwrite=overwrite)


def short(name: str, length: int = 40) -> str:
    """Return a printable name of at most so many characters, with what is too much left out in its middle.

    >>> short("stage1_block2_depthwise0", 12)
    'stage1…wise0'
    """
    text = printable(name)
    return text if len(text) <= length else f"{text[: length // 2]}…{text[-length // 2 + 1 :]}"


def new_figure(width: float, height: float) -> tuple[Any, Any]:
    """Return an empty matplotlib figure and its axes.

    Args:
        width: in inches, 120 pixels each.
        height: in inches.
    """
    with errors_only("matplotlib"):  # where the home folder cannot be written, it takes a temporary one, and warns
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # never opens a window
        from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def new_grid(rows: int, columns: int) -> tuple[Any, list[Any]]:
    """Return a figure with squares of 2.4 inches, and their axes, row by row."""
    figure, axes = new_figure(2.4 * columns, 2.9 * rows)
    axes.remove()
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


@contextlib.contextmanager
def settings(values: Any) -> Iterator[None]:
    """Draw with these settings of matplotlib's."""
    with errors_only("matplotlib"):
        from matplotlib import rc_context
    with rc_context(values):
        yield


def save_figure(figure: Any, path: Path | IO[str], **options: Any) -> None:
    """Write a figure as the kind of file that the suffix of `path` names, or by the options of matplotlib's savefig."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a class name in a script the font lacks
        figure.savefig(path, **options)
