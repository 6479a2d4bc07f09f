"""Which blocks stay in float32: against a search by brute force."""

import dataclasses

import numpy as np
import pytest
from recipes import PLAIN
from rescale import rescale_streams

from mixnet_tf.data.calibration import CalibrationSet
from mixnet_tf.deploy.deploy import deploy_model
from mixnet_tf.errors import DeployError
from mixnet_tf.litert.convert import convert
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.quantization.backends import to_int8
from mixnet_tf.quantization.fallback import float_blocks_for, rank_blocks
from mixnet_tf.quantization.float_ops import parts
from mixnet_tf.quantization.recipe import Recipe
from mixnet_tf.quantization.steps import calibrate
from mixnet_tf.quantization.types import Calibrated
from mixnet_tf.saving import load_model

BACKEND = "litert-quantizer"


@pytest.fixture
def calibrated(tiny, patches) -> Calibrated:
    return calibrate(tiny("residual"), PLAIN, patches)


def outputs(graph: FlatGraph, images: list) -> np.ndarray:
    model = LiteModel(graph.content())
    return np.array([model.run(image)[0] for image in images])


def power_ratio(wanted: np.ndarray, reached: np.ndarray) -> float:
    return 10 * np.log10(np.sum(wanted.astype(float) ** 2) / np.sum((wanted.astype(float) - reached) ** 2))


def test_blocks_are_named_in_graph_order(tiny, nano_float32):
    assert list(parts(tiny("residual"))) == ["stem", "stage1_block1", "stage1_block2", "head"]
    nano = list(parts(FlatGraph(nano_float32.read_bytes())))
    assert nano[0] == "stem" and nano[-2:] == ["last_conv", "head"] and "stage2_block2" in nano and len(nano) == 8


