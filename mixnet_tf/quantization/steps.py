"""The two halves of the way to int8: a float graph is calibrated, then quantized and corrected."""

import itertools
from collections.abc import Iterable

import numpy as np

from mixnet_tf.data.input_format import limits
from mixnet_tf.errors import DeployError
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.progress.steps import counted, step
from mixnet_tf.quantization.backends import to_int8
from mixnet_tf.quantization.bias_correction import correct_biases
from mixnet_tf.quantization.equalize import equalize
from mixnet_tf.quantization.ranges import constant_tensors, measure_extremes, measure_ranges
from mixnet_tf.quantization.recipe import Recipe
from mixnet_tf.quantization.types import Calibrated, Images

WHOLE_STEPS = ("pixels", "fractions", "signed")
"""Formats in which all channels have the same black and white."""

CORRECTION_IMAGES = 64
"""Images of the bias correction: three times as many gained 0.0 to 0.1 dB."""

_TOLERANCE = 1e-3  # of the largest output: float32 rounding of another order of magnitudes is about 1e-5
_CHECK_IMAGES = 4


def calibrate(graph: FlatGraph, recipe: Recipe, images: Images, emphasis: float = 0.0) -> Calibrated:
    """Equalize a float graph and find the ranges of its tensors.

    Args:
        graph: not changed.
        recipe: how.
        images: to calibrate with.
        emphasis: of the equalization, see ``equalize``.

    Raises:
        DeployError: no images, a tensor that is not finite, or an equalization that changes the output.
    """
    extremes = measure_extremes(graph, _counted(images, "find the extremes"))
    notes = [f"tensor {name!r} never changes on the calibration images" for name in constant_tensors(graph, extremes)]
    equalized, error = graph, None
    if recipe.equalizes:
        switches = {"streams": recipe.equalize.streams, "relu": recipe.equalize.relu}
        with step("equalize the channels"):
            equalized, extremes = equalize(graph, extremes, **switches, emphasis=emphasis)
        error = _largest_change(graph, equalized, itertools.islice(images, _CHECK_IMAGES))
    ranges = measure_ranges(equalized, extremes, _counted(images, "choose the ranges"), recipe.ranges)
    if graph.input_format in WHOLE_STEPS:  # then every pixel is an int8 value
        black, white = limits(graph.input_format)
        ranges[equalized.inputs[0]] = float(black.min()), float(white.max())
    return Calibrated(
        reference=graph,
        equalized=equalized,
        ranges=ranges,
        emphasis=emphasis if recipe.equalizes else None,
        equalization_error=error,
        notes=tuple(notes),
    )


def _counted(images: Images, name: str) -> Iterable[np.ndarray]:
    return counted(images, name, len(images), "image")


@step("check the equalized graph")
def _largest_change(before: FlatGraph, after: FlatGraph, images: Iterable[np.ndarray]) -> float:
    models = [LiteModel(graph.content(), num_threads=2) for graph in (before, after)]
    worst = 0.0
    for image in images:
        for wanted, output in zip(*(model.run(image) for model in models), strict=True):
            worst = max(worst, float(np.abs(output - wanted).max() / max(np.abs(wanted).max(), 1e-30)))
    if not worst <= _TOLERANCE:
        raise DeployError(f"equalization changes the output by {worst:.2g} of the largest, expected below {_TOLERANCE}")
    return worst


def int8_graph(
    calibrated: Calibrated, recipe: Recipe, backend: str, images: Images, blocks: tuple[str, ...] = ()
) -> FlatGraph:
    """Return the graph with int8 arithmetic, corrected biases, and int8 input and output.

    Args:
        calibrated: the float graph.
        recipe: how.
        backend: which quantizer.
        images: for the bias correction.
        blocks: stay in float32.
    """
    graph = to_int8(calibrated.equalized, calibrated.ranges, backend, blocks)
    if recipe.bias_correction:
        correct_biases(graph, calibrated.equalized, images)
    return graph
