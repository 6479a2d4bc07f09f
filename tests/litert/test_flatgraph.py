"""Reading and writing the flatbuffer of a .tflite."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from mixnet_tf.errors import DeployError
from mixnet_tf.litert.convert import convert
from mixnet_tf.litert.flatgraph import FlatGraph, Outputs
from mixnet_tf.model import create_model


@pytest.fixture(scope="module")
def content() -> bytes:
    return convert(create_model("mixnet_nano", classes=4), "float32", image_size=32)


def test_what_is_read_is_written_again(content):
    image = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype(np.float32)
    again = FlatGraph(content).content()
    np.testing.assert_array_equal(Outputs(content)(image)[0], Outputs(again)(image)[0])
    assert FlatGraph(again).content() == again


def test_equal_vectors_are_written_once(content):
    graph = FlatGraph(content)
    for i in range(10):
        own = schema.QuantizationParametersT(scale=np.ones(1000, np.float32), zeroPoint=np.zeros(1000, np.int64))
        graph.add_constant(f"constant{i}", np.full(1000, i, np.int8), own)
    again = graph.content()
    # 1 byte of content each, and once 4 of scale and 8 of zero point
    assert 22_000 < len(again) - len(content) < 25_000
    found = FlatGraph(again)
    names = [found.name(index) for index in range(len(found.tensors))]
    for i in range(10):
        index = names.index(f"constant{i}")
        tensor = found.tensors[index]
        assert found.constant(index).tolist() == [i] * 1000
        assert tensor.quantization.scale.tolist() == [1.0] * 1000 and not tensor.quantization.zeroPoint.any()


def test_what_is_not_a_tflite():
    with pytest.raises(DeployError, match="expected 'TFL3'"):
        FlatGraph(b"PK\x03\x04 a zip file")
