"""Whole models: shapes, sizes, policies, gradients, serialization, back ends."""

import doctest
import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from marks import slow
from small import SMALL, backbone, block

import mixnet_tf
import mixnet_tf.model as model_module
from mixnet_tf.config import load_config, to_dict
from mixnet_tf.errors import MixNetError
from mixnet_tf.model import create_feature_extractor, create_model

CHANNELS = {
    "mixnet_s": [24, 40, 120, 1536],
    "mixnet_m": [32, 40, 120, 1536],
    "mixnet_l": [40, 56, 160, 1536],
    "mixnet_xl": [48, 64, 192, 1536],  # 32, 40, 120 times 1.6, to multiples of 8
}


ONE_BLOCK = backbone(block(out_channels=8, kernel_sizes=[3, 5], num_exp_groups=2, num_poi_groups=2))


def with_head(**head):
    """ONE_BLOCK and a head, as the whole mapping of a file."""
    return to_dict(load_config({"backbone": ONE_BLOCK, "head": {"name": "fc", "params": head}}))


def images(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


@pytest.mark.parametrize("name", ["mixnet_s", *slow("mixnet_m", "mixnet_l", "mixnet_xl")])
def test_feature_extractors(name):
    model = create_feature_extractor(name, input_shape=(96, 64, 3))
    expected = [(96 // s, 64 // s, c) for s, c in zip((4, 8, 16, 32), CHANNELS[name], strict=True)]
    assert [shape[1:] for shape in model.output_shape] == expected


def test_feature_extractor_gives_the_maps_of_the_backbone():
    features = create_feature_extractor(SMALL)
    without_top = create_model(SMALL, include_top=False)
    without_top.set_weights(features.get_weights())
    x = images(2, 32, 40, 3)
    np.testing.assert_array_equal(np.asarray(features(x)[-1]), np.asarray(without_top(x)))


@pytest.mark.parametrize("pooling", [None, "avg", "max"])
def test_without_top(pooling):
    model = mixnet_tf.create_model(ONE_BLOCK, include_top=False, pooling=pooling)
    plain = mixnet_tf.create_model(ONE_BLOCK, include_top=False)
    plain.set_weights(model.get_weights())
    x = images(2, 32, 32, 3)
    reduce = {None: lambda y: y, "avg": lambda y: y.mean(axis=(1, 2)), "max": lambda y: y.max(axis=(1, 2))}[pooling]
    np.testing.assert_allclose(np.asarray(model(x)), reduce(np.asarray(plain(x))), atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (31, 33), (47, 20)])
def test_any_image_size(size):
    model = create_model(SMALL, classes=4)
    scores = np.asarray(model(images(2, *size, 3)))
    assert scores.shape == (2, 4)
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)


def test_tiny_fixed_sizes():
    assert create_model("mixnet_s", classes=2, input_shape=(2, 3, 3)).output_shape == (None, 2)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, (None, 224, 224, 3)),
        *slow(({"include_top": False}, (None, None, None, 3))),
        *slow(({"input_shape": (None, None, 3)}, (None, None, None, 3))),
        *slow(({"input_shape": (96, 64, 3)}, (None, 96, 64, 3))),
    ],
)
def test_the_image_size_is_that_of_keras_applications(arguments, expected):
    assert mixnet_tf.MixNetS(**arguments).input_shape == expected
    if arguments.get("input_shape") != (None, None, 3):  # which Keras refuses with a head
        assert keras.applications.EfficientNetB0(weights=None, **arguments).input_shape == expected


