"""Results as JSON, Markdown and plots."""

import dataclasses
import importlib.metadata
import json
import platform
import shlex
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mixnet_tf.evidence.benchmark import Latency
from mixnet_tf.evidence.evaluation import Evaluation
from mixnet_tf.files import whole_file

_PACKAGES = ("mixnet_tf", "tensorflow", "keras", "ai-edge-litert", "numpy")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelResult:
    """One model file of a report: its size, accuracy on the test split, and latency (``.tflite`` only)."""

    file: str
    size_bytes: int
    evaluation: Evaluation
    latency: Latency | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """Everything a pipeline run measured."""

    model: str
    data: str
    data_source: str
    class_names: tuple[str, ...]
    image_size: int | tuple[int, int]
    epochs: int
    results: tuple[ModelResult, ...]
    test_is_val: bool = False
    skipped_images: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict:
        """Return the content of ``report.json``."""
        return dataclasses.asdict(self) | {"environment": environment()}


def environment() -> dict[str, str]:
    """Return the versions and the processor that the numbers come from."""
    versions = {name: _version(name) for name in _PACKAGES}
    return versions | {"python": platform.python_version(), "machine": platform.machine()}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def write_report(report: Report, folder: Path, confusion: np.ndarray) -> None:
    """Write ``report.json``, ``report.md``, ``confusion.png`` and ``latency.png``.

    Args:
        report: the results; its last model is the one in the confusion plot.
        folder: where.
        confusion: counts (true class, predicted class) of that model.
    """
    with whole_file(folder / "report.json") as part:
        part.write_text(json.dumps(report.to_dict(), indent=2) + "\n", encoding="utf-8")
    with whole_file(folder / "confusion.png") as part:
        _plot_confusion(confusion, report.class_names, report.results[-1].file, part)
    with whole_file(folder / "latency.png") as part:
        _plot_latency([result for result in report.results if result.latency], part)
    with whole_file(folder / "report.md") as part:
        part.write_text(_markdown(report, folder), encoding="utf-8")


def _markdown(report: Report, folder: Path) -> str:
    skip = " --on-bad-image skip" if report.skipped_images else ""
    data, reference = shlex.quote(report.data_source), shlex.quote(f"{folder}/model.keras")
    command = f"mixnet-tf evaluate {shlex.quote(str(folder))}/FILE --data {data} --reference {reference}{skip}"
    files = " ".join(shlex.quote(f"{folder}/{result.file}") for result in report.results if result.latency)
    best = min(report.results[-1].evaluation.per_class.items(), key=lambda item: item[1])
    lines = [
        f"# {report.model} on {report.data}",
        "",
        f"{report.epochs} epochs at {report.image_size} px, {len(report.class_names)} classes, "
        f"{report.results[0].evaluation.count} test images.",
        *(["The data has no test split: these images also chose the best epoch."] if report.test_is_val else []),
        "",
        *markdown_table(report.results),
        "",
        *(f"Note: {note}.  " for note in report.notes),
        f"Accuracy, agreement and SNR of each FILE: `{command}`  ",
        f"Latency, one thread, interleaved: `mixnet-tf benchmark {files}`",
        "",
        "Agreement: share of test images with the same top-1 class as model.keras. SNR: power of its logits over that "
        "of the difference.",
        f"Weakest class in {report.results[-1].file}: {best[0]} ({best[1]:.1%}).",
        "",
        "![confusion](confusion.png)",
        "![latency](latency.png)",
        "",
        "| package | version |",
        "|---|---|",
        *(f"| {name} | {version} |" for name, version in environment().items()),
    ]
    if report.skipped_images:
        lines += ["", f"{len(report.skipped_images)} unreadable images were skipped:", ""]
        lines += [f"- {path}" for path in report.skipped_images]
    return "\n".join(lines) + "\n"


def markdown_table(results: Sequence[ModelResult]) -> list[str]:
    """Return the lines of the table of results."""
    rows = [
        "| file | size | top-1 | top-5 | agreement | SNR | median latency | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        own, latency = result.evaluation, result.latency
        agreement = "" if own.agreement is None else f"{own.agreement:.2%}"
        snr = "" if own.agreement is None else "exact" if own.snr_db is None else f"{own.snr_db:.1f} dB"
        speed = f"{latency.median_ms:.2f} ms | {latency.ratio:.2f}" if latency else " | "
        rows.append(
            f"| {result.file} | {result.size_bytes / 1e6:.2f} MB | {own.top1:.2%} | {own.top5:.2%} "
            f"| {agreement} | {snr} | {speed} |"
        )
    return rows


def _figure(width: float, height: float):
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # never opens a window
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _save(figure, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a class name in a script the font lacks
        figure.savefig(path)


def _plot_confusion(confusion: np.ndarray, class_names: Sequence[str], title: str, path: Path) -> None:
    count = len(class_names)
    side = min(4 + 0.3 * count, 20)
    figure, axes = _figure(side + 1, side)
    shares = confusion / np.maximum(1, confusion.sum(axis=1, keepdims=True))
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if count <= 30:
        names = [name.replace("$", r"\$") for name in class_names]  # no formula
        axes.set_xticks(range(count), names, rotation=90)
        axes.set_yticks(range(count), names)
        for i, j in np.argwhere(confusion):
            color = "white" if shares[i, j] > 0.5 else "black"
            axes.text(j, i, str(confusion[i, j]), ha="center", va="center", color=color, fontsize=8)
    axes.set(xlabel="predicted", ylabel="true", title=title)
    figure.colorbar(image, label="share of the true class")
    _save(figure, path)


def _plot_latency(results: Sequence[ModelResult], path: Path) -> None:
    figure, axes = _figure(7, 1.2 + 0.6 * len(results))
    medians = [result.latency.median_ms for result in results]
    tails = [result.latency.p95_ms - result.latency.median_ms for result in results]
    bars = axes.barh([result.file for result in results], medians, xerr=[[0] * len(results), tails], color="#4c78a8")
    axes.bar_label(bars, [f"{median:.2f} ms" for median in medians], padding=4)
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.set(xlabel="milliseconds an image, one thread: median, and to the 95th percentile")
    _save(figure, path)
