"""Our batch norm against Keras' own, which it must not differ from, and where which of the two runs."""

from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

from mixnet_tf import batch_norm, create_model
from mixnet_tf.batch_norm import BatchNormalization
from mixnet_tf.layers import ConvBatchNorm, MixDepthBlock

CLASSES = (keras.layers.BatchNormalization, BatchNormalization)
TOLERANCES = {"float32": 1e-5, "mixed_float16": 2e-3, "mixed_bfloat16": 2e-2}


def trained_maps(shape: tuple[int, ...]) -> np.ndarray:
    """Return maps whose channels differ as those of a trained network: scales of 0.1 to 10, means far from zero."""
    rng = np.random.default_rng(0)
    scales, means = np.geomspace(0.1, 10, shape[-1]), rng.normal(scale=10, size=shape[-1])
    return (rng.normal(size=shape) * scales + means).astype(np.float32)


def three_steps(layer: keras.layers.Layer, maps: np.ndarray) -> list[np.ndarray]:
    """Return the last output, the gradients by inputs, gamma and beta, and the statistics of three batches."""
    layer.build(maps.shape)
    layer.gamma.assign(np.linspace(0.5, 2, maps.shape[-1]))
    layer.beta.assign(np.linspace(-1, 1, maps.shape[-1]))
    weights = np.random.default_rng(1).normal(size=maps.shape).astype(np.float32)

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x, training=True)
            total = tf.reduce_sum(tf.cast(outputs, tf.float32) * weights)
        return [outputs, *tape.gradient(total, [x, *(variable.value for variable in layer.trainable_variables)])]

    for factor in (1.0, -0.5, 2.0):
        results = step(tf.cast(factor * maps, layer.compute_dtype))
    return [np.asarray(tf.cast(value, tf.float32)) for value in [*results, layer.moving_mean, layer.moving_variance]]


def fuses(layer: keras.layers.Layer, *args, **kwargs) -> bool:
    """Say whether the fused operator is in the graph of a call."""
    graph = tf.function(lambda x: layer(x, **kwargs)).get_concrete_function(*args).graph
    assert len(graph.get_operations()) > 1
    return any(op.type == "FusedBatchNormV3" and op.get_attr("is_training") for op in graph.get_operations())


@pytest.mark.parametrize("policy", TOLERANCES)
@pytest.mark.parametrize("shape", [(8, 7, 5, 24), (32, 1, 1, 8)], ids=str)
def test_outputs_gradients_and_statistics_are_those_of_keras(shape, policy):
    maps = trained_maps(shape)
    theirs, ours = (three_steps(cls(momentum=0.9, epsilon=1e-5, dtype=policy), maps) for cls in CLASSES)
    for a, b in zip(ours[:-2], theirs[:-2], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCES[policy] * abs(b).max())
    for a, b in zip(ours[-2:], theirs[-2:], strict=True):  # in float32 whatever the policy
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("policy", TOLERANCES)
def test_one_value_a_channel_has_no_variance(policy):
    """Keras gives its rounding, which 1 / root of epsilon makes 300 times larger: the output must be beta itself."""
    maps = trained_maps((1, 1, 1, 8))
    layer = BatchNormalization(momentum=0.9, epsilon=1e-5, dtype=policy)
    outputs, by_inputs, by_gamma, by_beta, mean, variance = three_steps(layer, maps)
    np.testing.assert_allclose(outputs.ravel(), np.linspace(-1, 1, 8), rtol=0, atol=TOLERANCES[policy])
    assert not by_inputs.any() and not by_gamma.any() and by_beta.all()
    np.testing.assert_allclose(mean, (0.081 - 0.045 + 0.2) * maps.ravel(), rtol=0, atol=10 * TOLERANCES[policy])
    np.testing.assert_allclose(variance, 0.9**3, rtol=1e-6)


