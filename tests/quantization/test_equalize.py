"""Equalization: the same function, equal channels, whatever way the function is written."""

import keras
import numpy as np
import pytest
from marks import slow
from rescale import rescale_streams

from mixnet_tf.deploy.deploy import deploy_model
from mixnet_tf.litert.convert import convert
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.quantization.equalize import equalize, scales
from mixnet_tf.quantization.ranges import measure_extremes
from mixnet_tf.saving import load_model


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return list(np.random.default_rng(0).standard_normal((6, 1, 32, 32, 3)).astype(np.float32))


@pytest.fixture(scope="module")
def graph(nano_float32) -> FlatGraph:
    return FlatGraph(nano_float32.read_bytes())


def _outputs(graph: FlatGraph, images: list) -> np.ndarray:
    model = LiteModel(graph.content())
    return np.concatenate([model.run(image)[0] for image in images])


@pytest.fixture(scope="module")
def extremes(graph, images):
    return measure_extremes(graph, images)


@pytest.fixture(scope="module")
def equalized(graph, extremes):
    """The equalized graph, and the extremes that its tensors should have."""
    scale = scales(graph, extremes)
    return equalize(graph, scale), {i: channels.divided(scale[i]) for i, channels in extremes.items()}


def assert_equal(graph: FlatGraph, images: list) -> None:
    """Equalize a graph and compare."""
    twin = equalize(graph, scales(graph, measure_extremes(graph, images)))
    np.testing.assert_allclose(_outputs(twin, images), _outputs(graph, images), rtol=1e-4, atol=1e-5)


def test_the_function_stays_the_same_and_no_operator_is_added(graph, equalized, images):
    twin, _ = equalized
    wanted = _outputs(graph, images)
    np.testing.assert_allclose(_outputs(twin, images), wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())
    assert [op.name for op in twin.ops] == [op.name for op in graph.ops]
    assert twin.content() != graph.content()


