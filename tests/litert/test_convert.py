"""Keras to ``.tflite``: any functional model, at any size its layers take."""

import keras
import numpy as np
import pytest

from mixnet_tf.errors import MixNetError
from mixnet_tf.litert.convert import at_image_size, convert
from mixnet_tf.litert.flatgraph import Outputs
from mixnet_tf.model import create_model


def sequential(size):
    keras.utils.set_random_seed(0)
    backbone = create_model("mixnet_nano", include_top=False, pooling="avg")
    return keras.Sequential([keras.Input((size, size, 3)), backbone, keras.layers.Dense(3)], name="mine")


@pytest.mark.parametrize("size", [None, 40])
def test_a_sequential_model_takes_another_size_and_converts(size):
    model = at_image_size(sequential(size), 40)
    assert tuple(model.inputs[0].shape) == (None, 40, 40, 3)
    image = np.random.default_rng(0).standard_normal((1, 40, 40, 3)).astype(np.float32)
    (found,) = Outputs(convert(model, "float32", image_size=40))(image)
    wanted = np.asarray(model(image, training=False))
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())


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
    for use in (lambda: at_image_size(model(), size), lambda: convert(model(), "float32", image_size=size)):
        with pytest.raises(MixNetError, match=message) as caught:
            use()
        assert "\n" not in str(caught.value)
