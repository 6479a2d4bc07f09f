"""Results as HTML, Markdown, JSON and plots: all of a run's report, or nothing of it."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mixnet_tf.evidence.benchmark import Latency
from mixnet_tf.evidence.figures import new_figure, save_figure
from mixnet_tf.evidence.html import html_report
from mixnet_tf.evidence.markdown import code, escaped
from mixnet_tf.evidence.mistakes import Picture
from mixnet_tf.evidence.results import ModelResult, Report
from mixnet_tf.files import whole_files
from mixnet_tf.metrics import decibels, mebibytes

_NAMED_CLASSES = 30  # more do not fit beside a confusion plot


def write_report(report: Report, folder: Path, confusion: np.ndarray, pictures: Sequence[Picture] = ()) -> None:
    """Write ``report.html``, ``report.md``, ``report.json``, ``confusion.png`` and ``latency.png``.

    Args:
        report: the results; its last model is the one in the confusion plot.
        folder: where.
        confusion: counts (true class, predicted class) of that model.
        pictures: that it misclassifies.
    """
    names = ("report.json", "confusion.png", "latency.png", "report.html", "report.md")
    with whole_files(*(folder / name for name in names)) as (content, confusion_plot, latency_plot, page, text):
        content.write_text(json.dumps(report.to_dict(), indent=2) + "\n", encoding="utf-8")
        _plot_confusion(confusion, report.class_names, report.results[-1].file, confusion_plot)
        _plot_latency({result.file: result.latency for result in report.results if result.latency}, latency_plot)
        page.write_text(html_report(report, folder, confusion, pictures), encoding="utf-8")
        text.write_text(markdown_report(report, folder), encoding="utf-8")


def markdown_report(report: Report, folder: Path) -> str:
    """Return the report as Markdown; `folder` has the files, for the commands."""
    last = report.results[-1]
    lines = [
        f"# {escaped(report.model)} on {escaped(report.data)}",
        "",
        f"{report.epochs} epochs at {report.image_size} px, {len(report.class_names)} classes, "
        f"{last.evaluation.count} test images.",
        "",
        " ".join(map(escaped, (report.verdict.sentence, *report.verdict.advice))),
        "",
        *markdown_table(report.results),
        "",
        *(f"Note: {escaped(note)}.  " for note in report.notes),
        *(f"{what}: {code(command)}  " for what, command in report.commands(folder).items()),
        "",
        "Agreement: share of test images with the same top-1 class as "
        f"{escaped(report.results[0].file)}. SNR: power of its logits over that of the difference.",
        *_weakest(report),
        "",
        "![confusion](confusion.png)",
        "![latency](latency.png)",
        "",
        "| package | version |",
        "|---|---|",
        *(f"| {package} | {version} |" for package, version in report.environment.items()),
        "",
        f"{report.date}, {escaped(report.processor)}",
    ]
    if report.skipped_images:
        lines += ["", f"{len(report.skipped_images)} unreadable images were skipped:", ""]
        lines += [f"- {escaped(path)}" for path in report.skipped_images]
    return "\n".join(lines) + "\n"


def _weakest(report: Report) -> list[str]:
    """Return the line about the class that the last file knows least of."""
    scores = [(score.recall, score.name) for score in report.classes if score.recall is not None]
    recall, name = min(scores, key=lambda item: item[0], default=(0.0, ""))
    return [f"Weakest class in {escaped(report.results[-1].file)}: {escaped(name)} ({recall:.1%})."] if scores else []


def markdown_table(results: Sequence[ModelResult]) -> list[str]:
    """Return the lines of the table of results."""
    header = "| file | size | top-1 | top-5 | agreement | SNR | median latency | ratio | first result | memory |"
    return [header, "|---" * 10 + "|", *(_row(result) for result in results)]


def _row(result: ModelResult) -> str:
    measured, latency, start = result.evaluation, result.latency, result.start
    cells = [escaped(result.file), f"{result.size_bytes / 1e6:.2f} MB", f"{measured.top1:.2%}", f"{measured.top5:.2%}"]
    if measured.agreement is None:  # the reference itself
        cells += ["", ""]
    else:
        cells += [f"{measured.agreement:.2%}", decibels(measured.snr_db)]
    cells += [f"{latency.median_ms:.2f} ms", f"{latency.ratio:.2f}"] if latency else ["", ""]
    cells += [f"{start.start_ms:.0f} ms", f"{mebibytes(start.peak_bytes)} MiB"] if start else ["", ""]
    return f"| {' | '.join(cells)} |"


def _plot_confusion(confusion: np.ndarray, class_names: Sequence[str], title: str, path: Path) -> None:
    count = len(class_names)
    side = min(4 + 0.3 * count, 20)
    figure, axes = new_figure(side + 1, side)
    shares = confusion / np.maximum(1, confusion.sum(axis=1, keepdims=True))
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if count <= _NAMED_CLASSES:
        names = [name.replace("$", r"\$") for name in class_names]  # no formula
        axes.set_xticks(range(count), names, rotation=90)
        axes.set_yticks(range(count), names)
        for i, j in np.argwhere(confusion):
            color = "white" if shares[i, j] > 0.5 else "black"
            axes.text(j, i, str(confusion[i, j]), ha="center", va="center", color=color, fontsize=8)
    axes.set(xlabel="predicted", ylabel="true", title=title)
    figure.colorbar(image, label="share of the true class")
    save_figure(figure, path)


def _plot_latency(latencies: dict[str, Latency], path: Path) -> None:
    figure, axes = new_figure(7, 1.2 + 0.6 * len(latencies))
    medians = [latency.median_ms for latency in latencies.values()]
    tails = [latency.p95_ms - latency.median_ms for latency in latencies.values()]
    bars = axes.barh(list(latencies), medians, xerr=[[0] * len(tails), tails], color="#4c78a8")
    axes.bar_label(bars, [f"{median:.2f} ms" for median in medians], padding=4)
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.set(xlabel="milliseconds an image, one thread: median, and to the 95th percentile")
    save_figure(figure, path)
