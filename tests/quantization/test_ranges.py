"""Ranges of tensors and histograms of them."""

import keras
import numpy as np
import pytest

from mixnet_tf.errors import DeployError
from mixnet_tf.litert.convert import convert
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.quantization import ranges
from mixnet_tf.quantization.equalize import equalize, scales
from mixnet_tf.quantization.ranges import Histogram, constant_tensors, measure_extremes, measure_ranges, swish


@pytest.fixture(scope="module")
def graph() -> FlatGraph:
    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(4, 3, kernel_initializer=keras.initializers.RandomNormal(seed=1), name="conv")(image)
    x = keras.layers.Activation("silu", name="swish")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(image, keras.layers.Dense(2, kernel_initializer="ones", name="dense")(x), name="net")
    return convert(model, image_size=8)


@pytest.fixture
def images() -> list[np.ndarray]:
    return list(np.random.default_rng(0).standard_normal((12, 1, 8, 8, 3)).astype(np.float32))


def test_extremes_of_the_input_are_numpys(graph, images):
    channels = measure_extremes(graph, images)[graph.inputs[0]]
    pixels = np.concatenate(images).reshape(-1, 3)
    np.testing.assert_array_equal(channels.low, pixels.min(axis=0))
    np.testing.assert_array_equal(channels.high, pixels.max(axis=0))
    np.testing.assert_allclose(channels.norm, (pixels**4).mean(axis=0) ** 0.25, rtol=1e-6)


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse", "error"])
def test_ranges_do_not_depend_on_the_order_of_images(graph, images, method):
    def measured(ordered):
        extremes = measure_extremes(graph, ordered)
        return {i: channels.norm.tolist() for i, channels in extremes.items()}, measure_ranges(
            graph, extremes, ordered, method
        )[0]

    assert measured(images) == measured(images[::-1])


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse", "error"])
def test_ranges_of_several_ways_are_those_of_each_way_for_itself(method, tiny, patches):
    """Found by running every equalized graph; the second way leaves most tensors as they are."""
    graph = tiny("residual")
    extremes = measure_extremes(graph, patches)
    ways = [scales(graph, extremes), scales(graph, extremes, streams=False), {}]
    found = measure_ranges(graph, extremes, patches, method, ways)
    for scale, reached in zip(ways, found, strict=True):
        made = equalize(graph, scale or scales(graph, extremes, streams=False, relu=False))
        expected = measure_ranges(made, measure_extremes(made, patches), patches, method)[0]
        assert reached.keys() == expected.keys()
        for i, limits in expected.items():
            np.testing.assert_allclose(reached[i], limits, rtol=2e-3, atol=1e-6)
    streams = [i for i, scale in ways[0].items() if (scale != 1).any()]
    assert any(np.abs(np.subtract(found[0][i], found[2][i])).max() > 0.1 for i in streams)  # it matters


def test_values_that_overflow_are_refused(graph, images):
    with pytest.raises(DeployError, match=r"tensor 'serving.*' reaches 1\.0e\+35 on calibration image 2$"):
        measure_extremes(graph, [images[0], np.full_like(images[1], 1e35)])


def test_a_shape_that_is_not_the_files_is_refused(fixtures):
    """LiteRT computes the shapes itself, and never looks at what the file says."""
    graph = FlatGraph((fixtures / "tiny" / "conv_relu_conv.tflite").read_bytes(), "x.tflite")
    graph.tensors[graph.outputs[0]].shape = np.array([1, 4, 4, 7], np.int32)
    graph._changed()
    message = r"x\.tflite: tensor '.*' has shape \(1, 4, 4, 2\) when it runs, but \(1, 4, 4, 7\) in the file"
    with pytest.raises(DeployError, match=message):
        measure_extremes(graph, [np.zeros((1, 4, 4, 3), np.float32)])


def test_one_extreme_image_does_not_decide(graph, images):
    images = [images[3] * 400, *images * 20]
    extremes = measure_extremes(graph, images)
    widths = {}
    for method in ("minmax", "error"):
        low, high = measure_ranges(graph, extremes, images, method)[0][graph.inputs[0]]
        widths[method] = high - low
    assert widths["error"] < widths["minmax"] / 3


def test_the_error_range_is_the_best_of_its_candidates_when_counted_out():
    """Quantize every value really, for many clips of one side, and compare with what the histogram chose."""
    values = np.random.default_rng(0).laplace(size=200_000).astype(np.float32)
    histogram = Histogram(values.min(), values.max(), lambda x: x)
    histogram.add(values)

    def error(low, high):
        step = (high - low) / 255
        return np.square(np.clip(np.round((values - low) / step), 0, 255) * step + low - values).mean()

    low, high = histogram.mse()
    chosen = error(low, high)
    shares = 2.0 ** (-np.arange(25) / 4)
    best = min(error(values.min() * share, values.max() * share) for share in shares)
    assert chosen <= best * 1.05
    assert chosen < error(values.min(), values.max()) / 1.2


def test_whatswish_makes_flat_is_clipped():
    values = np.random.default_rng(0).normal(-5, 8, 100_000).astype(np.float32)
    lows = {}
    for name, curve in (("swish", swish), ("itself", lambda x: x)):
        histogram = Histogram(values.min(), values.max(), curve)
        histogram.add(values)
        lows[name] = histogram.error()[0]
    assert lows["swish"] > lows["itself"] / 2 and lows["swish"] < -3


def test_percentile_leaves_out_its_share():
    values = np.random.default_rng(0).standard_normal(1_000_000).astype(np.float32)
    histogram = Histogram(values.min(), values.max(), lambda x: x)
    histogram.add(values)
    low, high = histogram.percentile()
    np.testing.assert_allclose(
        [low, high], np.percentile(values, [ranges.PERCENTILE, 100 - ranges.PERCENTILE]), atol=0.02
    )


def test_ranges_contain_zero():
    values = np.linspace(2, 3, 1000, dtype=np.float32)
    for method in ("percentile", "mse", "error"):
        histogram = Histogram(values.min(), values.max(), lambda x: x)
        histogram.add(values)
        low, high = getattr(histogram, method)()
        assert low <= 0 <= high


def test_no_images_nan_and_constants_are_named(graph, images):
    with pytest.raises(DeployError, match="no calibration images"):
        measure_extremes(graph, [])
    images[1][0, 0, 0, 0] = np.nan
    with pytest.raises(DeployError, match=r"tensor .* is not finite on calibration image 2"):
        measure_extremes(graph, images)
    blank = measure_extremes(graph, [np.zeros((1, 8, 8, 3), np.float32)])
    assert graph.name(graph.inputs[0]) in constant_tensors(graph, blank)
