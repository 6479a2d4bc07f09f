"""The two halves of the way to int8: a float graph is calibrated, then quantized and corrected."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from mixnet_tf.data.input_format import limits
from mixnet_tf.errors import DeployError
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.progress.steps import counted, step
from mixnet_tf.quantization.backends import to_int8
from mixnet_tf.quantization.bias_correction import correct_biases
from mixnet_tf.quantization.equalize import equalize, scales
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
    """Equalize a float graph and find the ranges of its tensors; arguments as in ``calibrate_each``."""
    return calibrate_each(graph, recipe, images, (emphasis,))[0]


def calibrate_each(
    graph: FlatGraph, recipe: Recipe, images: Images, emphases: Sequence[float] = (0.0,)
) -> list[Calibrated]:
    """Equalize a float graph and find the ranges of its tensors, for each emphasis; images are run once for all.

    Args:
        graph: not changed.
        recipe: how.
        images: to calibrate with.
        emphases: of the equalization, see ``scales``.

    Raises:
        DeployError: no images, a tensor that is not finite, or an equalization that changes the output.
    """
    extremes = measure_extremes(graph, _counted(images, "find the extremes"))
    notes = [f"tensor {name!r} never changes on the calibration images" for name in constant_tensors(graph, extremes)]
    divisors: list[Mapping[int, np.ndarray]] = [{} for _ in emphases]
    if recipe.equalizes:
        switches = dataclasses.asdict(recipe.equalize)
        divisors = [scales(graph, extremes, **switches, emphasis=emphasis) for emphasis in emphases]
    ranges = measure_ranges(graph, extremes, _counted(images, "choose the ranges"), recipe.ranges, divisors)
    if graph.input_format in WHOLE_STEPS:  # then every pixel is an int8 value
        black, white = limits(graph.input_format)
        for form in ranges:
            form[graph.inputs[0]] = float(black.min()), float(white.max())
    plain = Calibrated(
        reference=graph, equalized=graph, ranges={}, emphasis=None, equalization_error=None, notes=tuple(notes)
    )
    forms = [dataclasses.replace(plain, ranges=form) for form in ranges]
    if not recipe.equalizes:
        return forms
    few = list(itertools.islice(images, _CHECK_IMAGES))
    return [
        _equalized(dataclasses.replace(form, emphasis=emphasis), divisor, few)
        for form, emphasis, divisor in zip(forms, emphases, divisors, strict=True)
    ]


def _equalized(form: Calibrated, divisor: Mapping[int, np.ndarray], images: Iterable[np.ndarray]) -> Calibrated:
    with step("equalize the channels"):
        graph = equalize(form.reference, divisor)
    error = _largest_change(form.reference, graph, images)
    return dataclasses.replace(form, equalized=graph, equalization_error=error)


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
