"""Input and output types of an int8 graph: the same numbers in another type."""

import keras
import numpy as np
import pytest

from mixnet_tf.errors import DeployError, MixNetError
from mixnet_tf.litert.convert import convert
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.packing import pack
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.quantization.backends import to_int8
from mixnet_tf.quantization.io_types import set_types

MEAN, STD = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
DTYPES = {"int8": np.int8, "uint8": np.uint8, "float32": np.float32}


@pytest.fixture
def nano(nano_int8) -> FlatGraph:
    """It takes pixels, and begins with their normalization."""
    return FlatGraph(nano_int8.read_bytes())


@pytest.fixture
def normalized(nano) -> FlatGraph:
    """The same network without its first three operators, the normalization: it takes normalized images."""
    model = nano.copy().model
    graph = model.subgraphs[0]
    assert [op.name for op in nano.ops[:3]] == ["RESHAPE", "DEPTHWISE_CONV_2D", "RESHAPE"]
    *_, last = (graph.operators.pop(0) for _ in range(3))
    graph.inputs = last.outputs
    for signature in model.signatureDefs:
        signature.inputs[0].tensorIndex = last.outputs[0]
    cut = FlatGraph(pack(model))
    cut.input_format = "normalized"
    return cut


@pytest.fixture(scope="module")
def pixels(digits) -> np.ndarray:
    return np.asarray(digits.splits["test"].images[:6])


def steps_of(output: np.ndarray, kind: str, scale: float, zero_point: int) -> np.ndarray:
    """Return an output of any type as the int8 numbers that it stands for."""
    if kind == "float32":
        return np.round(output / scale) + zero_point
    return output.astype(int) - (128 if kind == "uint8" else 0)


@pytest.mark.parametrize("output", DTYPES)
@pytest.mark.parametrize("given", DTYPES)
def test_every_pair_of_types_gives_the_same_numbers(nano, nano_int8, pixels, given, output):
    set_types(nano, given, output)
    model, int8 = LiteModel(nano.content()), LiteModel(nano_int8)
    assert model.input["dtype"] == DTYPES[given] and model.output["dtype"] == DTYPES[output]
    assert model.input_format == "pixels"
    for image in pixels:
        wanted = int8.run_raw((image.astype(int) - 128).astype(np.int8)[None])
        raw = image.astype(int) - (128 if given == "int8" else 0)
        reached = model.run_raw(raw.astype(DTYPES[given])[None])
        np.testing.assert_array_equal(steps_of(reached, output, *int8.output["quantization"]), wanted)


@pytest.mark.parametrize("output", DTYPES)
@pytest.mark.parametrize("given", DTYPES)
def test_a_network_of_normalized_images_gives_the_same_numbers(normalized, pixels, given, output):
    before = LiteModel(normalized.content())
    set_types(normalized, given, output)
    model = LiteModel(normalized.content())
    assert model.input["dtype"] == DTYPES[given] and model.output["dtype"] == DTYPES[output]
    assert model.input_format == ("pixels" if given == "uint8" else "normalized")
    scale, zero_point = before.input["quantization"]
    for image in pixels:
        floats = (image / 255 - MEAN) / STD
        steps = np.clip(np.round(floats / scale) + zero_point, -128, 127).astype(np.int8)
        raw = {"uint8": image, "int8": steps, "float32": floats.astype(np.float32)}[given]
        reached = steps_of(model.run_raw(raw[None]), output, *before.output["quantization"])
        # a pixel between two steps may fall either way
        assert np.abs(reached - before.run_raw(steps[None]).astype(int)).max() <= 1


def test_uint8_is_int8_moved_by_128(nano, nano_int8):
    set_types(nano, "int8", "uint8")
    before = FlatGraph(nano_int8.read_bytes())
    info, wanted = nano.tensor(nano.outputs[0]), before.tensor(before.outputs[0])
    assert (info.dtype, info.scale, info.zero_point) == ("uint8", wanted.scale, wanted.zero_point + 128)


@pytest.mark.parametrize("name", ["nano", "normalized"])
def test_pixels_have_a_scale_of_one(name, request):
    graph = request.getfixturevalue(name)
    set_types(graph, "uint8", "int8")
    info = graph.tensor(graph.inputs[0])
    assert (info.dtype, info.scale, info.zero_point) == ("uint8", 1.0, 0)
    names = [op.name for op in graph.ops]
    assert names.count("QUANTIZE") == 1 and names[0] == "QUANTIZE"
    assert names[1] == ("RESHAPE" if name == "nano" else "DEPTHWISE_CONV_2D")


@pytest.mark.parametrize(
    ("input_format", "mean", "std"), [("normalized", MEAN, STD), ("fractions", 0, 1), ("signed", 0.5, 0.5)]
)
def test_every_pixel_value_becomes_the_step_of_its_float(normalized, input_format, mean, std):
    """All 256 values of the three channels, by the formula of the README."""
    normalized.input_format = input_format
    info = normalized.tensor(normalized.inputs[0])
    set_types(normalized, "uint8", "int8")
    model = LiteModel(normalized.content(), kernels="builtin", keep_tensors=True)
    tensor = normalized.ops[1].outputs[0]
    values = np.zeros((1, 32, 32, 3), np.uint8)
    values[0, :8] = np.arange(256, dtype=np.uint8).reshape(8, 32, 1)
    model.run_raw(values)
    exact = (np.arange(256)[:, None] / 255 - mean) / std / info.scale + info.zero_point
    steps = model.value(tensor)[0, :8].reshape(256, 3)
    difference = np.abs(steps - np.clip(np.round(exact), -128, 127))
    assert (difference <= np.where(np.abs(exact % 1 - 0.5) < 0.02, 1, 0)).all()


def test_a_graph_that_does_not_say_what_it_takes(normalized):
    normalized.input_format = None
    with pytest.raises(MixNetError, match="the model: does not say what it takes for an image; give --input"):
        set_types(normalized, "uint8", "int8")


def test_pixels_of_other_than_three_channels_are_refused(fixtures):
    graph = FlatGraph((fixtures / "ops" / "int8_swish.tflite").read_bytes())
    with pytest.raises(DeployError, match="input: pixels need a model of RGB images, found 8 channels"):
        set_types(graph, "uint8", "int8")


def test_every_output_keeps_its_own_scale():
    image = keras.Input((4, 4, 3), batch_size=1)
    first = keras.layers.Conv2D(2, 1, name="first", bias_initializer="ones")(image)
    second = keras.layers.Conv2D(2, 1, name="second", bias_initializer="ones")(first)
    graph = convert(keras.Model(image, [second, first]), image_size=4)
    assert [named.name for named in graph.model.signatureDefs[0].outputs] == [b"first", b"second"]  # it sorts them
    ranges = dict.fromkeys(graph.float_tensors(), (-1.0, 1.0)) | {graph.outputs[0]: (-8.0, 8.0)}
    int8 = to_int8(graph, ranges, "litert-quantizer")
    wanted = LiteModel(int8.content()).run(np.ones((1, 4, 4, 3), np.float32))
    set_types(int8, "float32", "uint8")
    model = LiteModel(int8.content())
    assert [details["quantization"][0] for details in model.outputs] == pytest.approx([16 / 255, 2 / 255])
    for output, reached in zip(wanted, model.run(np.ones((1, 4, 4, 3), np.float32)), strict=True):
        np.testing.assert_array_equal(reached, output)
