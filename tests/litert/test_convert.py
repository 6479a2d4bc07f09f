"""Keras to ``.tflite``: any functional model, at any size its layers take."""

import logging
from pathlib import Path

import keras
import numpy as np
import pytest

from mixnet_tf.errors import MixNetError
from mixnet_tf.litert.convert import at_image_size, convert
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.neighbours import output_names
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.model import create_model

CONFIG = Path(__file__).parents[1] / "tiny.yaml"


def sequential(size):
    keras.utils.set_random_seed(0)
    backbone = create_model(CONFIG, include_top=False, pooling="avg")
    return keras.Sequential([keras.Input((size, size, 3)), backbone, keras.layers.Dense(3)], name="mine")


@pytest.mark.slow
@pytest.mark.parametrize("size", [None, 40])
def test_a_sequential_model_takes_another_size_and_converts(size):
    model = at_image_size(sequential(size), 40)
    assert tuple(model.inputs[0].shape) == (None, 40, 40, 3)
    image = np.random.default_rng(0).standard_normal((1, 40, 40, 3)).astype(np.float32)
    (output,) = LiteModel(convert(model, image_size=40).content()).run(image)
    wanted = np.asarray(model(image, training=False))
    np.testing.assert_allclose(output, wanted, atol=1e-4 * np.abs(wanted).max())


def test_another_size_shares_the_weights():
    model = create_model("mixnet_nano", classes=3)
    other = at_image_size(model, (32, 48))
    assert other.input_shape == (None, 32, 48, 3)
    assert {id(weight) for weight in other.weights} == {id(weight) for weight in model.weights}


def flat():
    image = keras.Input((8, 8, 3))
    return keras.Model(image, keras.layers.Dense(4)(keras.layers.Flatten()(image)), name="flat")


def vector():
    values = keras.Input((4,))
    return keras.Model(values, keras.layers.Dense(4)(values), name="vector")


@pytest.mark.parametrize(
    ("model", "size", "message"),
    [
        (vector, (4,), r"vector: takes \(None, 4\), expected one image"),
        (flat, 16, r"flat takes \(8, 8, 3\) and cannot be built for \(16, 16, 3\): .* expected axis -1"),
        (flat, "16", "image_size: found '16', expected pixels as an integer or"),
        (flat, 16.5, r"image_size: found 16\.5, expected pixels"),
        (flat, (16, 16, 16), r"image_size: found \(16, 16, 16\), expected"),
    ],
)
def test_sizes_that_do_not_fit_are_one_line(model, size, message):
    for use in (lambda: at_image_size(model(), size), lambda: convert(model(), image_size=size)):
        with pytest.raises(MixNetError, match=message) as caught:
            use()
        assert "\n" not in str(caught.value)


def small(act="relu"):
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(4, 3, activation=act, name="conv")(image)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, keras.layers.Dense(2, name="scores")(x), name="small")


def test_float16_rounds_the_weights_and_leaves_input_and_output():
    model = small()
    exact, half = (convert(model, image_size=8, weights=weights) for weights in ("float32", "float16"))
    assert {half.tensor(i).dtype for i in (*half.inputs, *half.outputs)} == {"float32"}
    kernels = {tuple(half.shape(i)): i for i in range(len(half.tensors)) if half.tensor(i).dtype == "float16"}
    stored = np.frombuffer(half.model.buffers[half.tensors[kernels[(4, 3, 3, 3)]].buffer].data, np.float16)
    kernel = np.transpose(model.get_layer("conv").get_weights()[0], (3, 0, 1, 2))
    np.testing.assert_array_equal(stored, kernel.astype(np.float16).ravel())
    assert len(exact.constant(exact.ops[0].inputs[1])) == 4


@pytest.mark.slow
def test_a_notebook_shows_no_warnings_of_tensorflow(caplog):
    """Without the gradients of swish, which the file does not need, it warns in Python."""
    logger = logging.getLogger("absl")
    logger.addHandler(caplog.handler)
    try:
        convert(create_model(CONFIG, classes=3), image_size=16)
    finally:
        logger.removeHandler(caplog.handler)
    assert caplog.records == []


def test_the_signature_names_image_and_outputs():
    (signature,) = convert(small(), image_size=8).model.signatureDefs
    assert signature.signatureKey == b"serving_default"
    assert [tensor.name for tensor in signature.inputs] == [b"image"]
    assert [tensor.name for tensor in signature.outputs] == [b"scores"]


def test_outputs_come_in_the_models_order_and_each_has_a_name():
    image = keras.Input((4, 4, 3))
    first, second = (keras.layers.Conv2D(filters, 1, name=f"conv{filters}") for filters in (3, 2))
    model = keras.Model(image, [second(image), first(image), first(first(image))])
    graph = convert(model, image_size=4)
    pixels = np.random.default_rng(0).standard_normal((1, 4, 4, 3)).astype(np.float32)
    for output, wanted in zip(LiteModel(graph.content()).run(pixels), model(pixels), strict=True):
        np.testing.assert_allclose(output, wanted, rtol=1e-5, atol=1e-6)
    assert output_names(graph) == ("conv2", "conv3_1", "conv3_2")
    assert output_names(convert(model, image_size=4, output_names=["c", "b", "a"])) == ("c", "b", "a")


def test_weights_of_an_unknown_kind_are_refused():
    with pytest.raises(MixNetError, match=r"weights: found 'flaot16', expected .*did you mean 'float16'"):
        convert(small(), image_size=8, weights="flaot16")


def test_what_the_converter_refuses_is_one_line():
    image = keras.Input((8, 8, 3), name="image")
    fft = keras.layers.Lambda(lambda x: keras.ops.real(keras.ops.fft2((x, x))[0]), output_shape=(8, 8, 3))
    model = keras.Model(image, fft(image), name="fft")
    with pytest.raises(MixNetError, match=r"^fft: the converter refused it: ") as caught:
        convert(model, image_size=8)
    assert "\n" not in str(caught.value)


def test_what_comes_back_is_a_graph():
    assert isinstance(convert(small(), image_size=8), FlatGraph)
