"""What stays in float32 in an int8 file: found in graphs of TensorFlow's converter alone, and counted by hand."""

import collections
import itertools

import numpy as np
import pytest
import tensorflow as tf
from foreign import foreign

from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.quantization.backends import to_int8
from mixnet_tf.quantization.float_ops import float_ops, parts

IMAGE = tf.TensorSpec((1, 6, 6, 4), tf.float32, name="image")
KERNEL = np.random.default_rng(0).normal(size=(1, 1, 4, 4)).astype(np.float32)


def conv(x):
    return tf.nn.conv2d(x, KERNEL, 1, "SAME")


def layer_norm(x):
    centred = x - tf.reduce_mean(x, -1, keepdims=True)
    return centred * tf.math.rsqrt(tf.reduce_mean(centred * centred, -1, keepdims=True) + 1e-6)


def types(graph: FlatGraph) -> dict[tuple[str, str], int]:
    return dict(collections.Counter((op.name, graph.tensor(op.outputs[0]).dtype) for op in graph.ops))


def int8(graph: FlatGraph) -> FlatGraph:
    return to_int8(graph, dict.fromkeys(graph.float_tensors(), (-3.0, 5.0)), "litert-quantizer")


@pytest.mark.parametrize(
    ("function", "in_float"),
    [
        (lambda x: conv(conv(x)), []),
        (lambda x: conv(conv(x) * tf.sigmoid(tf.reduce_mean(conv(x), -1, keepdims=True)) + x), []),
        (lambda x: conv(layer_norm(conv(x))), ["MEAN", "SUB", "MUL", "MEAN", "ADD", "RSQRT", "MUL"]),
        (lambda x: conv(layer_norm(conv(x) + x)), ["ADD", "MEAN", "SUB", "MUL", "MEAN", "ADD", "RSQRT", "MUL"]),
        (lambda x: conv(layer_norm(y := conv(x) + x) + y), ["MEAN", "SUB", "MUL", "MEAN", "ADD", "RSQRT", "MUL"]),
    ],
)
def test_the_inside_of_a_layer_norm_is_found_and_nothing_else(function, in_float):
    graph = FlatGraph(foreign(function, IMAGE))
    assert [op.name for op in float_ops(graph)] == in_float


def test_a_layer_norm_is_computed_in_float_between_two_conversions():
    made = types(int8(FlatGraph(foreign(lambda x: conv(layer_norm(conv(x))), IMAGE))))
    assert made == {
        ("CONV_2D", "int8"): 2, ("DEQUANTIZE", "float32"): 1, ("QUANTIZE", "int8"): 1, ("RSQRT", "float32"): 1,
        ("MEAN", "float32"): 2, ("SUB", "float32"): 1, ("MUL", "float32"): 2, ("ADD", "float32"): 1,
    }  # fmt: skip


def test_hard_swish_is_computed_in_float_between_two_conversions():
    import keras

    graph = FlatGraph(foreign(lambda x: conv(keras.ops.hard_silu(conv(x))), IMAGE))
    made = types(int8(graph))
    assert made == {
        ("CONV_2D", "int8"): 2, ("DEQUANTIZE", "float32"): 1, ("HARD_SWISH", "float32"): 1, ("QUANTIZE", "int8"): 1,
    }  # fmt: skip


def test_only_operators_of_this_very_name_stay_in_float():
    """The quantizer looks names up by regular expressions: ``mul`` must not mean ``mul_1``."""
    graph = FlatGraph(foreign(lambda x: conv(layer_norm(conv(x) * conv(x + 1.0))) * conv(x - 1.0), IMAGE))
    chosen = {graph.name(op.outputs[0]) for op in float_ops(graph)}
    made = int8(graph)
    floats = {made.name(op.outputs[0]) for op in made.ops if op.name not in ("QUANTIZE", "DEQUANTIZE")}
    dtypes = {made.name(op.outputs[0]): made.tensor(op.outputs[0]).dtype for op in made.ops}
    assert {name for name in floats if dtypes[name] == "float32"} == chosen


def test_every_operator_is_of_the_first_block_that_needs_it(tiny, nano_float32):
    def named(graph: FlatGraph) -> dict[str, list[str]]:
        return {block: [op.name for op in ops] for block, ops in parts(graph).items()}

    assert named(tiny("split")) == {
        "stem": ["CONV_2D"],
        "stage1_block1": ["SPLIT", "CONV_2D", "CONV_2D"],
        "head": ["ADD", "CONV_2D"],
    }
    nano = FlatGraph(nano_float32.read_bytes())
    found = named(nano)
    assert found["stage2_block2"].count("SLICE") == 2  # called net/Slice
    assert found["stem"][:3] == ["RESHAPE", "DEPTHWISE_CONV_2D", "RESHAPE"]  # the normalization
    assert found["head"] == ["MEAN", "FULLY_CONNECTED"]
    assert sorted(itertools.chain(*found.values())) == sorted(op.name for op in nano.ops)  # each is of one block
    assert parts(FlatGraph(foreign(lambda x: conv(conv(x)), IMAGE))) == {}
    residual = tiny("residual")  # the converter calls an output by a number; the signature keeps its name
    residual.model.signatureDefs[0].outputs[0].name = b"last_conv"
    assert list(parts(residual))[-2:] == ["stage1_block2", "last_conv"]


def test_a_block_in_float_has_no_conversion_inside(tiny):
    graph = tiny("split")
    ranges = dict.fromkeys(graph.float_tensors(), (-300.0, 500.0))
    made = to_int8(graph, ranges, "litert-quantizer", ["stage1_block1"])
    assert types(made) == {
        ("CONV_2D", "int8"): 2, ("DEQUANTIZE", "float32"): 1, ("SPLIT", "float32"): 1, ("CONV_2D", "float32"): 2,
        ("QUANTIZE", "int8"): 2, ("ADD", "int8"): 1,
    }  # fmt: skip


def test_an_output_is_int8_even_behind_float():
    made = int8(FlatGraph(foreign(lambda x: layer_norm(conv(x)), IMAGE)))
    assert made.ops[-1].name == "QUANTIZE" and made.tensor(made.outputs[0]).dtype == "int8"
