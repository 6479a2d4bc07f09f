"""``report.html``: one page, without script and network. Every name in it is text, whatever it holds."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mixnet_tf.errors import printable
from mixnet_tf.evidence.charts import SHOWN, blocks_chart, files_charts, milliseconds, training_charts
from mixnet_tf.evidence.figures import short
from mixnet_tf.evidence.mistakes import Confusion, Picture
from mixnet_tf.evidence.results import Report
from mixnet_tf.metrics import ClassScore

_NONE = "–"  # where there is no number


def html_report(report: Report, folder: Path, confusion: np.ndarray, pictures: Sequence[Picture]) -> str:
    """Return the page.

    Args:
        report: the results.
        folder: of the files, for the commands.
        confusion: counts (true class, predicted class) of the last model.
        pictures: that it misclassifies.
    """
    few = len(report.class_names) <= SHOWN
    weak_blocks = sorted(report.blocks, key=lambda block: block.snr_db)[:SHOWN]
    blocks = [block for block in report.blocks if block in weak_blocks]
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            report=report,
            last=report.results[-1],
            floats=report.compared[0] if report.compared else None,
            commands=report.commands(folder),
            training=training_charts(report),
            files=files_charts(report.results),
            blocks=blocks,
            block_charts=[blocks_chart(blocks)] if blocks else [],
            classes=sorted(report.classes, key=_weakness)[:SHOWN],
            matrix=_matrix(confusion) if few else [],
            groups=_groups(report.confusions, pictures),
            shown=SHOWN,
        )
    )


@functools.cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_one_line,
    )
    made.filters |= {"percent": _percent, "number": _number, "milliseconds": _milliseconds, "short": short}
    return made


def _one_line(value: Any) -> Any:
    """Keep what is no text, or is markup of this page; make names printable."""
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _percent(share: float | None, digits: int = 1) -> str:
    return _NONE if share is None else f"{share:.{digits}%}"


def _number(number: float | None, digits: int = 2) -> str:
    return _NONE if number is None else f"{number:,.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _milliseconds(number: float | None) -> str:
    return _NONE if number is None else milliseconds(number)


def _weakness(score: ClassScore) -> tuple[bool, float, int]:
    return score.f1 is None, score.f1 or 0.0, -score.count


def _matrix(confusion: np.ndarray) -> list[list[tuple[int, float]]]:
    """Return the counts, each with its share of the true class."""
    totals = np.maximum(1, confusion.sum(axis=1))
    return [[(int(count), count / total) for count in row] for row, total in zip(confusion, totals, strict=True)]


def _groups(confusions: Sequence[Confusion], pictures: Sequence[Picture]) -> list[tuple[Confusion, list[Picture]]]:
    """Return the confusions, each with its pictures."""
    return [
        (pair, [picture for picture in pictures if (picture.true, picture.predicted) == (pair.true, pair.predicted)])
        for pair in confusions
    ]