def rounded(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Round to the 256 steps of a range."""
    low, high = limits
    step = (high - low) / 255
    zero = round(-128 - low / step)
    return (np.clip(np.round(values / step) + zero, -128, 127) - zero) * step


def check_that_only_input_and_output_are_rounded(calibrated: Calibrated, images: list) -> None:
    graph, ranges = calibrated.equalized, calibrated.ranges
    made = to_int8(graph, ranges, BACKEND, list(parts(graph)))
    assert [op.name for op in made.ops if op.name.endswith("QUANTIZE")] == ["DEQUANTIZE", "QUANTIZE"]
    limits, step = ranges[graph.outputs[0]], np.ptp(ranges[graph.outputs[0]]) / 255
    floats, mixed = LiteModel(graph.content()), LiteModel(made.content())
    for image in images:
        exact = floats.run(rounded(image, ranges[graph.inputs[0]]).astype(np.float32))[0]
        wanted = np.clip(exact, rounded(np.array(-np.inf), limits), rounded(np.array(np.inf), limits))
        assert np.abs(mixed.run(image.astype(np.float32))[0] - wanted).max() <= 0.501 * step


def test_with_everything_in_float_only_input_and_output_are_rounded(calibrated, patches, nano_float32, digits):
    check_that_only_input_and_output_are_rounded(calibrated, patches)
    images = list(CalibrationSet.choose(digits, image_size=32, count=20))
    check_that_only_input_and_output_are_rounded(calibrate(FlatGraph(nano_float32.read_bytes()), PLAIN, images), images)


@pytest.mark.exhaustive
def test_it_does_not_matter_how_the_function_is_written(trained_nano, digits):
    """The channels of a stream differ by a factor of a thousand: where it is rounded at one scale, most is lost."""
    twin = rescale_streams(load_model(trained_nano), spread=2.0)
    graph = convert(deploy_model(twin, image_size=32), image_size=32)
    graph.input_format = "pixels"
    images = list(CalibrationSet.choose(digits, image_size=32, count=60))
    check_that_only_input_and_output_are_rounded(calibrate(graph, PLAIN, images), images)


def test_blocks_are_ranked_by_what_each_alone_regains(calibrated, patches):
    ranked = rank_blocks(calibrated, BACKEND, patches)
    wanted = outputs(calibrated.reference, patches)

    def snr(*blocks: str) -> float:
        return power_ratio(wanted, outputs(to_int8(calibrated.equalized, calibrated.ranges, BACKEND, blocks), patches))

    assert sorted(row.block for row in ranked) == ["head", "stage1_block1", "stage1_block2", "stem"]
    assert [row.gain_db for row in ranked] == sorted((row.gain_db for row in ranked), reverse=True)
    for row in ranked:
        assert row.snr_db == pytest.approx(snr(row.block)) and row.gain_db == pytest.approx(row.snr_db - snr())


@pytest.fixture
def nano(nano_float32, digits) -> tuple[Calibrated, list[np.ndarray]]:
    """The trained network without equalization, its stages quantized to a sixteenth of the steps; and its judges."""
    images = list(CalibrationSet.choose(digits, image_size=32, count=40))
    made = calibrate(FlatGraph(nano_float32.read_bytes()), PLAIN, images)
    factors = {i: 16 if "/stage2_" in made.reference.name(i) else 1 for i in made.ranges}
    wide = {i: (low * factors[i], high * factors[i]) for i, (low, high) in made.ranges.items()}
    return (
        Calibrated(
            reference=made.reference,
            equalized=made.equalized,
            ranges=wide,
            emphasis=None,
            equalization_error=None,
            notes=(),
        ),
        images,
    )


def asking(agreement: float) -> Recipe:
    return dataclasses.replace(PLAIN, min_agreement=agreement)


@pytest.mark.slow
def test_as_few_blocks_as_reach_the_agreement_are_taken_by_gain(nano):
    calibrated, images = nano
    wanted = outputs(calibrated.reference, images)[:, 0].argmax(axis=1)

    def made(*blocks: str) -> FlatGraph:
        return to_int8(calibrated.equalized, calibrated.ranges, BACKEND, blocks)

    def agreement(*blocks: str) -> float:
        return float((outputs(made(*blocks), images)[:, 0].argmax(axis=1) == wanted).mean())

    def search(least: float):
        return float_blocks_for(asking(least), calibrated, BACKEND, [], images, throughout)

    throughout = made()
    lowest = agreement()
    assert lowest < 1
    assert search(0.0)[0].blocks == () and search(lowest)[1] is throughout
    fallback, graph = search(min(1.0, lowest + 1e-6))
    assert fallback.blocks and fallback.images == len(images)
    assert fallback.agreement == agreement(*fallback.blocks) > lowest
    np.testing.assert_array_equal(outputs(graph, images), outputs(made(*fallback.blocks), images))
    ranked = tuple(row.block for row in rank_blocks(calibrated, BACKEND, images))
    assert fallback.blocks == ranked[: len(fallback.blocks)]
    assert all(agreement(*ranked[:count]) <= lowest for count in range(len(fallback.blocks)))


def test_an_agreement_that_no_blocks_reach_is_refused(tiny, patches):
    made = calibrate(tiny("classifier"), PLAIN, patches)
    wrong = tiny("classifier")  # as if int8 answered another class, whatever stays in float
    flipped = wrong.constant(wrong.ops[-1].inputs[2]) * -100
    wrong.set_constant(wrong.ops[-1], 2, flipped)
    other = Calibrated(
        reference=wrong, equalized=made.equalized, ranges=made.ranges, emphasis=None, equalization_error=None, notes=()
    )
    with pytest.raises(DeployError, match=r"min_agreement 1\.0: with every block in float32 0\.\d+ of 8 images agree"):
        float_blocks_for(asking(1.0), other, BACKEND, [], patches, to_int8(made.equalized, made.ranges, BACKEND))


def test_it_needs_blocks_and_classes(tiny, patches):
    many = calibrate(tiny("split"), PLAIN, patches)
    with pytest.raises(DeployError, match="expected a classifier, with one output"):
        float_blocks_for(asking(0.5), many, BACKEND, [], patches, many.reference)
    foreign = tiny("classifier")
    for i, tensor in enumerate(foreign.tensors):
        tensor.name = f"tensor{i}".encode()
    made = calibrate(FlatGraph(foreign.content()), PLAIN, patches)
    with pytest.raises(DeployError, match="the model has no stages and blocks"):
        float_blocks_for(asking(0.5), made, BACKEND, [], patches, made.reference)
