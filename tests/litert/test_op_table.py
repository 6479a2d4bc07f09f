"""The op table against the real interpreter: every rule has a model that shows it."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from mixnet_tf.deploy.deploy import deploy_model
from mixnet_tf.errors import DeployError
from mixnet_tf.litert.convert import convert
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.op_table import inspect_model
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.model import create_model
from mixnet_tf.quiet import quiet

SIZE = 8


def images():
    rng = np.random.default_rng(0)
    return (rng.standard_normal((1, SIZE, SIZE, 8), dtype=np.float32) for _ in range(3))


def conv(x):
    return keras.layers.Conv2D(8, 1)(x)


def table_of(tmp_path, build, recipe):
    """Inspect conv → build → conv: the convolutions on both sides are always delegated."""
    image = keras.Input((SIZE, SIZE, 8))
    model = keras.Model(image, conv(build(conv(image))))
    file = tmp_path / "model.tflite"
    file.write_bytes(convert(model, recipe, image_size=SIZE, representative_dataset=images))
    return inspect_model(file)


def split(x, sizes):
    return keras.layers.Add()([conv(part) for part in keras.ops.split(x, sizes, axis=-1)])


@pytest.mark.parametrize(
    ("recipe", "build", "outside"),
    [
        ("float32", keras.layers.Activation("hard_silu"), {}),
        ("int8", keras.layers.Activation("hard_silu"), {"HARD_SWISH": "in float only"}),
        ("int8", keras.layers.Activation("silu"), {}),
        ("int8", keras.layers.Softmax(), {"SOFTMAX": "in float only"}),
        ("float32", keras.layers.Softmax(), {}),
        ("int8", keras.layers.Activation("gelu"), {"GELU": "in float only"}),
        ("int8", keras.layers.AveragePooling2D(2), {"AVERAGE_POOL_2D": "in float only"}),
        ("int8", keras.layers.MaxPooling2D(2), {}),
        ("int8", keras.layers.ReLU(), {}),  # fused into the convolution
        ("int8", lambda x: keras.ops.relu(keras.ops.sigmoid(x)), {"RELU": "fuse it into the convolution"}),
        ("int8", keras.layers.LeakyReLU(0.01), {}),
        ("float32", lambda x: keras.layers.Concatenate()([conv(x) for _ in range(5)]), {}),
        ("float32", lambda x: keras.layers.Concatenate()([conv(x) for _ in range(6)]), {"CONCATENATION": "than 5"}),
        ("float32", lambda x: split(x, 4), {}),
        ("int8", lambda x: split(x, 8), {"SPLIT": "more than 4 outputs"}),
        ("float32", lambda x: split(x, [3]), {"SPLIT_V": "no SPLIT_V"}),
        ("float32", lambda x: x[:, ::2, ::2], {"STRIDED_SLICE": "every n-th value"}),
        ("int8", keras.layers.DepthwiseConv2D(7, padding="same"), {}),
        ("int8", keras.layers.PReLU(shared_axes=[1, 2]), {"PRELU": "in float only"}),
        ("int8", keras.ops.exp, {"EXP": "in float only"}),
        ("int8", lambda x: keras.ops.sqrt(keras.ops.sigmoid(x)), {"SQRT": "in float only"}),
        ("int8", lambda x: conv(x) / (keras.ops.sigmoid(x) + 1), {"DIV": "in float only"}),
        ("int8", lambda x: keras.ops.maximum(conv(x), conv(x)), {"MAXIMUM": "in float only"}),
        ("int8", lambda x: keras.ops.minimum(conv(x), conv(x)), {"MINIMUM": "in float only"}),
        ("float32", lambda x: keras.ops.cumsum(x, axis=1), {"CUMSUM": "does not take this op"}),
    ],
)  # fmt: skip
def test_verdicts_and_reasons(tmp_path, recipe, build, outside):
    table = table_of(tmp_path, build, recipe)
    assert {op.name for op in table.outside} == set(outside)
    assert all(outside[op.name] in op.reason for op in table.outside)
    assert all(not op.reason for op in table.ops if op.delegated)
    assert table.ops[0].name == table.ops[-1].name == "CONV_2D"


def converted(tmp_path, function, shape, **settings):
    """Convert a function with the converter's own settings, for what ``convert`` never makes, and inspect it."""
    traced = tf.function(function, input_signature=[tf.TensorSpec(shape, tf.float32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced.get_concrete_function()], tf.Module())
    converter.target_spec.supported_ops = settings.pop("supported_ops", converter.target_spec.supported_ops)
    for name, value in settings.items():
        setattr(converter, name, value)
    file = tmp_path / "model.tflite"
    with quiet():
        file.write_bytes(converter.convert())
    return inspect_model(file)


def kernel(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def pointwise(x):
    return tf.nn.conv2d(x, kernel(1, 1, 8, 8), 1, "SAME")


def depthwise(x):
    return tf.nn.depthwise_conv2d(x, kernel(3, 3, x.shape[-1], 1), (1, 1, 1, 1), "SAME")


INT8 = {
    "optimizations": [tf.lite.Optimize.DEFAULT],
    "representative_dataset": lambda: ([image] for image in images()),
    "supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS_INT8],
}
INT16 = INT8 | {"supported_ops": [tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8]}


@pytest.mark.parametrize(
    ("function", "shape", "settings", "outside"),
    [
        (
            lambda x: tf.raw_ops.AudioSpectrogram(input=x, window_size=64, stride=32),
            (256, 1),
            {"allow_custom_ops": True},
            {"custom AudioSpectrogram": "not a built-in op"},
        ),
        (pointwise, (1, SIZE, SIZE, 8), INT16, dict.fromkeys(("QUANTIZE", "CONV_2D", "DEQUANTIZE"), "int16")),
        (
            pointwise,
            (1, SIZE, SIZE, 8),
            INT8 | {"inference_input_type": tf.uint8, "inference_output_type": tf.int8},
            {"QUANTIZE": "changes between uint8 and int8"},
        ),
        (
            depthwise,
            (1, SIZE, SIZE, 256),
            {"optimizations": [tf.lite.Optimize.DEFAULT]},  # dynamic range: only large weights become int8
            {"DEPTHWISE_CONV_2D": "int8 weights with float activations"},
        ),
        (lambda x: pointwise(pointwise(x)[:, ::2]), (None, SIZE, SIZE, 8), {}, {"STRIDED_SLICE": "is not static"}),
    ],
    ids=["custom", "int16", "uint8", "dynamic range", "dynamic shape"],
)
def test_verdicts_on_files_made_otherwise(tmp_path, function, shape, settings, outside):
    table = converted(tmp_path, function, shape, **settings)
    assert {op.name for op in table.outside} == set(outside)
    assert all(outside[op.name] in op.reason for op in table.outside)


def edited(tmp_path, build, edit):
    """Inspect the file of `table_of` after `edit` has changed its main subgraph."""
    table_of(tmp_path, build, "float32")
    file = tmp_path / "model.tflite"
    graph = FlatGraph(file.read_bytes())
    edit(graph)
    file.write_bytes(graph.content())
    return inspect_model(file)


def test_a_convolution_without_a_bias(tmp_path):
    def strip(graph):
        operator = graph.model.subgraphs[0].operators[1]
        operator.inputs = operator.inputs[:2]

    table = edited(tmp_path, keras.layers.DepthwiseConv2D(3), strip)
    assert [(op.name, op.reason) for op in table.outside] == [("DEPTHWISE_CONV_2D", "convolution without a bias")]


@pytest.mark.parametrize(
    ("branch", "outside"), [(lambda x: keras.ops.cumsum(x, axis=1), ["CUMSUM"]), (keras.ops.exp, [])]
)
def test_an_op_whose_result_nothing_reads(tmp_path, branch, outside):
    """The interpreter runs it all the same; what the delegate has taken is inside it."""

    def forget(graph):
        *_, branched, joined, _ = graph.ops  # the sum then adds what it adds twice
        operator = graph.model.subgraphs[0].operators[-2]
        assert joined.name == "ADD" and branched.outputs[0] in joined.inputs
        (kept,) = set(joined.inputs) - set(branched.outputs)
        operator.inputs = np.array([kept, kept], np.int32)

    table = edited(tmp_path, lambda x: keras.layers.Add()([x, branch(x)]), forget)
    assert [op.name for op in table.outside] == outside


@pytest.mark.parametrize(("size", "is_cliff"), [(5, False), (7, True), ((3, 9), True), ((1, 25), False)])
def test_depthwise_cliffs(tmp_path, size, is_cliff):
    table = table_of(tmp_path, keras.layers.DepthwiseConv2D(size, padding="same"), "float32")
    assert bool(table.cliffs) == is_cliff
    assert all(op.name == "DEPTHWISE_CONV_2D" and "25 taps" in op.cliff for op in table.cliffs)


def test_fields(tmp_path):
    table = table_of(tmp_path, keras.layers.ReLU(), "int8")
    assert table.size_bytes == (tmp_path / "model.tflite").stat().st_size
    assert table.inputs[0].shape == (1, SIZE, SIZE, 8)
    assert table.inputs[0].dtype == table.ops[0].dtype == "int8"
    assert table.inputs[0].scale > 0 and table.inputs[0].zero_point is not None
    assert table.ops[0].inputs == ((1, SIZE, SIZE, 8), (8, 1, 1, 8), (8,))
    assert json.loads(json.dumps(dataclasses.asdict(table)))["ops"][0]["name"] == "CONV_2D"


def test_the_deploy_graph_runs_inside_the_delegate(tmp_path):
    model = create_model("mixnet_nano", classes=4, classifier_activation=None)
    rng = np.random.default_rng(0)
    pictures = [rng.standard_normal((1, 32, 32, 3), dtype=np.float32) for _ in range(3)]
    file = tmp_path / "nano.tflite"
    deployed = deploy_model(model, image_size=32)
    file.write_bytes(convert(deployed, "int8", image_size=32, representative_dataset=lambda: pictures))
    table = inspect_model(file)
    assert not table.outside and not table.cliffs
    assert {op.dtype for op in table.ops} == {"int8"}
    plain = tmp_path / "plain.tflite"
    plain.write_bytes(convert(model, "float32", image_size=32))
    assert [op.inputs[1][1] for op in inspect_model(plain).cliffs] == [7, 7, 9]


@pytest.fixture(scope="module")
def nano() -> bytes:
    return convert(create_model("mixnet_nano", classes=4), "float32", image_size=32)


@pytest.mark.parametrize("keep", [0, 4, 8, 9, 40, 200, 0.5, 0.9])
def test_truncated_files(tmp_path, nano, keep):
    file = tmp_path / "cut.tflite"
    file.write_bytes(nano[: keep if isinstance(keep, int) else int(keep * len(nano))])
    with pytest.raises(DeployError, match=r"cut\.tflite: ") as caught:
        inspect_model(file)
    assert "\n" not in str(caught.value)


def test_a_damaged_name(tmp_path, nano):
    file = tmp_path / "name.tflite"
    file.write_bytes(nano.replace(b"mixnet_nano", b"mixnet_\xff\xfe\xfdo"))
    with pytest.raises(DeployError, match=r"name\.tflite: truncated or damaged"):
        inspect_model(file)
    file.write_bytes(nano.replace(b"image", b"im\xffge"))
    with pytest.raises(DeployError, match=r"name\.tflite: LiteRT cannot load it: 'utf-8' codec"):
        LiteModel(file)


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
    with pytest.raises(DeployError, match="no such file"):
        inspect_model(tmp_path)
