"""Input and output types of an int8 graph: the same numbers in another type."""

import numpy as np
import pytest

from mixnet_tf.data.pixels import preprocess_input
from mixnet_tf.errors import DeployError
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.quantization.io_types import set_types

DTYPES = {"int8": np.int8, "uint8": np.uint8, "float32": np.float32}


@pytest.fixture
def nano(nano_int8) -> FlatGraph:
    return FlatGraph(nano_int8.read_bytes())


@pytest.fixture(scope="module")
def pixels(digits) -> np.ndarray:
    return np.asarray(digits.splits["test"].images[:6])


@pytest.mark.parametrize("output", DTYPES)
@pytest.mark.parametrize("given", DTYPES)
def test_every_pair_of_types_gives_the_same_numbers(nano, nano_int8, pixels, given, output):
    set_types(nano, given, output)
    model, int8 = LiteModel(nano.content()), LiteModel(nano_int8)
    assert model.input["dtype"] == DTYPES[given] and model.output["dtype"] == DTYPES[output]
    images = preprocess_input(pixels)
    scale, zero_point = int8.output["quantization"]
    for raw, image in zip(pixels, images, strict=True):
        wanted = int8.run_raw(np.clip(np.round(image / int8.input["quantization"][0])
                                      + int8.input["quantization"][1], -128, 127).astype(np.int8)[None])  # fmt: skip
        reached = model.run_raw(raw[None]) if given == "uint8" else model.run(image[None])[0][0]
        if given == "uint8" and output == "uint8":
            reached = reached.astype(int) - 128
        elif (given == "uint8" and output == "float32") or given != "uint8":
            reached = np.round(reached / scale) + zero_point
        assert (
            np.abs(reached.astype(int) - wanted.astype(int)).max() <= 1
        )  # a pixel between two steps may fall either way


def test_uint8_is_int8_moved_by_128(nano, nano_int8):
    set_types(nano, "int8", "uint8")
    before = FlatGraph(nano_int8.read_bytes())
    info, wanted = nano.tensor(nano.outputs[0]), before.tensor(before.outputs[0])
    assert (info.dtype, info.scale, info.zero_point) == ("uint8", wanted.scale, wanted.zero_point + 128)


def test_pixels_have_a_scale_of_one(nano):
    set_types(nano, "uint8", "int8")
    info = nano.tensor(nano.inputs[0])
    assert (info.dtype, info.scale, info.zero_point) == ("uint8", 1.0, 0)
    assert [op.name for op in nano.ops[:3]] == ["QUANTIZE", "RESHAPE", "DEPTHWISE_CONV_2D"]


def test_every_pixel_value_becomes_the_step_of_its_normalized_float(nano, nano_int8):
    """All 256 values of the three channels, by the formula of the README."""
    before = FlatGraph(nano_int8.read_bytes())
    info = before.tensor(before.inputs[0])
    set_types(nano, "uint8", "int8")
    model = LiteModel(nano.content(), kernels="builtin", keep_tensors=True)
    normalized = nano.ops[1].outputs[0]
    mean, std = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
    values = np.zeros((1, 32, 32, 3), np.uint8)
    values[0, :8] = np.arange(256, dtype=np.uint8).reshape(8, 32, 1)
    model.run_raw(values)
    exact = (np.arange(256)[:, None] / 255 - mean) / std / info.scale + info.zero_point
    steps = model.value(normalized)[0, :8].reshape(256, 3)
    difference = np.abs(steps - np.clip(np.round(exact), -128, 127))
    assert (difference <= np.where(np.abs(exact % 1 - 0.5) < 0.02, 1, 0)).all()


def test_pixels_of_other_than_three_channels_are_refused(fixtures):
    graph = FlatGraph((fixtures / "ops" / "int8_swish.tflite").read_bytes())
    with pytest.raises(DeployError, match="input: uint8 needs a model of RGB images, found 8 channels"):
        set_types(graph, "uint8", "int8")
