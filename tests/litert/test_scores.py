"""What a file gives: found out, taken off, and put on."""

import keras
import numpy as np
import pytest

from mixnet_tf.deploy.ending import scores_of_keras
from mixnet_tf.errors import DeployError
from mixnet_tf.litert.convert import convert
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.litert.scores import add_scores, check_scores, scores_of, to_logits

IMAGES = np.random.default_rng(0).standard_normal((3, 4, 4, 3)).astype(np.float32)


def model(*last: keras.layers.Layer) -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten(), *last])


LAYERS = keras.layers
ENDS = {
    "softmax": [LAYERS.Dense(5, activation="softmax")],
    "softmax by itself": [LAYERS.Dense(5), LAYERS.Softmax()],
    "softmax as an activation": [LAYERS.Dense(5), LAYERS.Activation("softmax"), LAYERS.Reshape((5,))],
    "sigmoid": [LAYERS.Dense(5, activation="sigmoid")],
    "logits": [LAYERS.Dense(5)],
    "logits, then dropout": [LAYERS.Dense(5), LAYERS.Dropout(0.5)],
    "logits, scaled": [LAYERS.Dense(5), LAYERS.Rescaling(2.0), LAYERS.Activation("linear")],
}
NO_ENDS = {
    "half a softmax": [LAYERS.Dense(5, activation="softmax"), LAYERS.Rescaling(0.5)],
    "the mean of softmaxes": [
        *(LAYERS.Reshape((4, 4, 3)), LAYERS.Conv2D(5, 1, activation="softmax")),
        LAYERS.GlobalAveragePooling2D(),
    ],
    "relu": [LAYERS.Dense(5, activation="relu")],
    "relu6": [LAYERS.Dense(5, activation="relu6")],
}
"""What tells of no probabilities and of no logits."""


@pytest.mark.parametrize("kind", ENDS)
def test_keras_and_its_file_say_the_same(kind):
    keras_model = model(*ENDS[kind])
    name = kind.split()[0].rstrip(",")
    assert scores_of_keras(keras_model) == scores_of(convert(keras_model, image_size=4)) == name


@pytest.mark.parametrize("kind", NO_ENDS)
def test_what_is_neither_is_taken_for_neither(kind):
    keras_model = model(*NO_ENDS[kind])
    graph = convert(keras_model, image_size=4)
    assert scores_of_keras(keras_model) is scores_of(graph) is None
    with pytest.raises(DeployError, match="does not tell softmax, sigmoid, logits apart"):
        check_scores(graph, "softmax")


def test_the_mean_of_two_softmaxes_is_neither():
    image = keras.Input((4, 4, 3))
    heads = [LAYERS.Dense(5, activation="softmax")(LAYERS.Flatten()(image)) for _ in range(2)]
    keras_model = keras.Model(image, LAYERS.Average()(heads))
    assert scores_of_keras(keras_model) is scores_of(convert(keras_model, image_size=4)) is None


def test_a_sum_of_logits_is_logits():
    image = keras.Input((4, 4, 3))
    heads = [LAYERS.Dense(5)(LAYERS.Flatten()(image)) for _ in range(2)]
    assert scores_of(convert(keras.Model(image, LAYERS.Average()(heads)), image_size=4)) == "logits"


def test_one_number_has_no_softmax():
    graph = convert(model(LAYERS.Dense(1)), image_size=4)
    check_scores(graph, "sigmoid")
    with pytest.raises(DeployError, match="gives one number, whose softmax is always 1; expected --scores sigmoid"):
        check_scores(graph, "softmax")


def test_a_nested_model_tells_too():
    inputs = keras.Input((4, 4, 3))
    assert scores_of_keras(keras.Model(inputs, model(*ENDS["sigmoid"])(inputs))) == "sigmoid"


def test_another_end_does_not_tell():
    keras_model = model(LAYERS.Dense(5, activation="relu"), LAYERS.Activation("exponential"))
    graph = convert(keras_model, image_size=4)
    assert scores_of_keras(keras_model) is scores_of(graph) is None
    with pytest.raises(DeployError, match=r"ends in EXP, which does not tell softmax, sigmoid, logits apart"):
        check_scores(graph, "softmax")


@pytest.mark.parametrize(
    ("kind", "scores"),
    [("softmax", "softmax"), ("sigmoid", "sigmoid"), ("softmax as an activation", "softmax")],
)
def test_a_softmax_or_sigmoid_comes_off_and_on(kind, scores):
    """By Keras' own layers with the same weights; a reshape may follow."""
    ending, plain = model(*ENDS[kind]), model(*ENDS["logits"])
    plain.set_weights(ending.get_weights())
    graph = convert(ending, image_size=4)
    to_logits(graph)
    assert scores_of(graph) == "logits"
    np.testing.assert_allclose(LiteModel(graph.content())(IMAGES), plain(IMAGES), atol=1e-5)
    add_scores(graph, scores)
    assert scores_of(graph) == scores
    np.testing.assert_allclose(LiteModel(graph.content())(IMAGES), ending(IMAGES), atol=1e-6)


def test_logits_stay_logits():
    graph = convert(model(*ENDS["logits"]), image_size=4)
    before = LiteModel(graph.content())(IMAGES)
    to_logits(graph)
    add_scores(graph, "logits")
    np.testing.assert_array_equal(LiteModel(graph.content())(IMAGES), before)


def test_scores_that_contradict_the_model():
    graph = convert(model(*ENDS["sigmoid"]), image_size=4)
    with pytest.raises(DeployError, match="ends in sigmoid; expected --scores sigmoid or logits, found softmax"):
        check_scores(graph, "softmax")
    check_scores(graph, "logits")
    features = convert(keras.Sequential([keras.Input((4, 4, 3)), LAYERS.Conv2D(5, 1)]), image_size=4)
    with pytest.raises(DeployError, match=r"gives \(1, 4, 4, 5\); scores need a classifier"):
        check_scores(features, "logits")
