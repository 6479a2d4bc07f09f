"""Which emphasis equalizes a network best: measured, because it differs from network to network.

On images that do not calibrate, the int8 graph of every emphasis is compared with the float graph.
"""

import itertools
import statistics

from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.metrics import output_errors
from mixnet_tf.progress.steps import counted
from mixnet_tf.quantization.backends import to_int8
from mixnet_tf.quantization.fallback import EXACT_DB
from mixnet_tf.quantization.recipe import Recipe
from mixnet_tf.quantization.steps import calibrate_each
from mixnet_tf.quantization.types import Calibrated, Images

EMPHASES = (0.0, 0.5, 0.7)
"""What is tried; each is the same whatever scales the network came with."""

_IMAGES = 96  # half of them calibrate


def best_emphasis(graph: FlatGraph, recipe: Recipe, backend: str, images: Images) -> float:
    """Return the emphasis whose int8 graph is nearest to the float graph, by the median image.

    Args:
        graph: float; not changed.
        recipe: with equalization.
        backend: which quantizer.
        images: to calibrate with; some calibrate here, and others judge.

    Raises:
        DeployError: see ``calibrate``.
    """
    few = list(itertools.islice(images, _IMAGES))
    calibrating, judging = few[::2], few[1::2]
    if not judging:
        return EMPHASES[0]
    exact = LiteModel(graph.content(), num_threads=2)
    wanted = [exact.run(image) for image in judging]

    def snr_db(calibrated: Calibrated) -> float:
        made = to_int8(calibrated.equalized, calibrated.ranges, backend)  # corrected biases would take twice as long
        model = LiteModel(made.content(), num_threads=2)
        names = [graph.name(index) for index in graph.outputs]
        errors = output_errors(names, zip(wanted, map(model.run, judging), strict=True))
        return statistics.mean(EXACT_DB if error.snr_median_db is None else error.snr_median_db for error in errors)

    forms = calibrate_each(graph, recipe, calibrating, EMPHASES)
    reached = [snr_db(form) for form in counted(forms, "choose the equalization", len(forms), "form")]
    return EMPHASES[reached.index(max(reached))]
