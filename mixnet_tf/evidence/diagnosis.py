"""Where the error of an int8 file comes from: ``report.md``, ``report.json`` and a plot."""

import collections
import dataclasses
import json
import math
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mixnet_tf.data.calibration import CalibrationSet
from mixnet_tf.data.sources import ImageData
from mixnet_tf.environment import environment
from mixnet_tf.errors import DeployError
from mixnet_tf.evidence.benchmark import benchmark
from mixnet_tf.evidence.comparison import compare, shown_summary, summary
from mixnet_tf.evidence.error_chart import save_error_chart
from mixnet_tf.evidence.features import feature_lines
from mixnet_tf.evidence.markdown import escaped
from mixnet_tf.files import whole_files
from mixnet_tf.layers import block_of
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.op_table import inspect_model
from mixnet_tf.litert.parts import up_to
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.litert.scores import scores_of
from mixnet_tf.metrics import decibels
from mixnet_tf.progress.steps import step
from mixnet_tf.quantization.fallback import EXACT_DB, rank_blocks
from mixnet_tf.quantization.steps import CORRECTION_IMAGES, calibrate, int8_graph
from mixnet_tf.quantization.types import Calibrated, Exported, Images, Int8Result

_FILES = ("report.json", "error.png", "report.md")
_IMAGES = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class TensorError:
    """One tensor, in graph order, over test images.

    Attributes:
        name: in the file.
        block: the block it belongs to, or an empty text.
        op: the operator that writes it.
        low: lower end of its range.
        high: upper end.
        outside: share of the float values beyond the range.
        snr_db: power of the float values over that of the difference, in decibels.
    """

    name: str
    block: str
    op: str
    low: float
    high: float
    outside: float
    snr_db: float