@pytest.mark.parametrize("policy", TOLERANCES)
def test_a_map_that_trains_is_fused(policy):
    assert fuses(BatchNormalization(dtype=policy), tf.TensorSpec((None, 4, 4, 3)), training=True)
    assert not fuses(keras.layers.BatchNormalization(dtype=policy), tf.TensorSpec((None, 4, 4, 3)), training=True)


MAP, VECTOR = tf.TensorSpec((None, 4, 4, 3)), tf.TensorSpec((None, 3))
ELSEWHERE = {
    "a vector": ({}, VECTOR, True),
    "channels first": ({"axis": 1}, MAP, True),
    "no scale": ({"scale": False}, MAP, True),
    "no offset": ({"center": False}, MAP, True),
    "float64": ({"dtype": "float64"}, MAP, True),
    "renorm": ({"renorm": True}, MAP, True),
    "synchronized": ({"synchronized": True}, MAP, True),
    "frozen": ({"trainable": False}, MAP, True),
    "inference": ({}, MAP, False),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_elsewhere_keras_own_code_runs(name):
    arguments, spec, training = ELSEWHERE[name]
    assert not fuses(BatchNormalization(**arguments), spec, training=training)
    maps = trained_maps(tuple(2 if size is None else size for size in spec.shape))
    both = [cls(**arguments) for cls in CLASSES]
    first, second = (np.asarray(layer(maps, training=training)) for layer in both)
    np.testing.assert_array_equal(first, second)
    for a, b in zip(*(layer.variables for layer in both), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_mask_leaves_values_out_as_in_keras():
    maps, mask = trained_maps((2, 4, 4, 3)), np.arange(32).reshape(2, 4, 4) % 3 == 0
    first, second = (np.asarray(cls()(maps, training=True, mask=tf.constant(mask))) for cls in CLASSES)
    np.testing.assert_array_equal(first, second)


def test_configuration_and_weights_are_those_of_keras():
    theirs, ours = (cls(momentum=0.9, name="bn") for cls in CLASSES)
    assert ours.get_config() == theirs.get_config()
    for layer in (ours, theirs):
        layer.build((None, 4, 4, 3))
    assert [variable.path for variable in ours.variables] == [variable.path for variable in theirs.variables]
    assert batch_norm.builtin_class(ours) is batch_norm.builtin_class(theirs) is keras.layers.BatchNormalization


def test_every_batch_norm_of_a_network_is_ours():
    model = create_model("mixnet_nano", classes=3, input_shape=(32, 32, 3))
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    blocks = [layer for layer in model.layers if isinstance(layer, ConvBatchNorm | MixDepthBlock)]
    assert len(norms) == 2 + sum(3 if block.expand_bn else 2 for block in blocks[1:-1])
    assert {type(norm) for norm in norms} == {BatchNormalization}


@pytest.mark.exhaustive
def test_two_steps_of_mixnet_s_end_where_those_of_keras_do(monkeypatch):
    """Nearer than Keras' own where it sees the images of each batch in reverse, which changes the rounding alone."""
    rng, fuses_really = np.random.default_rng(0), BatchNormalization._fuses
    images, labels = rng.integers(0, 256, (2, 32, 64, 64, 3)).astype("float32"), np.arange(64).reshape(2, 32) % 4

    def end(order: int, fuses: Callable[..., bool]) -> list[np.ndarray]:
        monkeypatch.setattr(BatchNormalization, "_fuses", fuses)
        keras.utils.set_random_seed(0)
        model = create_model("mixnet_s", classes=4, input_shape=(64, 64, 3), classifier_activation=None)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(1e-3), loss, jit_compile=False)
        for pixels, classes in zip(images, labels, strict=True):
            model.train_on_batch(pixels[::order], classes[::order])
        return model.get_weights()

    theirs, ours = end(1, lambda *_: False), end(1, fuses_really)
    distances, floor = (
        [abs(a - b).max() for a, b in zip(weights, theirs, strict=True)]
        for weights in (ours, end(-1, lambda *_: False))
    )
    assert max(distances) < 2 * max(floor) < 1e-4 and np.median(distances) < 2.2e-6
