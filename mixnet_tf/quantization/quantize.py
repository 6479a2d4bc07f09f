"""A float graph and real images → int8 that keeps the accuracy. Nothing here writes a file.

Equalized channels → ranges over real images → int8 → corrected biases → input and output types.
"""

import itertools

import numpy as np

from mixnet_tf.errors import DeployError
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.quantization.backends import choose_backend
from mixnet_tf.quantization.emphasis import best_emphasis
from mixnet_tf.quantization.fallback import float_blocks_for
from mixnet_tf.quantization.io_types import set_types
from mixnet_tf.quantization.recipe import Recipe
from mixnet_tf.quantization.steps import CORRECTION_IMAGES, calibrate, int8_graph
from mixnet_tf.quantization.types import Images, Int8Result


def quantize(graph: FlatGraph, recipe: Recipe, images: Images, judges: Images = ()) -> Int8Result:
    """Quantize a float graph.

    Args:
        graph: float32, with one image input of batch 1; not changed.
        recipe: with int8 activations.
        images: to calibrate with.
        judges: other images, which say whether a recipe's ``min_agreement`` is reached.

    Raises:
        DeployError: activations that are not finite, an agreement that is not reached, or a graph that the quantizer
            refuses.

    Example:
        >>> result = quantize(graph, load_recipe("int8"), images)                                # doctest: +SKIP
        >>> Path("model_int8.tflite").write_bytes(result.graph.content())                        # doctest: +SKIP
    """
    if recipe.min_agreement is not None and not len(judges):
        raise DeployError("min_agreement: no images to judge by; expected at least one that does not calibrate")
    backend = backend_of(recipe)
    emphasis = best_emphasis(graph, recipe, backend, images) if recipe.equalizes else 0.0
    calibrated = calibrate(graph, recipe, images, emphasis)
    few: list[np.ndarray] = list(itertools.islice(images, CORRECTION_IMAGES))
    throughout = made = int8_graph(calibrated, recipe, backend, few)
    fallback = None
    if recipe.min_agreement is not None:
        fallback, made = float_blocks_for(recipe, calibrated, backend, few, judges, throughout)
    for finished in [made] if made is throughout else [made, throughout]:
        set_types(finished, recipe.input, recipe.output)
    return Int8Result(graph=made, throughout=throughout, calibrated=calibrated, backend=backend, fallback=fallback)


def backend_of(recipe: Recipe) -> str:
    """Return the quantizer that makes a recipe's int8.

    Raises:
        DeployError: the one that the recipe asks for is not installed.
    """
    leaves_float = recipe.min_agreement is not None or not recipe.quantized
    return choose_backend("litert-quantizer" if leaves_float else recipe.backend)  # tf.lite cannot