@step("compare every tensor with the float graph")
def tensor_errors(calibrated: Calibrated, graph: FlatGraph, images: Iterable[np.ndarray]) -> list[TensorError]:
    """Compare every int8 tensor with its float twin.

    Args:
        calibrated: the float graph.
        graph: the int8 one made of it.
        images: normalized float images (1, height, width, channels).
    """
    floats, ranges = calibrated.equalized, calibrated.ranges
    written = {graph.name(i): i for op in graph.ops for i in op.outputs}
    ops = [op for op in floats.ops if floats.name(op.outputs[0]) in written and op.outputs[0] in ranges]
    names = [floats.name(op.outputs[0]) for op in ops]
    limits = [ranges[op.outputs[0]] for op in ops]
    probe = LiteModel(floats.content(), num_threads=2, kernels="builtin", keep_tensors=True)
    int8 = LiteModel(up_to(graph, [written[name] for name in names]), num_threads=2)
    sums = np.zeros((len(ops), 3))
    count = 0
    for image in images:
        probe.run(image)
        count += 1
        for row, op, (low, high), value in zip(sums, ops, limits, int8.run(image), strict=True):
            wanted = probe.value(op.outputs[0])
            noise = np.square(wanted - value, dtype=np.float64).sum()
            row += np.square(wanted, dtype=np.float64).sum(), noise, ((wanted < low) | (wanted > high)).mean()
    return [
        TensorError(
            name=name,
            block=block_of(name) or "",
            op=op.name,
            low=low,
            high=high,
            outside=float(outside / count),
            snr_db=10 * math.log10(signal / noise) if noise and signal else EXACT_DB,
        )
        for name, op, (low, high), (signal, noise, outside) in zip(names, ops, limits, sums, strict=True)
    ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockError:
    """Where the error of int8 enters: one block, in graph order.

    Attributes:
        block: its name, or an empty text for what belongs to none.
        snr_db: of its last tensor, which the next block reads.
        lowest_db: of its worst tensor.
        outside: largest share of float values beyond the range of a tensor.
    """

    block: str
    snr_db: float
    lowest_db: float
    outside: float


def block_errors(tensors: Iterable[TensorError]) -> tuple[BlockError, ...]:
    """Summarize the errors of tensors by their blocks."""
    blocks: dict[str, list[TensorError]] = {}
    for tensor in tensors:
        blocks.setdefault(tensor.block, []).append(tensor)
    return tuple(
        BlockError(
            block=block,
            snr_db=members[-1].snr_db,
            lowest_db=min(tensor.snr_db for tensor in members),
            outside=max(tensor.outside for tensor in members),
        )
        for block, members in blocks.items()
    )


def concat_ratios(calibrated: Calibrated) -> dict[str, float]:
    """Return, for every concatenation, the widest range of its inputs over the narrowest: they share one int8 scale."""
    graph, ratios = calibrated.equalized, {}
    for op in graph.ops:
        if op.name == "CONCATENATION":
            limits = [calibrated.ranges[i] for i in op.inputs if i in calibrated.ranges]
            widths = [high - low for low, high in limits] or [1.0]
            ratios[graph.name(op.outputs[0])] = max(widths) / max(min(widths), 1e-30)
    return ratios


def diagnosis_files(folder: str | Path | None) -> list[Path]:
    """Return the files of a report in `folder`; none for None."""
    return [] if folder is None else [Path(folder, name) for name in _FILES]


def check_reportable(graph: FlatGraph, data: ImageData) -> ImageData:
    """Return the data with its test images checked; a model that gives features may have any outputs.

    Raises:
        MixNetError: a report on a float graph could not be written: known before the work begins.
    """
    shapes = [graph.shape(i) for i in graph.outputs]
    features = [len(shape) for shape in shapes] != [2] or scores_of(graph) is None
    if shapes != [(1, len(data.class_names))] and not features:
        outputs = ", ".join(map(str, shapes))
        raise DeployError(
            f"report: the model gives {outputs}; expected (1, {len(data.class_names)}), the classes of {data.name}"
        )
    return data.checked("test")


def write_diagnosis(
    record: Exported,
    result: Int8Result,
    chosen: CalibrationSet,
    data: ImageData,
    folder: str | Path,
    *,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Measure a quantized file on the test split and write the report.

    Args:
        record: what ``export`` says of the file.
        result: what ``quantize`` made.
        chosen: the calibration images.
        data: with a test split that is checked; its training split has the calibration images.
        folder: for ``report.md``, ``report.json`` and ``error.png``.
        overwrite: replace files that exist.

    Returns:
        The content of ``report.json``.
    """
    images = list(CalibrationSet.choose(data, split="test", image_size=chosen.image_size, count=_IMAGES))
    reference = result.calibrated.reference.content()
    with tempfile.TemporaryDirectory() as scratch:
        float_path = Path(scratch) / "float32.tflite"
        float_path.write_bytes(reference)
        comparison = compare(float_path, record.path, data)
        stability = _stability(record, result, chosen, data, float_path)
        latencies = benchmark([float_path, record.path], rounds=10)
    table, tensors = inspect_model(record.path), tensor_errors(result.calibrated, result.graph, images)
    report: dict[str, Any] = {
        "file": dataclasses.asdict(record),
        "comparison": dataclasses.asdict(comparison) | {"a": "float32"},
        "tensors": [dataclasses.asdict(error) for error in tensors],
        "blocks": [dataclasses.asdict(error) for error in block_errors(tensors)],
        "sensitivity": _sensitivity(result, images),
        "concat_range_ratios": concat_ratios(result.calibrated),
        "ops": dict(collections.Counter(op.name for op in table.ops)),
        "outside_delegate": [{"op": op.name, "reason": op.reason} for op in table.outside],
        "latency_ratio_to_float32": latencies[1].ratio,
        "size_ratio_to_float32": record.size_bytes / len(reference),
        "stability": stability,
        "environment": environment(),
    }
    with whole_files(*diagnosis_files(folder), overwrite=overwrite) as (content, plot, text):
        content.write_text(json.dumps(report, indent=2, default=str) + "\n", encoding="utf-8")
        save_error_chart(report["tensors"], plot)
        text.write_text(_markdown(report), encoding="utf-8")
    return report


def _sensitivity(result: Int8Result, images: Images) -> list[dict[str, Any]]:
    if result.backend == "tf.lite":  # which cannot leave a block in float32
        return []
    return [dataclasses.asdict(row) for row in rank_blocks(result.calibrated, result.backend, images)]


def _stability(
    record: Exported, result: Int8Result, chosen: CalibrationSet, data: ImageData, float_path: Path
) -> dict[str, Any] | None:
    """Calibrate once more, on as many other images, and say what changes; None where there are no others."""
    count = len(chosen)
    others = CalibrationSet.choose(data, image_size=chosen.image_size, seed=chosen.seed, count=2 * count)
    others = others.part(min(count, len(others)), 2 * count)
    if not len(others):
        return None
    first = result.calibrated
    second = calibrate(first.reference, record.recipe, others, first.emphasis or 0.0)
    blocks = result.fallback.blocks if result.fallback else ()
    few = list(others.part(0, CORRECTION_IMAGES))
    path = float_path.with_name("second.tflite")
    path.write_bytes(int8_graph(second, record.recipe, result.backend, few, blocks).content())
    comparison = compare(float_path, path, data)
    widths = [{i: high - low for i, (low, high) in made.ranges.items()} for made in (first, second)]
    changes = [abs(math.log2(widths[1][i] / width)) for i, width in widths[0].items() if width and widths[1][i]]
    return {
        "median_range_change_octaves": float(np.median(changes)),
        "largest_range_change_octaves": float(np.max(changes)),
        **summary(comparison),
    }


def _markdown(report: dict[str, Any]) -> str:
    file = report["file"]
    lines = [
        f"# {escaped(Path(file['path']).name)}, recipe {escaped(file['recipe']['name'])}",
        "",
        *_accuracy_lines(report),
        "",
        "## Where the error enters",
        "",
        "![error](error.png)",
        "",
        *_block_lines(report["blocks"]),
        *_sensitivity_lines(report["sensitivity"]),
        *("", "| concatenation | widest range over narrowest |", "|---|---|"),
        *(f"| {escaped(name)} | {ratio:.2f} |" for name, ratio in report["concat_range_ratios"].items()),
        *("", "| operator | count |", "|---|---|"),
        *(f"| {escaped(name)} | {count} |" for name, count in report["ops"].items()),
        "",
        _outside_line(report["outside_delegate"]),
        *_stability_lines(report["stability"]),
        *(f"\nNote: {escaped(note)}." for note in file["notes"]),
    ]
    return "\n".join(lines) + "\n"


def _accuracy_lines(report: dict[str, Any]) -> list[str]:
    comparison, file = report["comparison"], report["file"]
    if "outputs" in comparison:
        return feature_lines(report)
    snr, median = decibels(comparison["snr_db"]), decibels(comparison["snr_median_db"])
    rows = [(k, comparison[f"top{k}_a"], comparison[f"top{k}_b"]) for k in (1, 5)]
    calibration = f"{len(file['calibration']['images'])} calibration images"
    return [
        f"{comparison['count']} test images, {calibration}, {file['backend']}.",
        "",
        "| | float32 | int8 |",
        "|---|---|---|",
        *(f"| top-{k} (95 % interval) | {_interval(a)} | {_interval(b)} |" for k, a, b in rows),
        f"| only this one right | {comparison['only_a_right']} | {comparison['only_b_right']} |",
        "",
        f"McNemar p {comparison['p_value']:.2f}, agreement {comparison['agreement']:.2%} "
        f"({comparison['agreement_low']:.2%} to {comparison['agreement_high']:.2%}), logit SNR {snr}, "
        f"median image {median}, "
        f"cosine {comparison['cosine']:.5f}; "
        f"size {report['size_ratio_to_float32']:.2f} and latency {report['latency_ratio_to_float32']:.2f} of float32.",
    ]


def _interval(share: dict[str, float]) -> str:
    return f"{share['value']:.2%} ({share['low']:.2%} to {share['high']:.2%})"


def _block_lines(blocks: list[dict[str, Any]]) -> list[str]:
    return [
        "| block | SNR of its last tensor | lowest SNR | most values outside the range |",
        "|---|---|---|---|",
        *(
            f"| {escaped(block['block']) or 'other'} | {block['snr_db']:.1f} dB | {block['lowest_db']:.1f} dB | "
            f"{block['outside']:.2%} |"
            for block in blocks
        ),
    ]


def _sensitivity_lines(sensitivity: list[dict[str, Any]]) -> list[str]:
    if not sensitivity:
        return []
    rows = [f"| {escaped(row['block'])} | {row['gain_db']:+.1f} dB |" for row in sensitivity]
    return ["", "| block, if it alone stays in float32 | SNR regained |", "|---|---|", *rows]


def _outside_line(outside: list[dict[str, str]]) -> str:
    counts = collections.Counter(f"{escaped(op['op'])} ({op['reason']})" for op in outside)
    return "Outside the delegate: " + (", ".join(f"{count} {name}" for name, count in counts.items()) or "none") + "."


def _stability_lines(stability: dict[str, Any] | None) -> list[str]:
    if stability is None:
        return []
    return [
        "",
        "Calibrated on other images: "
        f"ranges change by {stability['median_range_change_octaves']:.2f} octaves (median), "
        f"{stability['largest_range_change_octaves']:.2f} at most; {shown_summary(stability)}.",
    ]
