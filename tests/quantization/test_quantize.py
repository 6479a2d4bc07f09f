"""From a float graph to int8, step by step on tiny graphs, and whole on a trained network."""

import dataclasses
import re

import numpy as np
import pytest
from recipes import PLAIN
from rescale import rescale_streams

from mixnet_tf.data.calibration import CalibrationSet
from mixnet_tf.deploy.deploy import deploy_model
from mixnet_tf.errors import DeployError
from mixnet_tf.litert.convert import convert
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.neighbours import convolutions
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.quantization.quantize import backend_of, quantize
from mixnet_tf.quantization.recipe import load_recipe
from mixnet_tf.quantization.steps import calibrate, int8_graph
from mixnet_tf.saving import load_model

INT8 = load_recipe("int8")


def limits_by_hand(images: list) -> tuple[float, float]:
    return min(float(image.min()) for image in images), max(float(image.max()) for image in images)


def test_calibration_without_equalization_is_minimum_and_maximum(tiny, patches):
    graph = tiny("conv_relu_conv")
    made = calibrate(graph, PLAIN, patches)
    assert made.equalized is made.reference is graph and made.equalization_error is None
    assert made.ranges[graph.inputs[0]] == pytest.approx(limits_by_hand(patches))
    model = LiteModel(graph.content())
    assert made.ranges[graph.outputs[0]] == pytest.approx(limits_by_hand([model.run(image)[0] for image in patches]))
    assert set(made.ranges) == set(graph.float_tensors())


def test_calibration_equalizes_a_copy(tiny, patches):
    graph = tiny("conv_relu_conv")
    before = graph.content()
    made = calibrate(graph, INT8, patches)
    assert graph.content() == before and made.reference is graph and made.equalized is not graph
    assert made.equalization_error is not None and made.equalization_error < 1e-5
    image = patches[0]
    np.testing.assert_allclose(
        LiteModel(made.equalized.content()).run(image)[0], LiteModel(before).run(image)[0], rtol=1e-4, atol=1e-4
    )
    (hidden,) = [op.outputs[0] for op in graph.ops[:1]]
    widths = [made.ranges[hidden][1], calibrate(graph, PLAIN, patches).ranges[hidden][1]]
    assert widths[0] < widths[1] / 10  # four channels of 1, 4, 16 and 64 times the values become equal


def test_constant_tensors_and_infinities_are_named(tiny, patches):
    blank = [np.zeros_like(patches[0])] * 2
    assert any(
        "never changes on the calibration images" in note for note in calibrate(tiny("concat"), PLAIN, blank).notes
    )
    assert calibrate(tiny("concat"), PLAIN, patches).notes == ()
    bad = [*patches[:2], np.full_like(patches[0], np.inf)]
    with pytest.raises(DeployError, match=r"tensor '.*' is not finite on calibration image 3"):
        calibrate(tiny("concat"), INT8, bad)
    with pytest.raises(DeployError, match="no calibration images"):
        calibrate(tiny("concat"), INT8, [])


def test_an_equalization_that_changes_the_function_is_refused(tiny, patches, monkeypatch):
    def wrong(graph, scale):
        twin = graph.copy()
        twin.set_constant(twin.ops[-1], 2, twin.constant(twin.ops[-1].inputs[2]) + 100)
        return twin

    monkeypatch.setattr("mixnet_tf.quantization.steps.equalize", wrong)
    with pytest.raises(
        DeployError, match=r"^equalization changes the output by .* of the largest, expected below 0\.001"
    ):
        calibrate(tiny("residual"), INT8, patches)


@pytest.fixture(scope="module")
def calibration(digits) -> CalibrationSet:
    return CalibrationSet.choose(digits, image_size=32, count=60)


@pytest.fixture(scope="module")
def nano(nano_float32) -> FlatGraph:
    return FlatGraph(nano_float32.read_bytes())


@pytest.fixture(scope="module")
def test_images(digits) -> np.ndarray:
    return np.asarray(digits.splits["test"].images)


