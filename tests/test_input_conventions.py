"""A model gets what it was trained on, whoever normalizes: Keras' own predictions decide, on a trained network."""

from collections.abc import Callable

import keras
import numpy as np
import pytest

from mixnet_tf.data.dataset import ImageData
from mixnet_tf.evidence.comparison import compare
from mixnet_tf.evidence.evaluation import evaluate
from mixnet_tf.exporting import export
from mixnet_tf.model import create_model
from mixnet_tf.saving import load_model

MEAN, STD = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
PREPARE = {
    "pixels": lambda pixels: pixels,
    "normalized": lambda pixels: ((pixels / 255 - MEAN) / STD).astype(np.float32),
}


def ours(trained: keras.Model, taken: str) -> keras.Model:
    """The network as create_model builds it."""
    arguments = {"classes": 10, "input_shape": (32, 32, 3), "classifier_activation": None}
    model = create_model("mixnet_nano", include_preprocessing=taken == "pixels", **arguments)
    model.set_weights(trained.get_weights())
    return model


def preprocessing(taken: str) -> list[keras.layers.Layer]:
    """What the guides of Keras put in front of a network."""
    if taken == "normalized":
        return []
    return [keras.layers.Rescaling(1 / 255), keras.layers.Normalization(mean=MEAN, variance=np.square(STD))]


def wrapped(trained: keras.Model, taken: str) -> keras.Model:
    """A functional model around a network that does not normalize."""
    image = x = keras.Input((32, 32, 3))
    for layer in preprocessing(taken):
        x = layer(x)
    return keras.Model(image, ours(trained, "normalized")(x))


def nested(trained: keras.Model, taken: str) -> keras.Model:
    """Transfer learning: augmentation, a backbone without its head, and a head of the user's."""
    backbone = create_model(
        "mixnet_nano", include_top=False, pooling="avg", input_shape=(32, 32, 3), include_preprocessing=False
    )
    *weights, kernel, bias = trained.get_weights()
    backbone.set_weights(weights)
    head = keras.layers.Dense(10)
    model = keras.Sequential(
        [keras.Input((32, 32, 3)), keras.layers.RandomTranslation(0.1, 0.1), *preprocessing(taken), backbone, head]
    )
    head.set_weights([kernel, bias])
    return model


def efficientnet(taken: str, data: ImageData) -> keras.Model:
    """EfficientNetB0, which takes pixels, with a head fitted to its features by least squares."""
    keras.utils.set_random_seed(0)
    image = x = keras.Input((32, 32, 3))
    if taken == "normalized":
        x = keras.layers.Rescaling((255 * STD).tolist(), (255 * MEAN).tolist())(x)
    backbone = keras.applications.EfficientNetB0(
        weights=None, include_top=False, input_shape=(32, 32, 3), pooling="avg"
    )
    train = data.splits["train"]
    pixels = np.asarray(train.images)
    norms = [layer for layer in backbone.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
    backbone(pixels[:512], training=True)
    for norm in norms:  # dividing by next to nothing would magnify rounding
        norm.moving_variance.assign(keras.ops.maximum(norm.moving_variance, 0.1))
    features = backbone.predict(pixels, verbose=0)
    wanted = np.eye(10)[train.labels]
    inputs = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    solved = np.linalg.solve(inputs.T @ inputs + 0.1 * np.eye(inputs.shape[1]), inputs.T @ wanted)
    head = keras.layers.Dense(10)
    model = keras.Model(image, head(backbone(x)))
    head.set_weights([solved[:-1], solved[-1]])
    return model


@pytest.fixture(scope="module")
def trained(trained_nano) -> keras.Model:
    return load_model(trained_nano)


def check(model: keras.Model, taken: str, data: ImageData, folder) -> None:
    test = data.splits["test"]
    outputs = model.predict(PREPARE[taken](np.asarray(test.images)), verbose=0)
    expected = float((outputs.argmax(axis=1) == test.labels).mean())
    assert expected > 0.8  # it was trained: guessing gives 0.1
    model.save(folder / "model.keras")
    assert evaluate(folder / "model.keras", data).top1 == expected
    for recipe, images in (("float32", 0), ("int8", 1)):
        path = folder / f"{recipe}.tflite"
        export(folder / "model.keras", path, recipe=recipe, data=data, images=60)
        assert abs(evaluate(path, data).top1 - expected) <= images / len(test) + 1e-9, recipe
    assert compare(folder / "model.keras", folder / "float32.tflite", data).snr_db > 80


SLOW, EXHAUSTIVE = pytest.mark.slow, pytest.mark.exhaustive


@pytest.mark.parametrize(
    ("make", "taken"),
    [
        pytest.param(wrapped, "pixels", marks=SLOW),
        *(pytest.param(make, "pixels", marks=EXHAUSTIVE) for make in (ours, nested)),
        *(pytest.param(make, "normalized", marks=EXHAUSTIVE) for make in (ours, wrapped, nested)),
    ],
)
def test_keras_and_every_file_agree(make: Callable, taken: str, trained, digits, tmp_path):
    check(make(trained, taken), taken, digits, tmp_path)


@EXHAUSTIVE
@pytest.mark.parametrize("taken", PREPARE)
def test_a_network_of_keras_and_its_files_agree(taken, digits, tmp_path):
    check(efficientnet(taken, digits), taken, digits, tmp_path)
