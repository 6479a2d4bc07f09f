"""Which blocks lose most in int8, and those that must stay in float32 for an agreement to be reached."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from mixnet_tf.errors import DeployError
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.metrics import signal_to_noise
from mixnet_tf.progress.steps import counted, step
from mixnet_tf.quantization.backends import to_int8
from mixnet_tf.quantization.float_ops import parts
from mixnet_tf.quantization.recipe import Recipe
from mixnet_tf.quantization.steps import int8_graph
from mixnet_tf.quantization.types import Calibrated, Fallback, Images

EXACT_DB = 200.0
"""The signal-to-noise ratio of what shows no difference at all."""


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """A block, and the logit SNR in dB when it alone stays in float32; `gain_db` is that over int8 throughout."""

    block: str
    snr_db: float
    gain_db: float


def rank_blocks(calibrated: Calibrated, backend: str, images: Images) -> list[Sensitivity]:
    """Return every block by the SNR regained when it stays in float32, largest first.

    Several outputs count alike, whatever their power and size.

    Args:
        calibrated: the float graph.
        backend: a quantizer that can leave operators in float32.
        images: to measure on.
    """
    exact = _outputs(calibrated.reference, images)
    norms = [float(np.linalg.norm(output)) or 1.0 for output in exact]
    wanted = _joined(exact, norms)

    def snr_without(*blocks: str) -> float:
        graph = to_int8(calibrated.equalized, calibrated.ranges, backend, blocks)
        snr = signal_to_noise(wanted, _joined(_outputs(graph, images), norms))
        return EXACT_DB if snr is None else snr

    base = snr_without()
    names = parts(calibrated.equalized)
    shown = counted(names, "leave a block in float32", len(names), "block")
    ranked = [Sensitivity(block, snr := snr_without(block), snr - base) for block in shown]
    return sorted(ranked, key=lambda row: -row.gain_db)


def float_blocks_for(
    recipe: Recipe, calibrated: Calibrated, backend: str, images: Images, judges: Images, throughout: FlatGraph
) -> tuple[Fallback, FlatGraph]:
    """Return the blocks, taken by their gain, that reach the recipe's agreement with the float graph, and that graph.

    Args:
        recipe: with ``min_agreement``, the least share of images with the same top-1 class.
        calibrated: the float graph.
        backend: a quantizer that can leave operators in float32.
        images: for the bias correction.
        judges: to measure on.
        throughout: the graph with no block in float32.

    Raises:
        DeployError: all blocks together do not reach it, or there is nothing to choose from or to compare.
    """
    graph, least = calibrated.equalized, recipe.min_agreement or 0.0
    names = parts(graph)
    if not names:
        raise DeployError("min_agreement: the model has no stages and blocks; expected one made by this package")
    if [len(graph.shape(i)) for i in graph.outputs] != [2]:
        raise DeployError("min_agreement: expected a classifier, with one output (1, classes)")
    wanted = _outputs(calibrated.reference, judges)[0].argmax(axis=1)
    ranked: list[Sensitivity] = []
    for count in range(len(names) + 1):
        if count == 1:
            ranked = rank_blocks(calibrated, backend, judges)
        blocks = tuple(row.block for row in ranked[:count])
        made = int8_graph(calibrated, recipe, backend, images, blocks) if blocks else throughout
        agreement = float((_outputs(made, judges)[0].argmax(axis=1) == wanted).mean())
        if agreement >= least:
            return Fallback(blocks=blocks, images=len(judges), agreement=agreement), made
    raise DeployError(
        f"min_agreement {least}: with every block in float32 {agreement:.4f} of {len(judges)} images "
        "agree; expected a smaller number"
    )


@step("compare with the float graph")
def _outputs(graph: FlatGraph, images: Images) -> list[np.ndarray]:
    model = LiteModel(graph.content(), num_threads=2)
    return [np.concatenate(arrays) for arrays in zip(*(model.run(image) for image in images), strict=True)]


def _joined(outputs: Sequence[np.ndarray], norms: Sequence[float]) -> np.ndarray:
    return np.concatenate(
        [np.ravel(output).astype(np.float64) / norm for output, norm in zip(outputs, norms, strict=True)]
    )
