"""Where the error of an int8 file comes from: ``report.md``, ``report.json`` and a plot."""

import collections
import dataclasses
import itertools
import json
import math
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mixnet_tf.data.batches import ImageData, calibration_images, evaluation_dataset
from mixnet_tf.errors import DeployError
from mixnet_tf.evidence.benchmark import benchmark
from mixnet_tf.evidence.comparison import Comparison, compare
from mixnet_tf.evidence.report import _figure, environment
from mixnet_tf.files import whole_file
from mixnet_tf.litert.flatgraph import FlatGraph, Outputs, Probe
from mixnet_tf.litert.op_table import inspect_model
from mixnet_tf.quantization.fallback import _BLOCK, EXACT_DB, rank_blocks

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


def tensor_errors(prepared, content: bytes, images: Iterable[np.ndarray]) -> list[TensorError]:
    """Compare every int8 tensor with its float twin.

    Args:
        prepared: from ``mixnet_tf.quantization.quantize.prepare``.
        content: the int8 file made of it.
        images: normalized float images (1, height, width, channels).
    """
    graph, quantized = FlatGraph(prepared.content), FlatGraph(content)
    written = {quantized.name(i): i for op in quantized.ops for i in op.outputs}
    ops = [
        op for op in graph.ops if graph.name(op.outputs[0]) in written and graph.name(op.outputs[0]) in prepared.ranges
    ]
    names = [graph.name(op.outputs[0]) for op in ops]
    limits = [prepared.ranges[name] for name in names]
    probe, run = Probe(prepared.content), Outputs(quantized.content_up_to([written[name] for name in names]))
    sums = np.zeros((len(ops), 3))
    count = 0
    for image in images:
        probe.run(image)
        count += 1
        for own, op, (low, high), found in zip(sums, ops, limits, run(image), strict=True):
            value = probe.value(op.outputs[0])
            noise = np.square(value - found, dtype=np.float64).sum()
            own += np.square(value, dtype=np.float64).sum(), noise, ((value < low) | (value > high)).mean()
    return [
        TensorError(
            name=name,
            block=match[1] if (match := _BLOCK.search(name)) else "",
            op=op.name,
            low=low,
            high=high,
            outside=float(outside / count),
            snr_db=10 * math.log10(signal / noise) if noise and signal else EXACT_DB,
        )
        for name, op, (low, high), (signal, noise, outside) in zip(names, ops, limits, sums, strict=True)
    ]


def concat_ratios(prepared) -> dict[str, float]:
    """Return, for every concatenation, the widest range of its inputs over the narrowest: they share one int8 scale."""
    graph, found = FlatGraph(prepared.content), {}
    for op in graph.ops:
        if op.name == "CONCATENATION":
            computed = [graph.name(i) for i in op.inputs if graph.name(i) in prepared.ranges]
            widths = [high - low for low, high in map(prepared.ranges.get, computed)] or [1.0]
            found[graph.name(op.outputs[0])] = max(widths) / max(min(widths), 1e-30)
    return found


def report_files(folder: str | Path | None) -> list[Path]:
    """Return the files of a report in `folder`; none for None."""
    return [] if folder is None else [Path(folder, name) for name in _FILES]


def check_reportable(content: bytes, data: ImageData, on_bad_image: str) -> None:
    """Raise DeployError where a report on a float ``.tflite`` could not be written: known before the work begins."""
    graph = FlatGraph(content)
    shapes = [graph.shape(i) for i in graph.outputs]
    if shapes != [(1, len(data.class_names))]:
        found = ", ".join(map(str, shapes))
        raise DeployError(
            f"report: the model gives {found}; expected (1, {len(data.class_names)}), the classes of {data.name}"
        )
    evaluation_dataset(data, "test", image_size=graph.image_size, batch_size=1, on_bad_image=on_bad_image)  # bad images


def write_quantization_report(
    result,
    prepared,
    again,
    data: ImageData,
    folder: str | Path,
    *,
    on_bad_image: str = "error",
    overwrite: bool = False,
) -> dict:
    """Measure a quantized file on the test split and write the report.

    Args:
        result: what ``quantize`` returns.
        prepared: from ``mixnet_tf.quantization.quantize.prepare``.
        again: a function from another calibration set to (prepared, content), for the stability of the result.
        data: with a test split; its training split has the calibration images.
        folder: for ``report.md``, ``report.json`` and ``error.png``.
        on_bad_image: ``"error"`` or ``"skip"``.
        overwrite: replace files that exist.

    Returns:
        The content of ``report.json``.
    """
    folder, content = Path(folder), Path(result.path).read_bytes()
    size = FlatGraph(prepared.content).image_size
    count = len(result.calibration.images)
    more = calibration_images(
        data, image_size=size, count=2 * count, seed=result.calibration.seed, on_bad_image=on_bad_image
    )
    second = list(itertools.islice(more, count, None))
    images = list(calibration_images(data, split="test", image_size=size, count=_IMAGES, on_bad_image=on_bad_image))
    with tempfile.TemporaryDirectory() as scratch:
        paths = {name: Path(scratch) / f"{name}.tflite" for name in ("float32", "second")}
        paths["float32"].write_bytes(prepared.reference)
        arguments = {"on_bad_image": on_bad_image}
        own = compare(paths["float32"], result.path, data, **arguments)
        stability = None
        if second:
            other, other_content = again(second)
            paths["second"].write_bytes(other_content)
            stability = _stability(prepared, other, compare(paths["float32"], paths["second"], data, **arguments))
        latencies = benchmark([paths["float32"], result.path], rounds=10)
    table = inspect_model(result.path)
    report = {
        "file": dataclasses.asdict(result),
        "comparison": dataclasses.asdict(own) | {"a": "float32"},
        "tensors": [dataclasses.asdict(error) for error in tensor_errors(prepared, content, images)],
        "sensitivity": _sensitivity(result, prepared, images),
        "concat_range_ratios": concat_ratios(prepared),
        "ops": dict(collections.Counter(op.name for op in table.ops)),
        "outside_delegate": [{"op": op.name, "reason": op.reason} for op in table.outside],
        "latency_ratio_to_float32": latencies[1].ratio,
        "size_ratio_to_float32": result.size_bytes / len(prepared.reference),
        "stability": stability,
        "environment": environment(),
    }
    writers = (
        lambda part: part.write_text(json.dumps(report, indent=2, default=str) + "\n"),
        lambda part: _plot(report["tensors"], part),
        lambda part: part.write_text(_markdown(report)),
    )
    for path, write in zip(report_files(folder), writers, strict=True):
        with whole_file(path, overwrite=overwrite) as part:
            write(part)
    return report