def test_preprocessing_inside_needs_rgb():
    message = "include_preprocessing: needs RGB images, found 1 channels; give include_preprocessing=False"
    with pytest.raises(MixNetError, match=message):
        create_model(ONE_BLOCK, input_shape=(32, 32, 1))
    assert create_model(ONE_BLOCK, input_shape=(32, 32, 1), include_preprocessing=False).input_shape[-1] == 1


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_preprocessing_is_exact_in_half_precision(policy):
    """255 pixel values are told apart before anything is rounded to 8 or 11 bits."""
    keras.config.set_dtype_policy(policy)
    try:
        layer = create_model(ONE_BLOCK, input_shape=(16, 16, 3)).get_layer("preprocessing")
    finally:
        keras.config.set_dtype_policy("float32")
    pixels = np.arange(256, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 1, 3), np.uint8)
    expected = (pixels / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    np.testing.assert_allclose(layer(pixels.astype(np.float32)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_keras_applications_signature():
    tensor = keras.Input((64, 64, 3))
    model = mixnet_tf.MixNetS(True, None, tensor, None, None, 7, "softmax", name="mine")
    assert model.output_shape == (None, 7) and model.name == "mine" and model.input is tensor
    head = keras.layers.Dense(2)(mixnet_tf.MixNetS(include_top=False, input_tensor=tensor, pooling="max").output)
    assert keras.Model(tensor, head).output_shape == (None, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MixNetS", "MixNetM", "MixNetL", "MixNetXL"])
def test_every_constructor(name):
    model = getattr(mixnet_tf, name)(include_top=False, pooling="avg")
    assert model.output_shape == (None, 1536) and model.name == name.replace("MixNet", "mixnet_").lower()


def test_layer_names_read_as_a_path():
    model = create_model("mixnet_nano", classes=10)
    paths = {variable.path for variable in model.variables}
    assert {"stem/conv/kernel", "stage2_block1/expand_conv/conv_0/kernel", "stage3_block2/depthwise_conv/conv_3/kernel",
            "stage2_block1/se/reduce/bias", "last_conv/bn/gamma", "predictions/kernel"} <= paths  # fmt: skip


def test_head_of_several_layers():
    model = create_model(
        with_head(num_layers=3, intermediate_channels=20, act_type="prelu", dropout_prob=0.5), classes=5
    )
    shapes = [tuple(variable.shape) for variable in model.trainable_variables[-8:]]
    assert shapes == [(1536, 20), (20,), (1,), (20, 20), (20,), (1,), (20, 5), (5,)]
    model = create_model(with_head(dropout_prob=0.5), classes=5)
    x = images(1, 32, 32, 3)
    assert not np.allclose(np.asarray(model(x, training=True)), np.asarray(model(x, training=True)))


def test_logits():
    model = create_model(ONE_BLOCK, classes=3)
    logits = create_model(ONE_BLOCK, classes=3, classifier_activation=None)
    logits.set_weights(model.get_weights())
    x = images(2, 32, 32, 3)
    exponentials = np.exp(np.asarray(logits(x)))
    np.testing.assert_allclose(np.asarray(model(x)), exponentials / exponentials.sum(axis=1, keepdims=True), rtol=1e-4)


def test_padding_differs_where_the_stride_is_two():
    model = create_model(SMALL, classes=3)
    same = create_model(SMALL, classes=3, padding="same")
    same.set_weights(model.get_weights())
    even, odd = images(1, 32, 32, 3), images(1, 33, 33, 3)  # 33 → 17 → 9: SAME is symmetric at odd sizes
    assert np.abs(np.asarray(model(even)) - np.asarray(same(even))).max() > 1e-5
    np.testing.assert_allclose(np.asarray(model(odd)), np.asarray(same(odd)), atol=1e-6)


def compiled(model, **arguments):
    arguments = {"jit_compile": False} | arguments
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", **arguments)
    return model


def test_fit_evaluate_predict():
    model = compiled(create_model(ONE_BLOCK, classes=2, input_shape=(16, 16, 3)), metrics=["accuracy"])
    x, y = images(16, 16, 16, 3), np.arange(16) % 2
    x[y == 1] += 2
    losses = model.fit(x, y, epochs=4, batch_size=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert set(model.evaluate(x, y, verbose=0, return_dict=True)) == {"accuracy", "loss"}
    assert model.predict(x, verbose=0).shape == (16, 2)


def test_a_gradient_reaches_every_weight():
    import tensorflow as tf

    model = create_model(SMALL, classes=3, classifier_activation=None)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(images(2, 32, 32, 3), training=True)[:, 0] ** 2)
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None and np.abs(np.asarray(gradient)).max() > 0, variable.path


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = compiled(create_model(ONE_BLOCK, classes=2, input_shape=(16, 16, 3)), run_eagerly=True)
    finally:
        keras.config.set_dtype_policy(before)
    layer = model.get_layer("stage1_block1")
    assert layer.compute_dtype == policy.removeprefix("mixed_") == layer.expand_conv.convs[0].compute_dtype
    assert layer.se.reduce.compute_dtype == layer.compute_dtype
    assert model.get_layer("predictions").compute_dtype == "float32"
    assert np.isfinite(model.train_on_batch(images(4, 16, 16, 3), np.array([0, 1, 0, 1])))


@pytest.mark.slow
def test_saved_and_loaded_in_another_process(tmp_path):
    config = with_head(num_layers=2, intermediate_channels=8, act_type="gelu")
    model = create_model(config, classes=3, padding="same")
    model.set_weights([np.random.default_rng(1).uniform(0.1, 1, w.shape) for w in model.get_weights()])
    x = images(2, 32, 32, 3)
    np.savez(tmp_path / "expected.npz", x=x, y=np.asarray(model(x)))
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    code = f"""
import numpy as np, keras, mixnet_tf
expected = np.load("expected.npz")
whole = keras.models.load_model("model.keras")
model = mixnet_tf.create_model({config!r}, classes=3, padding="same")
model.load_weights("model.weights.h5")
for loaded in (whole, model):
    np.testing.assert_allclose(np.asarray(loaded(expected["x"])), expected["y"], rtol=1e-5, atol=1e-6)
    print("equal")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "equal\nequal\n", done.stderr[-2000:]


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_jax_backend():
    code = """
import numpy as np, keras, mixnet_tf
model = mixnet_tf.create_model("mixnet_nano", classes=3, input_shape=(32, 32, 3))
model.compile("adam", "sparse_categorical_crossentropy")
x = np.random.default_rng(0).standard_normal((4, 32, 32, 3)).astype("float32")
assert np.isfinite(model.train_on_batch(x, np.array([0, 1, 2, 0])))
assert model.predict(x, verbose=0).shape == (4, 3)
print(keras.backend.backend())
"""
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "jax\n", done.stderr[-2000:]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 0}, "classes: found 0, expected an integer from 1"),
        ({"classes": "10"}, "classes: found '10', expected"),
        ({"pooling": "mean", "include_top": False}, "pooling: found 'mean', expected one of avg, max"),
        ({"pooling": "avg"}, "include_top=False"),
        ({"padding": "valid"}, "padding: found 'valid', expected one of symmetric, same"),
        ({"input_shape": (32, 32)}, r"input_shape: found \(32, 32\), expected \(height, width, channels\), height"),
        ({"classes": True}, "classes: found True"),
        ({"input_shape": (32, 32, None)}, "input_shape"),
        ({"input_shape": (32, 0, 3)}, "input_shape"),
        ({"input_shape": (32.5, 32, 3)}, "input_shape"),
        ({"input_shape": "abc"}, "input_shape: found 'abc'"),
        ({"input_shape": 32}, "input_shape: found 32"),
        ({"include_top": False, "pooling": [1]}, r"pooling: found \[1\]"),
        ({"classifier_activation": "sofmax"}, "classifier_activation: found 'sofmax', expected None, 'softmax' or"),
        ({"weights": "no/such/file.safetensors"}, "no/such/file.safetensors"),
    ],
)
def test_impossible_arguments(arguments, message):
    with pytest.raises(MixNetError, match=message) as caught:
        create_model(ONE_BLOCK, **arguments)
    assert "\n" not in str(caught.value)


def test_sizes_of_numpy_are_taken():
    shape = create_model(ONE_BLOCK, classes=np.int64(3), input_shape=[np.int32(32), None, 3]).input_shape
    assert shape == (None, 32, None, 3)


def test_impossible_arguments_of_a_feature_extractor():
    with pytest.raises(MixNetError, match="padding: found 'valid'"):
        create_feature_extractor(ONE_BLOCK, padding="valid")


def test_unknown_public_name():
    with pytest.raises(AttributeError, match="MixNetQ"):
        _ = mixnet_tf.MixNetQ
    for name in mixnet_tf.__all__:
        assert getattr(mixnet_tf, name) is not None


def summary(model, monkeypatch) -> list[list[str]]:
    """Return the cells (name, shape, parameters) of ``summary(expand_nested=True)``."""
    lines = []
    monkeypatch.setenv("COLUMNS", "210")
    model.summary(expand_nested=True, line_length=200, print_fn=lines.append)
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines[0].splitlines() if line.startswith("│")]
    return [row[:3] for row in rows]


def test_the_summary_shows_what_a_block_is_made_of(monkeypatch):
    dropping = SMALL | {"params": SMALL["params"] | {"dropout_rate": 0.2}}
    rows = summary(create_model(dropping, classes=2, input_shape=(20, 24, 3)), monkeypatch)
    assert ["└ dropout (SpatialDropout2D)", "(None, 5, 6, 12)", "0"] in rows
    assert not any("?" in cell or "unbuilt" in cell for row in rows for cell in row)
    start = [name for name, *_ in rows].index("stage2_block1 (MixDepthBlock)")
    assert rows[start : start + 9] == [
        ["stage2_block1 (MixDepthBlock)", "(None, 5, 6, 12)", "1,396"],  # 96 + 696 + 220 + 144, and 4 x (24 + 24 + 12)
        ["└ expand_conv (GroupedPointwiseConv2D)", "(None, 10, 12, 24)", "96"],  # 8 to 3 x 8 channels in 2 groups
        ["└ conv_0 (Conv2D)", "(None, 10, 12, 12)", "48"],
        ["└ conv_1 (Conv2D)", "(None, 10, 12, 12)", "48"],
        ["└ expand_bn (BatchNormalization)", "(None, 10, 12, 24)", "96"],
        ["└ expand_act (Activation)", "(None, 10, 12, 24)", "0"],
        ["└ depthwise_conv (MixConv2D)", "(None, 5, 6, 24)", "696"],  # 12 x 3 x 3 + 12 x 7 x 7
        ["└ conv_0 (DepthwiseConv2D)", "(None, 5, 6, 12)", "108"],
        ["└ conv_1 (DepthwiseConv2D)", "(None, 5, 6, 12)", "588"],
    ]


def test_the_summary_of_a_network_for_any_size(monkeypatch):
    model = mixnet_tf.MixNetS(classes=10)
    rows = summary(model, monkeypatch)
    assert not any("?" in cell or "unbuilt" in cell for row in rows for cell in row)
    leaves = ("(Conv2D)", "(DepthwiseConv2D)", "(BatchNormalization)", "(Dense)")
    assert sum(int(row[2].replace(",", "")) for row in rows if row[0].endswith(leaves)) == model.count_params()


def test_the_example_of_grad_cam_is_the_class_activation_map():
    """Behind the pooled map stands one dense layer, so Grad-CAM is CAM: map times kernel, over h x w."""
    (example,) = (test for test in doctest.DocTestFinder().find(model_module) if test.name == model_module.__name__)
    example.globs = names = vars(model_module) | {"__name__": "example"}
    assert doctest.DocTestRunner(verbose=False).run(example, clear_globs=False).failed == 0
    features, kernel = np.array(names["features"]), np.array(names["model"].get_layer("predictions").kernel)
    best = np.array(names["logits"]).argmax(axis=-1)
    expected = np.maximum(np.einsum("bhwc,cb->bhw", features, kernel[:, best]), 0) / (8 * 8)
    assert expected.max() > 0
    np.testing.assert_allclose(names["heat"], expected, atol=1e-4 * expected.max())
