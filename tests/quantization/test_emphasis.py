"""Which emphasis is chosen: the one that is best on images that do not calibrate, found here another way."""

import numpy as np
import pytest

from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.quantization.backends import to_int8
from mixnet_tf.quantization.emphasis import EMPHASES, best_emphasis
from mixnet_tf.quantization.io_types import set_types
from mixnet_tf.quantization.quantize import quantize
from mixnet_tf.quantization.recipe import load_recipe
from mixnet_tf.quantization.steps import calibrate, int8_graph

RECIPE, BACKEND = load_recipe("int8_float_io"), "litert-quantizer"


@pytest.fixture(scope="module")
def graph(nano_float32) -> FlatGraph:
    return FlatGraph.read(nano_float32)


@pytest.fixture(scope="module")
def images(digits) -> list[np.ndarray]:
    return [image[None] for image in digits.splits["train"].images[:40]]


@pytest.mark.slow
def test_it_is_the_best_on_images_that_do_not_calibrate(graph, images):
    exact = LiteModel(graph)
    medians = {}
    for emphasis in EMPHASES:
        calibrated = calibrate(graph, RECIPE, images[::2], emphasis)
        made = LiteModel(to_int8(calibrated.equalized, calibrated.ranges, BACKEND))
        ratios = []
        for image in images[1::2]:
            wanted, reached = exact.run(image)[0], made.run(image)[0]
            ratios.append(np.sum(wanted**2) / np.sum((wanted - reached) ** 2))
        medians[emphasis] = sorted(ratios)[(len(ratios) - 1) // 2]
    assert len(set(medians.values())) == len(EMPHASES)
    assert best_emphasis(graph, RECIPE, BACKEND, images) == max(medians, key=medians.__getitem__)


@pytest.mark.slow
def test_quantize_takes_it_and_says_so(graph, images):
    chosen = best_emphasis(graph, RECIPE, BACKEND, images)
    result = quantize(graph, RECIPE, images)
    assert result.calibrated.emphasis == chosen
    expected = int8_graph(calibrate(graph, RECIPE, images, chosen), RECIPE, BACKEND, images)
    set_types(expected, RECIPE.input, RECIPE.output)
    assert result.graph.content() == expected.content()


@pytest.mark.slow
def test_without_equalization_there_is_none(graph, images):
    plain = load_recipe(
        {"name": "p", "weights": "int8", "activations": "int8", "equalize": {"streams": False, "relu": False}}
    )
    assert quantize(graph, plain, images[:4]).calibrated.emphasis is None


def test_one_image_decides_nothing(graph, images):
    assert best_emphasis(graph, RECIPE, BACKEND, images[:1]) == EMPHASES[0]