def _sensitivity(result, prepared, images: list[np.ndarray]) -> list[dict]:
    if result.backend == "tf.lite":  # which cannot leave a block in float32
        return []
    return [dataclasses.asdict(own) for own in rank_blocks(prepared, result.backend, images)]


def _stability(first, second, comparison: Comparison) -> dict:
    widths = [{name: high - low for name, (low, high) in own.ranges.items()} for own in (first, second)]
    ratios = [abs(math.log2(widths[1][name] / width)) for name, width in widths[0].items() if width and widths[1][name]]
    return {
        "median_range_change_octaves": float(np.median(ratios)),
        "largest_range_change_octaves": float(np.max(ratios)),
        "top1": comparison.top1_b.value,
        "agreement": comparison.agreement,
        "snr_db": comparison.snr_db,
    }


def _markdown(report: dict) -> str:
    own, file, blocks = report["comparison"], report["file"], {}
    for tensor in report["tensors"]:
        blocks.setdefault(tensor["block"], []).append(tensor)
    snr = "exact" if own["snr_db"] is None else f"{own['snr_db']:.1f} dB"
    lines = [
        f"# {Path(file['path']).name}, recipe {file['recipe']['name']}",
        "",
        f"{own['count']} test images, {len(file['calibration']['images'])} calibration images, {file['backend']}.",
        "",
        "| | float32 | int8 |",
        "|---|---|---|",
        *(
            f"| top-{k} (95 % interval) | {_interval(own[f'top{k}_a'])} | {_interval(own[f'top{k}_b'])} |"
            for k in (1, 5)
        ),
        f"| only this one right | {own['only_a_right']} | {own['only_b_right']} |",
        "",
        f"McNemar p {own['p_value']:.2f}, agreement {own['agreement']:.2%}, logit SNR {snr}, "
        f"cosine {own['cosine']:.5f}; "
        f"size {report['size_ratio_to_float32']:.2f} and latency {report['latency_ratio_to_float32']:.2f} of float32.",
        "",
        "## Where the error enters",
        "",
        "![error](error.png)",
        "",
        "| block | SNR of its last tensor | lowest SNR | most values outside the range |",
        "|---|---|---|---|",
    ]
    for block, tensors in blocks.items():
        last, lowest = tensors[-1]["snr_db"], min(t["snr_db"] for t in tensors)
        outside = max(t["outside"] for t in tensors)
        lines.append(f"| {block or 'other'} | {last:.1f} dB | {lowest:.1f} dB | {outside:.2%} |")
    if report["sensitivity"]:
        lines += ["", "| block, if it alone stays in float32 | logit SNR regained |", "|---|---|"]
        lines += [f"| {own['block']} | {own['gain_db']:+.1f} dB |" for own in report["sensitivity"]]
    lines += ["", "| concatenation | widest range over narrowest |", "|---|---|"]
    lines += [f"| {name} | {ratio:.2f} |" for name, ratio in report["concat_range_ratios"].items()]
    lines += ["", "| operator | count |", "|---|---|", *(f"| {name} | {n} |" for name, n in report["ops"].items())]
    outside = collections.Counter(f"{op['op']} ({op['reason']})" for op in report["outside_delegate"])
    lines += ["", "Outside the delegate: " + (", ".join(f"{n} {name}" for name, n in outside.items()) or "none") + "."]
    if report["stability"]:
        other = report["stability"]
        lines += [
            "",
            "Calibrated on other images: "
            f"ranges change by {other['median_range_change_octaves']:.2f} octaves (median), "
            f"{other['largest_range_change_octaves']:.2f} at most; top-1 {other['top1']:.2%}, agreement "
            f"{other['agreement']:.2%}.",
        ]
    return "\n".join([*lines, *(f"\nNote: {note}." for note in file["notes"])]) + "\n"


def _interval(share: dict) -> str:
    return f"{share['value']:.2%} ({share['low']:.2%} to {share['high']:.2%})"


def _plot(tensors: list[dict], path: Path) -> None:
    figure, axes = _figure(11, 4)
    axes.plot([tensor["snr_db"] for tensor in tensors], ".", markersize=3)
    starts = {}
    for i, tensor in enumerate(tensors):
        starts.setdefault(tensor["block"], i)
    axes.set_xticks(list(starts.values()), list(starts), rotation=90, fontsize=7)
    axes.set(ylabel="SNR in dB, int8 against float", title="error by tensor, in graph order")
    figure.savefig(path)
