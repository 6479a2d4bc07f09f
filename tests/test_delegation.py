"""The op table against the real interpreter: every rule has a model that shows it."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from mixnet_tf.deploy.convert import convert
from mixnet_tf.deploy.delegation import inspect_model
from mixnet_tf.deploy.graph import deploy_model
from mixnet_tf.deploy.runtime import LiteModel
from mixnet_tf.errors import DeployError
from mixnet_tf.model import create_model

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
    ],
)  # fmt: skip
def test_verdicts_and_reasons(tmp_path, recipe, build, outside):
    table = table_of(tmp_path, build, recipe)
    assert {op.name for op in table.outside} == set(outside)
    assert all(outside[op.name] in op.reason for op in table.outside)
    assert all(not op.reason for op in table.ops if op.delegated)
    assert table.ops[0].name == table.ops[-1].name == "CONV_2D"


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
