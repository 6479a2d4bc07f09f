"""The penalty on tensors that few values stretch: its value, its gradient, and where it stands."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import kurtosis

from mixnet_tf.model import create_model
from mixnet_tf.training.range_penalty import RangePenalty, penalize_ranges

CONFIG = Path(__file__).parents[1] / "tiny.yaml"


@pytest.fixture
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    return create_model(CONFIG, classes=2, input_shape=(16, 16, 3), classifier_activation=None)


def values(shape: tuple[int, ...] = (4, 9, 9, 6)) -> np.ndarray:
    """Return heavy-tailed values; every channel has mean 0 and variance 1."""
    x = np.random.default_rng(0).standard_t(5, shape)
    return ((x - x.mean((0, 1, 2))) / x.std((0, 1, 2))).astype(np.float32)


def test_it_is_the_log_of_the_kurtosis():
    x = values()
    expected = np.log(kurtosis(x.ravel().astype(np.float64), fisher=False))
    assert float(RangePenalty(2.0)(x)) == pytest.approx(2 * len(x) * expected, rel=1e-4)


def test_scale_is_free_and_an_offset_is_not():
    x, penalty = values(), RangePenalty(1.0)
    assert float(penalty(100 * x)) == pytest.approx(float(penalty(x)), rel=1e-4)
    # an offset of 2 on every channel: E(x + 2)^4 = E x^4 + 8 E x^3 + 24 E x^2 + 16, and the variance stays
    fourth = (x.astype(np.float64) ** 4).mean() + 8 * (x.astype(np.float64) ** 3).mean() + 24 + 16
    assert float(penalty(x + 2)) == pytest.approx(len(x) * np.log(fourth), rel=1e-4)
    # other offsets in every channel are no variance of the tensor either
    assert float(penalty(x + np.float32([-4, 4, -4, 4, -4, 4]))) > float(penalty(x + 2))


@pytest.mark.parametrize(
    "x", [np.zeros((2, 4, 4, 3)), np.ones((1, 1, 1, 3)), 1e-9 * values()], ids=["zero", "one value", "tiny"]
)
def test_dead_and_constant_tensors_have_a_finite_gradient(x):
    x = tf.Variable(x.astype(np.float32))
    with tf.GradientTape() as tape:
        loss = RangePenalty(1.0)(x)
    assert np.isfinite(loss) and np.isfinite(tape.gradient(loss, x)).all()


def test_half_precision_does_not_overflow():
    x = 300 * values()  # 300^4 is beyond float16
    assert float(RangePenalty(1.0)(tf.cast(x, "float16"))) == pytest.approx(float(RangePenalty(1.0)(x)), rel=1e-2)


def test_every_tensor_between_convolutions_is_penalized_once(model):
    penalize_ranges(model, 1.0)
    model(values((2, 16, 16, 3)))
    # stem: norm and ReLU; block 1: depthwise norm and ReLU, projection; block 2: expansion's too, and the gates;
    # the last convolution: norm and ReLU
    assert len(model.losses) == 2 + 3 + 6 + 2


def test_the_weight_is_that_of_the_mean(model):
    x = values((2, 16, 16, 3))
    penalize_ranges(model, 1.0)
    model(x)
    once = [float(loss) for loss in model.losses]
    stem = model.get_layer("stem")
    outputs = stem.bn(
        stem.conv(keras.ops.pad(model.get_layer("preprocessing")(x), [[0, 0], [1, 1], [1, 1], [0, 0]]))
    )  # as the stem pads
    expected = float(RangePenalty(1.0)(outputs)) / len(x) / len(once)
    assert min(abs(loss - expected) for loss in once) < 1e-5


def test_frozen_layers_are_left_alone(model):
    for layer in model.layers:
        layer.trainable = False
    penalize_ranges(model, 1.0)
    model(values((2, 16, 16, 3)))
    assert not model.losses


@pytest.mark.slow
def test_a_network_can_follow_it(model):
    begin = keras.Model(model.input, model.get_layer("stage1_block1").output)  # all of it takes long to trace
    penalize_ranges(begin, 1.0)
    x, optimizer, variables = values((16, 16, 16, 3)), keras.optimizers.Adam(0.01), begin.trainable_variables

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            begin(x, training=True)
            loss = tf.add_n(begin.losses)
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    losses = [float(step()) for _ in range(40)]
    assert losses[-1] < losses[0] - 0.2  # of the mean log: ranges are 1.05 times shorter
