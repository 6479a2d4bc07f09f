"""What Keras models take for an image, by what they do before their first layer with weights."""

import keras
import numpy as np
import pytest
from small import SMALL, with_random_weights

from mixnet_tf.data.input_format import Front
from mixnet_tf.deploy.front import front_of
from mixnet_tf.model import create_feature_extractor, create_model

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PIXELS, UNKNOWN = Front("pixels", certain=True), Front(None, certain=False)


def ours(**arguments) -> keras.Model:
    return create_model(SMALL, **{"input_shape": (32, 32, 3), "classes": 4} | arguments)


def normalization() -> list[keras.layers.Layer]:
    return [keras.layers.Rescaling(1 / 255), keras.layers.Normalization(mean=MEAN, variance=np.square(STD))]


def wrapped(*layers, model: keras.Model | None = None) -> keras.Model:
    """A functional model: layers, then a network of ours, or a plain convolution."""
    image = x = keras.Input((32, 32, 3))
    for layer in layers:
        x = layer(x)
    return keras.Model(image, model(x) if model is not None else keras.layers.Conv2D(4, 3)(x))


def normalized() -> keras.Model:
    return ours(include_preprocessing=False)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (ours, PIXELS),
        (normalized, Front("normalized", certain=False)),
        (lambda: create_feature_extractor(SMALL), PIXELS),
        (lambda: create_feature_extractor(SMALL, include_preprocessing=False), Front("normalized", certain=False)),
        (lambda: wrapped(*normalization(), model=normalized()), PIXELS),
        (lambda: wrapped(model=ours()), PIXELS),
        (lambda: wrapped(model=wrapped(model=normalized())), Front("normalized", certain=False)),
        (lambda: wrapped(normalization()[0], model=wrapped(normalization()[1], model=normalized())), PIXELS),
        (lambda: wrapped(normalization()[1], model=normalized()), Front("fractions", certain=True)),
        (lambda: wrapped(keras.layers.Rescaling(1 / 255), model=normalized()), PIXELS),
        (lambda: wrapped(keras.layers.Rescaling(1 / 255), model=ours()), UNKNOWN),  # scaled twice
        (lambda: wrapped(), UNKNOWN),
        (lambda: wrapped(keras.layers.Rescaling(1 / 127.5, -1)), PIXELS),
        (lambda: wrapped(keras.layers.Rescaling(2.0, -1)), Front("fractions", certain=True)),
        (lambda: wrapped(keras.layers.RandomFlip(), keras.layers.RandomRotation(0.2), *normalization()), PIXELS),
        (lambda: wrapped(keras.layers.Resizing(16, 16), keras.layers.Rescaling(1 / 255)), PIXELS),
        (lambda: wrapped(lambda x: x / 127.5 - 1.0), PIXELS),
        (lambda: wrapped(keras.applications.mobilenet_v2.preprocess_input), PIXELS),
        (lambda: wrapped(keras.layers.BatchNormalization(), keras.layers.Rescaling(1 / 255)), UNKNOWN),
        (lambda: keras.Sequential([keras.Input((32, 32, 3)), *normalization(), keras.layers.Conv2D(2, 3)]), PIXELS),
        (lambda: keras.Sequential([keras.Input((32, 32, 3)), keras.layers.RandomFlip(), ours()]), PIXELS),
        (lambda: ours(input_shape=(32, 32, 1), include_preprocessing=False), UNKNOWN),
    ],
)  # fmt: skip
def test_what_a_model_takes(make, expected):
    assert front_of(make()) == expected


def test_two_readers_of_the_image():
    image = keras.Input((32, 32, 3))
    model = keras.Model(image, [keras.layers.Rescaling(1 / 255)(image), keras.layers.Conv2D(2, 3)(image)])
    assert front_of(model) == UNKNOWN


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("MobileNetV3Small", PIXELS),
        ("MobileNetV2", UNKNOWN),  # its preprocess_input is outside
        pytest.param("EfficientNetB0", PIXELS, marks=pytest.mark.slow),
        pytest.param("EfficientNetV2B0", PIXELS, marks=pytest.mark.exhaustive),
        pytest.param("ConvNeXtTiny", PIXELS, marks=pytest.mark.exhaustive),
        pytest.param("ResNet50", UNKNOWN, marks=pytest.mark.slow),
    ],
)
def test_networks_of_keras(name, expected):
    """By the documentation of keras.applications."""
    assert front_of(getattr(keras.applications, name)(weights=None, input_shape=(64, 64, 3))) == expected


def test_preprocessing_inside_is_preprocess_input_outside():
    inside, outside = with_random_weights(ours()), normalized()
    outside.set_weights(inside.get_weights())
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    expected = outside(((pixels / 255 - MEAN) / STD).astype(np.float32))
    np.testing.assert_allclose(inside(pixels), expected, atol=1e-5)
    assert [layer.name for layer in inside.layers[:2]] == ["image", "preprocessing"] and len(
        inside.get_weights()
    ) == len(outside.get_weights())