@pytest.fixture(scope="module")
def made(nano, calibration):
    return quantize(nano, INT8, calibration)


def logits(graph: FlatGraph, images: np.ndarray) -> np.ndarray:
    return LiteModel(graph.content())(images)


def decibels(wanted: np.ndarray, reached: np.ndarray) -> float:
    return float(10 * np.log10(np.square(wanted).sum() / np.square(wanted - reached).sum()))


def test_a_trained_network_keeps_its_answers(nano, made, test_images):
    wanted, reached = logits(nano, test_images), logits(made.graph, test_images)
    assert (wanted.argmax(axis=1) == reached.argmax(axis=1)).mean() >= 0.98  # measured: 1.0
    assert decibels(wanted, reached) >= 25  # measured: 28.8 dB
    assert made.fallback is None and made.throughout is made.graph and made.backend == "litert-quantizer"


def test_it_is_int8_throughout_and_no_operator_is_added(nano, made):
    assert sorted(op.name for op in made.graph.ops) == sorted(op.name for op in nano.ops)
    assert not made.graph.float_tensors()
    dtypes = {made.graph.tensor(i).dtype for op in made.graph.ops for i in (*op.inputs, *op.outputs) if i >= 0}
    assert dtypes == {"int8", "int32"}


@pytest.mark.slow
def test_same_images_same_bytes(nano, calibration):
    first, again = (quantize(nano, INT8, list(calibration.part(0, 12))).graph.content() for _ in range(2))
    assert first == again
    assert quantize(nano, INT8, calibration.part(12, 24)).graph.content() != first


@pytest.mark.exhaustive
def test_tf_lite_gives_the_same_quality(nano, made, calibration, test_images):
    other = quantize(nano, dataclasses.replace(INT8, backend="tf.lite"), calibration)
    wanted = logits(nano, test_images)
    assert other.backend == "tf.lite"
    assert (
        abs(decibels(wanted, logits(other.graph, test_images)) - decibels(wanted, logits(made.graph, test_images))) < 1
    )


@pytest.mark.exhaustive
def test_it_does_not_matter_how_the_function_is_written(trained_nano, nano, made, calibration, test_images):
    twin = rescale_streams(load_model(trained_nano))
    graph = convert(deploy_model(twin, image_size=32), image_size=32)
    graph.input_format = "pixels"
    wanted = logits(nano, test_images)
    equalized, plain = (quantize(graph, recipe, calibration).graph for recipe in (INT8, PLAIN))
    straight, rescaled = (decibels(wanted, logits(each, test_images)) for each in (made.graph, equalized))
    assert abs(rescaled - straight) < 1
    assert decibels(wanted, logits(plain, test_images)) < straight - 3  # what happens without


def test_float_blocks_and_what_they_leave(nano, calibration):
    recipe = dataclasses.replace(PLAIN, min_agreement=0.5)
    result = quantize(nano, recipe, calibration, calibration.part(0, 20))
    assert result.fallback is not None and result.fallback.blocks == () and result.fallback.agreement >= 0.5
    assert result.graph is result.throughout and result.fallback.images == 20
    blocks = int8_graph(result.calibrated, PLAIN, result.backend, [], ("stem", "stage1_block1"))
    floats = {blocks.name(op.outputs[0]) for op in convolutions(blocks) if blocks.constant(op.inputs[1]).dtype == "f4"}
    assert floats and all(re.search("/(preprocessing|stem|stage1_block1)_", name) for name in floats)


def test_a_backend_that_cannot_leave_float_is_not_taken():
    assert backend_of(dataclasses.replace(INT8, backend="tf.lite")) == "tf.lite"
    assert backend_of(load_recipe("int8_mixed")) == backend_of(load_recipe("weight_int8")) == "litert-quantizer"


def test_an_agreement_needs_judges(nano, calibration):
    with pytest.raises(DeployError, match="min_agreement: no images to judge by"):
        quantize(nano, dataclasses.replace(PLAIN, min_agreement=0.5), calibration)
