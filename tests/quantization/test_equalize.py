"""Equalization: the same function, equal channels, whatever way the function is written."""

import keras
import numpy as np
import pytest
from rescale import rescale_streams

from mixnet_tf.deploy.deploy import deploy_model
from mixnet_tf.litert.convert import convert
from mixnet_tf.litert.flatgraph import FlatGraph, Outputs
from mixnet_tf.model import create_model
from mixnet_tf.quantization.equalize import equalize, scales
from mixnet_tf.quantization.ranges import measure_extremes


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return list(np.random.default_rng(0).standard_normal((6, 1, 32, 32, 3)).astype(np.float32))


@pytest.fixture(scope="module")
def model(images) -> keras.Model:
    keras.utils.set_random_seed(3)
    return create_model("mixnet_nano", classes=10, input_shape=(32, 32, 3), classifier_activation=None)


@pytest.fixture(scope="module")
def content(model) -> bytes:
    return convert(deploy_model(model, image_size=32), "float32", image_size=32)


def _outputs(content: bytes, images: list) -> np.ndarray:
    run = Outputs(content)
    return np.concatenate([run(image)[0] for image in images])


@pytest.fixture(scope="module")
def equalized(content, images):
    graph = FlatGraph(content)
    return content, graph, equalize(graph, measure_extremes(graph, images))


def test_the_function_stays_the_same_and_no_operator_is_added(equalized, images):
    content, graph, _ = equalized
    np.testing.assert_allclose(_outputs(graph.content(), images), _outputs(content, images), rtol=1e-4, atol=1e-5)
    assert [op.name for op in graph.ops] == [op.name for op in FlatGraph(content).ops]
    assert graph.content() != content


