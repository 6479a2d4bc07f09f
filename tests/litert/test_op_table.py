"""The op table against the real interpreter: every rule has a file that shows it."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from foreign import foreign

from mixnet_tf.errors import DeployError, MixNetError
from mixnet_tf.litert.op_table import inspect_model
from mixnet_tf.litert.packing import Buffer, pack
from mixnet_tf.litert.runtime import LiteModel

VERDICTS = {
    "float32_hard_swish": {},
    "int8_hard_swish": {"HARD_SWISH": "in float only"},
    "int8_swish": {},
    "int8_softmax": {"SOFTMAX": "in float only"},
    "float32_softmax": {},
    "int8_gelu": {"GELU": "in float only"},
    "int8_average_pool": {"AVERAGE_POOL_2D": "in float only"},
    "int8_max_pool": {},
    "int8_relu_fused": {},
    "int8_relu_alone": {"RELU": "fuse it into the convolution"},
    "int8_leaky_relu": {},
    "float32_concat_5": {},
    "float32_concat_6": {"CONCATENATION": "than 5"},
    "float32_split_4": {},
    "int8_split_8": {"SPLIT": "more than 4 outputs"},
    "float32_split_v": {"SPLIT_V": "no SPLIT_V"},
    "float32_every_other_pixel": {"STRIDED_SLICE": "every n-th value"},
    "int8_depthwise_7x7": {},
    "int8_prelu": {"PRELU": "in float only"},
    "int8_exp": {"EXP": "in float only"},
    "int8_sqrt": {"SQRT": "in float only"},
    "int8_div": {"DIV": "in float only"},
    "int8_maximum": {"MAXIMUM": "in float only"},
    "int8_minimum": {"MINIMUM": "in float only"},
    "float32_cumsum": {"CUMSUM": "does not take this op"},
    "float32_depthwise_without_bias": {"DEPTHWISE_CONV_2D": "convolution without a bias"},
    # the interpreter runs an op whose result nothing reads; what the delegate has taken is inside it
    "float32_unread_cumsum": {"CUMSUM": "does not take this op"},
    "float32_unread_exp": {},
}
CLIFFS = {
    "float32_depthwise_5x5": False,
    "float32_depthwise_7x7": True,
    "float32_depthwise_3x9": True,
    "float32_depthwise_1x25": False,
}
ODD = {
    "custom_op": {"custom AudioSpectrogram": "not a built-in op"},
    "int16": dict.fromkeys(("QUANTIZE", "CONV_2D", "DEQUANTIZE"), "int16"),
    "uint8_in_int8_out": {"QUANTIZE": "changes between uint8 and int8"},
    "dynamic_range": {"DEPTHWISE_CONV_2D": "int8 weights with float activations"},
    "dynamic_batch": {"STRIDED_SLICE": "is not static"},
    # what our own commands would not run is listed all the same
    "dynamic_size": {},
    "batch_of_two": {},
    "uint8_without_scale": {"CAST": "does not take this op"},
    "two_inputs": {},
    "two_outputs": {},
    "three_subgraphs": dict.fromkeys(("GREATER", "IF"), "does not take this op"),
}


def assert_outside(table, reasons: dict[str, str]) -> None:
    assert {op.name for op in table.outside} == set(reasons)
    assert all(reasons[op.name] in op.reason for op in table.outside)
    assert all(not op.reason for op in table.ops if op.delegated)


@pytest.mark.parametrize("name", VERDICTS)
def test_verdicts_and_reasons(fixtures, name):
    table = inspect_model(fixtures / "ops" / f"{name}.tflite")
    assert_outside(table, VERDICTS[name])
    assert table.ops[0].name == table.ops[-1].name == "CONV_2D"


def test_every_file_has_its_verdict(fixtures):
    assert {path.stem for path in (fixtures / "ops").iterdir()} == {*VERDICTS, *CLIFFS}
    assert {path.stem for path in (fixtures / "odd").iterdir()} == set(ODD)


@pytest.mark.parametrize("name", ODD)
def test_verdicts_on_files_made_otherwise(fixtures, name):
    assert_outside(inspect_model(fixtures / "odd" / f"{name}.tflite"), ODD[name])


@pytest.mark.parametrize("name", CLIFFS)
def test_depthwise_cliffs(fixtures, name):
    table = inspect_model(fixtures / "ops" / f"{name}.tflite")
    assert bool(table.cliffs) == CLIFFS[name]
    assert all(op.name == "DEPTHWISE_CONV_2D" and "25 taps" in op.cliff for op in table.cliffs)
    assert not table.outside


@pytest.mark.parametrize(("size", "groups", "is_slow"), [(7, 8, True), (5, 8, False), (7, 4, False), (7, 1, False)])
def test_a_convolution_with_one_channel_a_group_is_a_depthwise_one(tmp_path, size, groups, is_slow):
    kernel = np.random.default_rng(0).normal(size=(size, size, 8 // groups, 8)).astype(np.float32)
    image = tf.TensorSpec((1, 16, 16, 8), tf.float32, name="image")
    path = tmp_path / "grouped.tflite"
    path.write_bytes(foreign(lambda x: tf.nn.conv2d(x, kernel, 1, "SAME") + 1.0, image))
    table = inspect_model(path)
    assert [op.name for op in table.cliffs] == ["CONV_2D"] * is_slow and not table.outside


def test_fields(fixtures):
    file = fixtures / "ops" / "int8_relu_fused.tflite"
    table = inspect_model(file)
    assert table.size_bytes == file.stat().st_size
    assert table.inputs[0].shape == (1, 8, 8, 8)
    assert table.inputs[0].dtype == table.ops[0].dtype == "int8"
    assert table.inputs[0].scale > 0 and table.inputs[0].zero_point is not None
    assert table.ops[0].inputs == ((1, 8, 8, 8), (8, 1, 1, 8), (8,))
    assert json.loads(json.dumps(dataclasses.asdict(table)))["ops"][0]["name"] == "CONV_2D"


def test_the_deploy_graph_runs_inside_the_delegate(nano_int8):
    table = inspect_model(nano_int8)
    assert not table.outside and not table.cliffs
    assert {op.dtype for op in table.ops} == {"int8"}


@pytest.mark.exhaustive  # converts a network
def test_the_plain_graph_falls_off_the_cliff(tmp_path):
    from mixnet_tf.litert.convert import convert
    from mixnet_tf.model import create_model

    plain = tmp_path / "plain.tflite"
    plain.write_bytes(convert(create_model("mixnet_nano", classes=4), image_size=32).content())
    assert [op.inputs[1][1] for op in inspect_model(plain).cliffs] == [7, 7, 9]


@pytest.mark.parametrize("keep", [0, 4, 8, 9, 40, 200, 0.5, 0.9])
def test_truncated_files(tmp_path, nano_float32, keep):
    content, file = nano_float32.read_bytes(), tmp_path / "cut.tflite"
    file.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(DeployError, match=r"cut\.tflite: ") as caught:
        inspect_model(file)
    assert "\n" not in str(caught.value)


def test_a_damaged_name(tmp_path, nano_float32):
    content, file = nano_float32.read_bytes(), tmp_path / "name.tflite"
    assert b"mixnet_nano" in content and b"image" in content
    file.write_bytes(content.replace(b"mixnet_nano", b"mixnet_\xff\xfe\xfdo"))
    with pytest.raises(DeployError, match=r"name\.tflite: damaged \.tflite: tensor \d+: a name that is not UTF-8"):
        inspect_model(file)
    file.write_bytes(content.replace(b"image", b"im\xffge"))
    with pytest.raises(DeployError, match=r"name\.tflite: damaged \.tflite: .*not UTF-8"):
        _ = LiteModel(file).input


def test_texts_that_nothing_reads_are_left_alone(tmp_path):
    """LiteRT ends the process where a text is read before it is written."""
    types = schema.TensorType
    text = np.array([1, 12, 15], np.int32).tobytes() + b"abc"
    shape = np.ones(2, np.int32)
    tensors = [
        schema.TensorT(shape=shape[:1], type=types.STRING, buffer=1, name=b"text"),
        schema.TensorT(shape=np.full(1, 2, np.int32), type=types.INT32, buffer=2, name=b"shape"),
        schema.TensorT(shape=shape, type=types.STRING, buffer=0, name=b"output"),
    ]
    code = schema.OperatorCodeT(builtinCode=schema.BuiltinOperator.RESHAPE, deprecatedBuiltinCode=22, version=1)
    reshape = schema.OperatorT(opcodeIndex=0, inputs=[0, 1], outputs=[2])
    graph = schema.SubGraphT(tensors=tensors, inputs=[], outputs=[2], operators=[reshape])
    buffers = [schema.BufferT(), Buffer(data=text), Buffer(data=shape.tobytes())]
    (tmp_path / "text.tflite").write_bytes(
        pack(schema.ModelT(version=3, operatorCodes=[code], subgraphs=[graph], buffers=buffers))
    )
    assert [op.name for op in inspect_model(tmp_path / "text.tflite").outside] == ["RESHAPE"]


def test_garbage_and_missing_files(tmp_path):
    file = tmp_path / "noise.tflite"
    file.write_bytes(b"\x1c\0\0\0TFL3" + np.random.default_rng(0).bytes(4000))
    with pytest.raises(DeployError, match=r"damaged|cannot load"):
        inspect_model(file)
    file.write_bytes(b"PK\x03\x04 a zip file, not a model")
    with pytest.raises(DeployError, match=r"not a \.tflite"):
        inspect_model(file)
    with pytest.raises(DeployError, match="no such file"):
        inspect_model(tmp_path / "absent.tflite")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MixNetError, match=r"holds no \.tflite file"):
        inspect_model(tmp_path / "empty")
