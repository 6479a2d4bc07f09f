"""Where the error of an int8 file comes from: numbers by numpy, and a report that says what was measured."""

import dataclasses
import json

import numpy as np
import pytest

from mixnet_tf.errors import DeployError
from mixnet_tf.evidence.diagnosis import (
    TensorError,
    block_errors,
    check_reportable,
    concat_ratios,
    diagnosis_files,
    tensor_errors,
)
from mixnet_tf.exporting import export
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.quantization.backends import to_int8
from mixnet_tf.quantization.types import Calibrated

PATCHES = list(np.random.default_rng(0).standard_normal((4, 1, 4, 4, 3)).astype(np.float32))


def calibrated(fixtures, name: str, limits) -> Calibrated:
    graph = FlatGraph((fixtures / "tiny" / f"{name}.tflite").read_bytes())
    ranges = {index: limits(graph, index) for index in graph.float_tensors()}
    return Calibrated(reference=graph, equalized=graph, ranges=ranges, emphasis=None, equalization_error=None, notes=())


def test_errors_of_tensors_by_numpy(fixtures):
    made = calibrated(fixtures, "conv_relu_conv", lambda graph, index: (-8.0, 8.0 + index % 3))
    graph = made.reference
    int8 = to_int8(graph, made.ranges, "litert-quantizer")
    errors = tensor_errors(made, int8, PATCHES)
    assert [(error.name, error.op) for error in errors] == [(graph.name(op.outputs[0]), op.name) for op in graph.ops]
    assert [error.block for error in errors] == ["stem", ""]
    floats = LiteModel(graph.content(), kernels="builtin", keep_tensors=True)
    rounded = LiteModel(int8.content(), kernels="builtin", keep_tensors=True)
    for error, op, twin in zip(errors, graph.ops, int8.ops, strict=True):
        signal = noise = outside = 0.0
        info = int8.tensor(twin.outputs[0])
        low, high = made.ranges[op.outputs[0]]
        for patch in PATCHES:
            floats.run(patch)
            rounded.run(patch)
            wanted = floats.value(op.outputs[0]).astype(np.float64)
            reached = (rounded.value(twin.outputs[0]).astype(np.float64) - info.zero_point) * info.scale
            signal, noise = signal + np.sum(wanted**2), noise + np.sum((wanted - reached) ** 2)
            outside += np.mean((wanted < low) | (wanted > high)) / len(PATCHES)
        assert error.snr_db == pytest.approx(10 * np.log10(signal / noise), abs=0.2)  # kernels may round differently
        assert error.outside == pytest.approx(outside) and (error.low, error.high) == (low, high)
    assert errors[0].outside > 0.1  # its channels have up to 64 times the values


def test_a_block_is_judged_by_its_last_and_its_worst_tensor():
    numbers = (("stem", 40.0, 0.0), ("", 50.0, 0.1), ("stem", 10.0, 0.3), ("stem", 30.0, 0.2))
    made = [
        TensorError(name="t", block=block, op="ADD", low=0.0, high=1.0, outside=outside, snr_db=snr)
        for block, snr, outside in numbers
    ]
    errors = [(error.block, error.snr_db, error.lowest_db, error.outside) for error in block_errors(made)]
    assert errors == [("stem", 30.0, 10.0, 0.3), ("", 50.0, 50.0, 0.1)]


def test_ratios_of_a_concatenation_are_of_its_inputs_ranges(fixtures):
    def limits(graph: FlatGraph, index: int) -> tuple[float, float]:
        concat = next(op for op in graph.ops if op.name == "CONCATENATION")
        return {concat.inputs[0]: (-1.0, 1.0), concat.inputs[1]: (-10.0, 22.0)}.get(index, (-5.0, 5.0))

    made = calibrated(fixtures, "concat", limits)
    (ratio,) = concat_ratios(made).values()
    assert ratio == pytest.approx(32 / 2)
    assert concat_ratios(calibrated(fixtures, "residual", lambda graph, index: (0.0, 1.0))) == {}


def test_files_and_what_cannot_be_reported(fixtures, digits, tmp_path):
    assert diagnosis_files(None) == []
    assert [path.name for path in diagnosis_files(tmp_path)] == ["report.json", "error.png", "report.md"]
    graph = FlatGraph((fixtures / "tiny" / "classifier.tflite").read_bytes())
    with pytest.raises(
        DeployError, match=r"report: the model gives \(1, 3\); expected \(1, 10\), the classes of digits"
    ):
        check_reportable(graph, digits)
    three = dataclasses.replace(digits, class_names=("a", "b", "c"))
    assert check_reportable(graph, three).checked_splits >= {"test"}


@pytest.fixture(scope="module")
def report(nano_float32, digits, tmp_path_factory):
    """The folder of a report on the trained network, and its content; on few images, to be quick."""
    folder = tmp_path_factory.mktemp("diagnosis")
    small = dataclasses.replace(
        digits, splits={name: split.take(np.arange(min(60, len(split)))) for name, split in digits.splits.items()}
    )
    export(nano_float32, folder / "f.tflite", recipe="int8", data=small, images=16, report=folder / "report")
    return folder, json.loads((folder / "report" / "report.json").read_text()), small


@pytest.mark.slow
def test_a_report_holds_what_can_be_measured_again(report, nano_float32):
    folder, content, small = report
    assert content["file"]["sha256"] == json.loads((folder / "f.quantization.json").read_text())["sha256"]
    images, labels = np.asarray(small.splits["test"].images), small.splits["test"].labels
    wanted, reached = LiteModel(nano_float32)(images), LiteModel(folder / "f.tflite")(images)
    comparison = content["comparison"]
    assert comparison["count"] == 60 and comparison["a"] == "float32"
    assert comparison["agreement"] == pytest.approx(np.mean(wanted.argmax(1) == reached.argmax(1)))
    assert comparison["top1_b"]["value"] == pytest.approx(np.mean(reached.argmax(1) == labels))
    power = 10 * np.log10(np.sum(wanted**2.0) / np.sum((wanted - reached) ** 2.0))
    assert comparison["snr_db"] == pytest.approx(power, abs=1e-3)
    size = (folder / "f.tflite").stat().st_size / nano_float32.stat().st_size
    assert content["size_ratio_to_float32"] == pytest.approx(size, rel=0.01)


@pytest.mark.slow
def test_a_report_names_blocks_operators_and_stability(report):
    _, content, _ = report
    gains = [block["gain_db"] for block in content["sensitivity"]]
    assert len(gains) == 8 and gains == sorted(gains, reverse=True)
    stem = next(tensor for tensor in content["tensors"] if tensor["block"])
    assert stem["block"] == "stem" and stem["snr_db"] > 30
    assert content["ops"]["CONV_2D"] > 10 and content["outside_delegate"] == []
    stability = content["stability"]  # on sixteen other images
    assert 0 < stability["median_range_change_octaves"] <= stability["largest_range_change_octaves"]


@pytest.mark.slow
def test_a_report_reads_well(report):
    folder, content, _ = report
    text = (folder / "report" / "report.md").read_text()
    assert text.startswith("# f.tflite, recipe int8\n\n60 test images, 16 calibration images, litert-quantizer.\n")
    best = content["sensitivity"][0]
    assert f"| {best['block']} | {best['gain_db']:+.1f} dB |" in text
    assert f"agreement {content['comparison']['agreement']:.2%}" in text
    assert f"| CONV_2D | {content['ops']['CONV_2D']} |" in text and "Outside the delegate: none." in text
    assert "Calibrated on other images: " in text and "Note: calibrated on 16 images" in text
    assert (folder / "report" / "error.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