def test_it_predicts_the_extremes_it_leaves(equalized, images):
    twin, predicted = equalized
    for i, channels in measure_extremes(twin, images).items():
        np.testing.assert_allclose(channels.low, predicted[i].low, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(channels.norm, predicted[i].norm, rtol=1e-3, atol=1e-4)


def test_channels_of_a_tensor_nobody_shares_have_equal_power(equalized):
    twin, predicted = equalized
    relu = next(i for i in predicted if "last_conv" in twin.name(i))
    alive = predicted[relu].high > 0  # its pooled means share the scale, and are never larger
    assert alive.sum() > 1000
    np.testing.assert_allclose(predicted[relu].norm[alive], 1, rtol=1e-3)


def test_two_ways_to_write_a_residual_stream_come_out_the_same(tiny, patches):
    graph, twin = tiny("residual"), tiny("residual")
    factors = np.array([0.1, 1, 3, 40], np.float32)
    writers = [op for op in twin.ops if op.name == "CONV_2D" and twin.shape(op.outputs[0])[-1] == 4]
    readers = [op for op in twin.ops if op.name == "CONV_2D" and twin.shape(op.inputs[0])[-1] == 4]
    assert len(writers) == len(readers) == 3
    for op in writers:
        twin.set_constant(op, 1, twin.constant(op.inputs[1]) * factors[:, None, None, None])
        twin.set_constant(op, 2, twin.constant(op.inputs[2]) * factors)
    for op in readers:
        twin.set_constant(op, 1, twin.constant(op.inputs[1]) / factors)
    np.testing.assert_allclose(_outputs(twin, patches), _outputs(graph, patches), rtol=1e-4, atol=1e-4)
    for emphasis in (0.0, 0.5, 1.0):
        straight, again = (
            _kernels(equalize(each, scales(each, measure_extremes(each, patches), emphasis=emphasis)))
            for each in (graph, twin)
        )
        for name, kernel in straight.items():
            np.testing.assert_allclose(again[name], kernel, rtol=1e-4, atol=1e-6)


@pytest.mark.exhaustive
def test_two_ways_to_write_a_network_come_out_the_same(trained_nano, graph, images, equalized):
    model = load_model(trained_nano)
    twin = rescale_streams(model, seed=5)
    wanted, reached = (np.asarray(each(images[0], training=False)) for each in (model, twin))
    np.testing.assert_allclose(reached, wanted, rtol=1e-3, atol=1e-4)
    rescaled = convert(deploy_model(twin, image_size=32), image_size=32)
    again = equalize(rescaled, scales(rescaled, measure_extremes(rescaled, images)))
    straight, kernels = _kernels(equalized[0]), _kernels(again)
    assert len(kernels) > 20
    for name, kernel in straight.items():
        np.testing.assert_allclose(kernels[name], kernel, rtol=1e-2, atol=1e-3 * np.abs(kernel).max())
    plain, unequalized = _kernels(graph), _kernels(rescaled)
    assert any(np.abs(unequalized[name] - kernel).max() > 0.1 * np.abs(kernel).max() for name, kernel in plain.items())


def _kernels(graph: FlatGraph) -> dict[str, np.ndarray]:
    named = [op for op in graph.ops if op.name in ("CONV_2D", "DEPTHWISE_CONV_2D")]
    return {graph.name(op.outputs[0]).split("/", 1)[-1]: graph.constant(op.inputs[1]) for op in named}


def test_switches_leave_their_part_alone(graph, extremes):
    assert all((scale == 1).all() for scale in scales(graph, extremes, streams=False, relu=False).values())
    relu = next(i for i in extremes if "last_conv" in graph.name(i))
    stream = next(i for i in extremes if "stage2_block2_output" in graph.name(i))
    for switches, changed, kept in (({"relu": False}, stream, relu), ({"streams": False}, relu, stream)):
        scale = scales(graph, extremes, **switches)
        assert (scale[changed] != 1).any() and (scale[kept] == 1).all()


def test_inputs_outputs_and_curves_keep_their_scale(graph, extremes):
    scale = scales(graph, extremes)
    fixed = {*graph.inputs, *graph.outputs}
    fixed.update(i for op in graph.ops if op.name == "LOGISTIC" for i in (*op.inputs, *op.outputs))
    assert len(fixed) > 10 and all((scale[i] == 1).all() for i in fixed)


def test_scales_by_hand(tiny, patches):
    """The four ReLU channels of conv_relu_conv have 1, 4, 16 and 64 times the weights; the output is fixed."""
    graph = tiny("conv_relu_conv")
    extremes = measure_extremes(graph, patches)
    (kernel, bias), hidden = (graph.constant(i) for i in graph.ops[0].inputs[1:]), graph.ops[0].outputs[0]
    values = [np.maximum(image[0] @ kernel[:, 0, 0].T + bias, 0) for image in patches]
    norm = np.mean([(value**4).mean(axis=(0, 1)) for value in values], axis=0) ** 0.25
    scale = scales(graph, extremes)
    np.testing.assert_allclose(scale[hidden], norm, rtol=1e-5)
    assert (scale[graph.inputs[0]] == 1).all() and (scale[graph.outputs[0]] == 1).all()
    twin = equalize(graph, scale)
    np.testing.assert_allclose(twin.constant(twin.ops[0].inputs[1]), kernel / norm[:, None, None, None], rtol=1e-5)
    np.testing.assert_allclose(twin.constant(twin.ops[0].inputs[2]), bias / norm, rtol=1e-5)
    last = graph.constant(graph.ops[1].inputs[1])
    np.testing.assert_allclose(twin.constant(twin.ops[1].inputs[1]), last * norm, rtol=1e-5)


@pytest.mark.parametrize("emphasis", [0.5, 0.7, 1.0])
def test_the_norms_that_an_emphasis_leaves_by_hand(emphasis, tiny, patches):
    """A channel's importance is how far it moves the output, in root mean square over the outputs' norms."""
    graph = tiny("conv_relu_conv")
    extremes = measure_extremes(graph, patches)
    hidden, kernel = graph.ops[0].outputs[0], graph.constant(graph.ops[1].inputs[1])  # (outputs, 1, 1, hidden)
    norm, written = extremes[hidden].norm, extremes[graph.outputs[0]].norm
    importance = [
        np.sqrt(
            np.mean(
                [(row[0, 0, channel] * norm[channel] / power) ** 2 for row, power in zip(kernel, written, strict=True)]
            )
        )
        for channel in range(len(norm))
    ]
    left = norm / scales(graph, extremes, emphasis=emphasis)[hidden]
    np.testing.assert_allclose(left, np.array(importance) ** emphasis, rtol=1e-5)


def test_every_reader_of_a_stream_makes_it_more_important(tiny, patches):
    graph = tiny("residual")
    extremes = measure_extremes(graph, patches)
    readers = [op for op in graph.ops if op.name == "CONV_2D" and graph.shape(op.inputs[0])[-1] == 4]
    stream = readers[0].inputs[0]
    squares = [
        np.mean(np.square(graph.constant(op.inputs[1])[:, 0, 0] / extremes[op.outputs[0]].norm[:, None]), axis=0)
        for op in readers
    ]
    equal, emphasized = (scales(graph, extremes, emphasis=emphasis)[stream] for emphasis in (0.0, 1.0))
    np.testing.assert_allclose(equal / emphasized, equal * np.sqrt(np.sum(squares, axis=0)), rtol=1e-5)


def test_a_channel_that_nobody_reads_keeps_finite_weights(tiny, patches):
    graph = tiny("conv_relu_conv")
    kernel = graph.constant(graph.ops[1].inputs[1]).copy()
    kernel[..., 1] = 0
    graph.set_constant(graph.ops[1], 1, kernel)
    extremes, hidden = measure_extremes(graph, patches), graph.ops[0].outputs[0]
    scale = scales(graph, extremes, emphasis=0.7)
    twin, left = equalize(graph, scale), extremes[hidden].norm / scale[hidden]
    assert all(np.isfinite(kernel).all() for kernel in _kernels(twin).values())
    np.testing.assert_allclose(_outputs(twin, patches), _outputs(graph, patches), rtol=1e-4, atol=1e-5)
    assert left[1] < left[[0, 2, 3]].min()


def test_a_stream_shares_one_scale_and_the_largest_norm_decides(tiny, patches):
    graph = tiny("residual")
    extremes = measure_extremes(graph, patches)
    scale = scales(graph, extremes)
    stream = [op.outputs[0] for op in graph.ops if "stem" in graph.name(op.outputs[0]) or op.name == "ADD"]
    stream += [op.outputs[0] for op in graph.ops if "project" in graph.name(op.outputs[0])]
    assert len(stream) == 5
    largest = np.max([extremes[i].norm for i in stream], axis=0)
    for i in stream:
        np.testing.assert_allclose(scale[i], largest, rtol=1e-6)


@pytest.mark.parametrize("activation", ["relu6", "leaky_relu", *slow("gelu", "hard_swish", "prelu", "relu")])
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
    assert_equal(convert(model, image_size=32), images)


@pytest.mark.parametrize(
    "piece",
    [
        lambda x: x[..., 2:6],
        lambda x: x[..., ::-1],
        lambda x: x[..., 3],
        lambda x: keras.ops.slice(x, (0, 1, 0, 2), (1, 5, 6, 3)),
        *slow(
            lambda x: x[..., -4:],
            lambda x: x[..., -20:4],
            lambda x: x[..., -6:-2],
            lambda x: x[..., :5],
            lambda x: x[..., 1::2],
            lambda x: x[..., -1],
            lambda x: x[:, 1],
            lambda x: x[:, -3:, 2:],
        ),
    ],
)
def test_slices_tie_the_channels_they_take(piece):
    keras.utils.set_random_seed(1)
    images = list(np.random.default_rng(0).standard_normal((4, 1, 8, 8, 3)).astype(np.float32))
    image = keras.Input((8, 8, 3), name="image")
    x = piece(keras.layers.Conv2D(8, 3, name="a")(image))
    x = keras.layers.Conv2D(4, 1, name="b")(x) if len(x.shape) == 4 else keras.layers.Flatten(name="flat")(x)
    graph = convert(keras.Model(image, keras.layers.Dense(4, name="c")(x), name="net"), image_size=8)
    assert any("SLICE" in op.name for op in graph.ops)
    assert_equal(graph, images)


def test_a_dead_channel_stays_finite(images):
    image = keras.Input((32, 32, 3), name="image")
    conv = keras.layers.Conv2D(4, 3, activation="relu", name="a")
    last = keras.layers.Conv2D(2, 1, name="b")
    net = keras.Model(image, keras.layers.GlobalAveragePooling2D(name="pool")(last(conv(image))), name="net")
    kernel, bias = conv.get_weights()
    bias[1] = -1000
    conv.set_weights([kernel, bias])
    assert_equal(convert(net, image_size=32), images)
