"""What .tflite files from elsewhere take for an image."""

import numpy as np
import pytest
import tensorflow as tf
from foreign import foreign

from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.front import lite_front

MEAN, STD = np.array((0.485, 0.456, 0.406), np.float32), np.array((0.229, 0.224, 0.225), np.float32)
IMAGE = tf.TensorSpec((1, 8, 8, 3), tf.float32)
KERNEL = np.random.default_rng(0).normal(size=(3, 3, 3, 4)).astype(np.float32)


def network(preprocess) -> FlatGraph:
    def function(image):
        return tf.nn.conv2d(preprocess(image), KERNEL, 1, "SAME")

    return FlatGraph(foreign(function, IMAGE))


@pytest.mark.parametrize(
    ("preprocess", "expected"),
    [
        (lambda x: x, None),
        (lambda x: x / 255, None),  # the converter folds it into the kernel
        (lambda x: x / 127.5 - 1, "pixels"),
        (lambda x: (x / 255 - MEAN) / STD, "pixels"),
        (lambda x: (x - MEAN) / STD, "fractions"),
        (lambda x: 2 * x - 1, "fractions"),
        (lambda x: tf.nn.relu(x / 255 - 0.5), "pixels"),
        (lambda x: tf.nn.relu(x - 0.5), None),
        (lambda x: x / 255 + tf.reduce_mean(x), None),
    ],
)
def test_arithmetic_in_front(preprocess, expected):
    front = lite_front(network(preprocess))
    assert front.input_format == expected and front.certain == (expected is not None)


def quantized_network(low: float, high: float, kind: tf.DType) -> FlatGraph:
    """An int8 network whose calibration images go from one limit to the other."""
    module = tf.Module()
    function = tf.function(lambda image: tf.nn.conv2d(image, KERNEL, 1, "SAME"), input_signature=[IMAGE])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], module)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([np.linspace(low, high, 192, dtype=np.float32).reshape(1, 8, 8, 3)],)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = kind
    return FlatGraph(converter.convert())


@pytest.mark.parametrize("kind", [tf.int8, tf.uint8, tf.float32])
@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 255, "pixels"),
        (0, 1, "fractions"),
        (-1, 1, "signed"),
        (-0.485 / 0.229, (1 - 0.406) / 0.225, "normalized"),
        (-3, 3, None),
        (0, 0.8, None),
    ],
)
def test_limits_of_an_int8_input(low, high, kind, expected):
    assert lite_front(quantized_network(low, high, kind)).input_format == expected


def test_what_a_file_records_comes_first(nano_float32):
    graph = FlatGraph.read(nano_float32)
    assert lite_front(graph).input_format == "pixels"
    for name in ("signed", "normalized", None):
        graph.input_format = name
        again = FlatGraph(graph.content())
        assert again.input_format == name and len(again.model.metadata) == len(graph.model.metadata)
    assert lite_front(again).input_format is None  # a convolution is no arithmetic