def test_it_predicts_the_extremes_it_leaves(equalized, images):
    _, graph, predicted = equalized
    for i, own in measure_extremes(FlatGraph(graph.content()), images).items():
        np.testing.assert_allclose(own.low, predicted[i].low, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(own.norm, predicted[i].norm, rtol=1e-3, atol=1e-4)


def test_channels_of_a_tensor_nobody_shares_have_equal_power(equalized):
    _, graph, predicted = equalized
    relu = next(i for i in predicted if "last_conv" in graph.name(i))
    alive = predicted[relu].high > 0  # its pooled means share the scale, and are never larger
    assert alive.sum() > 1000
    np.testing.assert_allclose(predicted[relu].norm[alive], 1, rtol=1e-3)


def test_two_ways_to_write_a_function_come_out_the_same(model, content, images, equalized):
    twin = rescale_streams(model, seed=5)
    np.testing.assert_allclose(
        np.asarray(twin(images[0], training=False)), np.asarray(model(images[0], training=False)), rtol=1e-3, atol=1e-5
    )
    _, own, _ = equalized
    other = FlatGraph(convert(deploy_model(twin, image_size=32), "float32", image_size=32))
    plain, unequalized = _kernels(FlatGraph(content)), _kernels(other)
    equalize(other, measure_extremes(other, images))
    found = _kernels(other)
    for name, kernel in _kernels(own).items():
        np.testing.assert_allclose(found[name], kernel, rtol=1e-2, atol=1e-3 * np.abs(kernel).max())
    assert any(np.abs(unequalized[name] - kernel).max() > 0.1 * np.abs(kernel).max() for name, kernel in plain.items())


def _kernels(graph: FlatGraph) -> dict[str, np.ndarray]:
    named = [op for op in graph.ops if op.name in ("CONV_2D", "DEPTHWISE_CONV_2D")]
    return {graph.name(op.outputs[0]).split("/", 1)[1]: graph.constant(op.inputs[1]) for op in named}


def test_switches_leave_their_part_alone(content, images):
    graph = FlatGraph(content)
    extremes = measure_extremes(graph, images)
    assert all((own == 1).all() for own in scales(graph, extremes, streams=False, relu=False).values())
    relu = next(i for i in extremes if "last_conv" in graph.name(i))
    stream = next(i for i in extremes if "stage2_block2_output" in graph.name(i))
    for switches, changed, kept in (({"relu": False}, stream, relu), ({"streams": False}, relu, stream)):
        found = scales(graph, extremes, **switches)
        assert (found[changed] != 1).any() and (found[kept] == 1).all()


def test_inputs_outputs_and_curves_keep_their_scale(content, images):
    graph = FlatGraph(content)
    found = scales(graph, measure_extremes(graph, images))
    fixed = {*graph.inputs, *graph.outputs}
    fixed.update(i for op in graph.ops if op.name == "LOGISTIC" for i in (*op.inputs, *op.outputs))
    assert len(fixed) > 10 and all((found[i] == 1).all() for i in fixed)


@pytest.mark.parametrize("activation", ["relu6", "gelu", "hard_swish", "leaky_relu", "prelu", "relu"])
def test_other_activations_are_left_right(activation, images):
    """Leaky and parametric rectifiers let scales through, the others fix them: either way the function stays."""
    keras.utils.set_random_seed(1)
    from mixnet_tf.layers import activation_layer

    image = keras.Input((32, 32, 3), name="image")
    x = keras.layers.Conv2D(6, 3, strides=4, name="a")(image)
    x = activation_layer(activation, name="act")(x)
    y = keras.layers.Conv2D(6, 1, name="b")(x)
    x = keras.layers.Add(name="sum")([x, y])
    x = keras.layers.MaxPooling2D(name="pool")(x)
    x = keras.layers.Flatten(name="flat")(x)
    model = keras.Model(image, keras.layers.Dense(3, name="c")(x), name="net")
    content = convert(model, "float32", image_size=32)
    graph = FlatGraph(content)
    equalize(graph, measure_extremes(graph, images))
    np.testing.assert_allclose(_outputs(graph.content(), images), _outputs(content, images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "piece",
    [
        lambda x: x[..., -4:],
        lambda x: x[..., -20:4],
        lambda x: x[..., 2:6],
        lambda x: x[..., -6:-2],
        lambda x: x[..., :5],
        lambda x: x[..., 1::2],
        lambda x: x[..., ::-1],
        lambda x: x[..., 3],
        lambda x: x[..., -1],
        lambda x: x[:, 1],
        lambda x: x[:, -3:, 2:],
        lambda x: keras.ops.slice(x, (0, 1, 0, 2), (1, 5, 6, 3)),
    ],
)
def test_slices_tie_the_channels_they_take(piece):
    keras.utils.set_random_seed(1)
    images = list(np.random.default_rng(0).standard_normal((4, 1, 8, 8, 3)).astype(np.float32))
    image = keras.Input((8, 8, 3), name="image")
    x = piece(keras.layers.Conv2D(8, 3, name="a")(image))
    x = keras.layers.Conv2D(4, 1, name="b")(x) if len(x.shape) == 4 else keras.layers.Flatten(name="flat")(x)
    content = convert(keras.Model(image, keras.layers.Dense(4, name="c")(x), name="net"), "float32", image_size=8)
    graph = FlatGraph(content)
    assert any("SLICE" in op.name for op in graph.ops)
    equalize(graph, measure_extremes(graph, images))
    np.testing.assert_allclose(_outputs(graph.content(), images), _outputs(content, images), rtol=1e-4, atol=1e-5)


def test_a_dead_channel_stays_finite(images):
    image = keras.Input((32, 32, 3), name="image")
    conv = keras.layers.Conv2D(4, 3, activation="relu", name="a")
    last = keras.layers.Conv2D(2, 1, name="b")
    net = keras.Model(image, keras.layers.GlobalAveragePooling2D(name="pool")(last(conv(image))), name="net")
    kernel, bias = conv.get_weights()
    bias[1] = -1000
    conv.set_weights([kernel, bias])
    content = convert(net, "float32", image_size=32)
    graph = FlatGraph(content)
    equalize(graph, measure_extremes(graph, images))
    np.testing.assert_allclose(_outputs(graph.content(), images), _outputs(content, images), rtol=1e-4, atol=1e-5)
